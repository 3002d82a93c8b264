/* The kernels of every instruction set that this compiler can target, and the choice among them at run time.
 *
 * No build flag is needed and the build host is never looked at: each instruction set is compiled in a region of its
 * own (GCC: `#pragma GCC target`, Clang: an attribute on every function), and runs only where cpu.h finds it.
 * Include this file in one translation unit; it instantiates all kernels.
 *
 * A new instruction set is a family in simd.h or a product in kernels/products.h, a function in cpu.h, a region here
 * and a row in EF_ISA_LIST.
 */
#ifndef EDGEFORMER_DISPATCH_H
#define EDGEFORMER_DISPATCH_H

#include "cpu.h"
#include "kernels.h"
#include "simd.h"
#include "kernels/products.h"

#define EF_ISA scalar
#define EF_SIMD EF_SIMD_SCALAR
#define EF_PRODUCT EF_PRODUCT_SCALAR
#include "isa.h"

#define EF_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define EF_REGION_BEGIN(features) \
    EF_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define EF_REGION_END EF_PRAGMA(clang attribute pop)
#else
#define EF_REGION_BEGIN(features) EF_PRAGMA(GCC push_options) EF_PRAGMA(GCC target(features))
#define EF_REGION_END EF_PRAGMA(GCC pop_options)
#endif

#if defined(__x86_64__)

EF_REGION_BEGIN("avx2,fma,f16c")
#define EF_ISA avx2
#define EF_SIMD EF_SIMD_AVX2
#define EF_PRODUCT EF_PRODUCT_MADDUBS
#include "isa.h"
EF_REGION_END

EF_REGION_BEGIN("avx2,fma,f16c,avxvnni")
#define EF_ISA avxvnni
#define EF_SIMD EF_SIMD_AVX2
#define EF_PRODUCT EF_PRODUCT_DPBUSD
#include "isa.h"
EF_REGION_END

EF_REGION_BEGIN("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#define EF_ISA avx512vnni
#define EF_SIMD EF_SIMD_AVX512
#define EF_PRODUCT EF_PRODUCT_DPBUSD
#include "isa.h"
EF_REGION_END

/* Best first. */
#define EF_ISA_LIST(row) row(avx512vnni) row(avxvnni) row(avx2) row(scalar)

#elif defined(__aarch64__)

#define EF_ISA neon
#define EF_SIMD EF_SIMD_NEON
#define EF_PRODUCT EF_PRODUCT_SMULL
#include "isa.h"

/* Clang before 16 declares the intrinsics only where the whole translation unit has the feature. */
#if defined(__clang__) && __clang_major__ < 16 && !defined(__ARM_FEATURE_DOTPROD)
#define EF_ISA_LIST(row) row(neon) row(scalar)
#else
#if defined(__clang__)
EF_REGION_BEGIN("dotprod")
#else
EF_REGION_BEGIN("arch=armv8.2-a+dotprod")
#endif
#define EF_ISA dotprod
#define EF_SIMD EF_SIMD_NEON
#define EF_PRODUCT EF_PRODUCT_SDOT
#include "isa.h"
EF_REGION_END

#if defined(__clang__)
EF_REGION_BEGIN("dotprod,i8mm")
#else
EF_REGION_BEGIN("arch=armv8.2-a+dotprod+i8mm")
#endif
#define EF_ISA i8mm
#define EF_SIMD EF_SIMD_NEON
#define EF_PRODUCT EF_PRODUCT_SMMLA
#include "isa.h"
EF_REGION_END
#define EF_ISA_LIST(row) row(i8mm) row(dotprod) row(neon) row(scalar)
#endif

#else
#define EF_ISA_LIST(row) row(scalar)
#endif

#undef EF_REGION_BEGIN
#undef EF_REGION_END
#undef EF_PRAGMA

typedef struct { const ef_kernels *kernels; int (*supported)(void); } ef_isa;

#define EF_ISA_ROW(isa) {&ef_kernels_##isa, ef_cpu_has_##isa},
static const ef_isa ef_isa_table[] = {EF_ISA_LIST(EF_ISA_ROW)};
#undef EF_ISA_ROW

/* Instruction sets compiled in, best first: 0 <= index < ef_isa_count(). */
static inline int ef_isa_count(void) { return (int)(sizeof ef_isa_table / sizeof ef_isa_table[0]); }
static inline const char *ef_isa_name(int index) { return ef_isa_table[index].kernels->name; }
/* Whether this CPU runs it. */
static inline int ef_isa_supported(int index) { return ef_isa_table[index].supported() != 0; }

/* The kernels of an instruction set; NULL if it is unknown, not compiled in, or beyond this CPU. */
static inline const ef_kernels *ef_kernels_for(const char *isa_name)
{
    for (int i = 0; i < ef_isa_count(); i++)
        if (strcmp(ef_isa_name(i), isa_name) == 0)
            return ef_isa_supported(i) ? ef_isa_table[i].kernels : NULL;
    return NULL;
}

/* The best kernels that this CPU runs; never NULL, the scalar ones run everywhere. */
static inline const ef_kernels *ef_best_kernels(void)
{
    for (int i = 0; i < ef_isa_count(); i++)
        if (ef_isa_supported(i))
            return ef_isa_table[i].kernels;
    return &ef_kernels_scalar;
}

#endif
