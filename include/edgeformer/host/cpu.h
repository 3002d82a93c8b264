/* What the CPU under this process can run. Asks the CPU (CPUID, XGETBV) or the kernel's auxiliary vector, never
 * /proc/cpuinfo, which under emulation or in a container describes another machine.
 *
 * One function per instruction set of dispatch.h: ef_cpu_has_<name>() returns 1 or 0. None of them fails.
 */
#ifndef EDGEFORMER_CPU_H
#define EDGEFORMER_CPU_H

#include <stdint.h>

static inline int ef_cpu_has_scalar(void) { return 1; }

#if defined(__x86_64__)
#include <cpuid.h>

/* Registers of one CPUID leaf; all zero where the CPU has no such leaf. */
typedef struct { unsigned eax, ebx, ecx, edx; } ef_cpuid_leaf;

static inline ef_cpuid_leaf ef_cpuid(unsigned leaf, unsigned subleaf)
{
    ef_cpuid_leaf r = {0, 0, 0, 0};
    if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx))
        r = (ef_cpuid_leaf){0, 0, 0, 0};
    return r;
}

/* The register state that the operating system saves: XCR0, or 0 where it saves none. */
static inline uint64_t ef_cpu_saved_state(void)
{
    const unsigned osxsave = 1u << 27;
    if (!(ef_cpuid(1, 0).ecx & osxsave))
        return 0;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static inline int ef_cpu_has_avx2(void)
{
    const unsigned fma = 1u << 12, avx = 1u << 28, f16c = 1u << 29, leaf1 = fma | avx | f16c;
    const unsigned avx2 = 1u << 5;
    const uint64_t ymm_state = 0x6;
    return (ef_cpuid(1, 0).ecx & leaf1) == leaf1 && (ef_cpuid(7, 0).ebx & avx2) &&
           (ef_cpu_saved_state() & ymm_state) == ymm_state;
}

static inline int ef_cpu_has_avxvnni(void)
{
    const unsigned avx_vnni = 1u << 4;
    return ef_cpu_has_avx2() && ef_cpuid(7, 0).eax >= 1 && (ef_cpuid(7, 1).eax & avx_vnni);
}

static inline int ef_cpu_has_avx512vnni(void)
{
    const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, leaf7 = f | dq | bw | vl;
    const unsigned vnni = 1u << 11;
    const uint64_t zmm_state = 0xe6;
    const ef_cpuid_leaf features = ef_cpuid(7, 0);
    return ef_cpu_has_avx2() && (features.ebx & leaf7) == leaf7 && (features.ecx & vnni) &&
           (ef_cpu_saved_state() & zmm_state) == zmm_state;
}

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

/* NEON is part of the architecture. */
static inline int ef_cpu_has_neon(void) { return 1; }

static inline int ef_cpu_has_dotprod(void)
{
#if defined(__linux__)
    const unsigned long asimddp = 1ul << 20;
    return (getauxval(AT_HWCAP) & asimddp) != 0;
#elif defined(__ARM_FEATURE_DOTPROD)
    return 1;
#else
    return 0;
#endif
}

static inline int ef_cpu_has_i8mm(void)
{
#if defined(__linux__)
    const unsigned long i8mm = 1ul << 13; /* HWCAP2_I8MM */
    return ef_cpu_has_dotprod() && (getauxval(AT_HWCAP2) & i8mm) != 0;
#elif defined(__ARM_FEATURE_MATMUL_INT8)
    return 1;
#else
    return 0;
#endif
}
#endif

#endif
