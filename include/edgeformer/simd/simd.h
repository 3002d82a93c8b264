/* Sixteen-lane vectors, the only SIMD vocabulary that kernels use. isa.h includes this file once per instruction set
 * with EF_ISA (the name) and EF_SIMD (the family below) defined; every function is `static inline` and its symbol ends
 * in the name of the instruction set, so that all of them live in one translation unit.
 *
 * Types: ef_f32x16, ef_i32x16. p: any address, no alignment needed. n: a count of lanes.
 *
 *   ef_f32x16_load(p) store(p, v)            sixteen floats
 *   ef_f32x16_load_part(p, n)                lanes >= n are 0; no memory past p[n - 1] is touched; 1 <= n <= 16
 *   ef_f32x16_store_part(p, v, n)            writes lanes < n and nothing else; 1 <= n <= 16
 *   ef_f32x16_set1(x) zero()
 *   ef_f32x16_add sub mul div (a, b) sqrt(v) IEEE, nearest even
 *   ef_f32x16_fma(a, b, c) = a*b + c         rounded once
 *   ef_f32x16_fnma(a, b, c) = c - a*b        rounded once
 *   ef_f32x16_max(a, b) = a > b ? a : b      so a NaN in either gives b
 *   ef_f32x16_min(a, b) = a < b ? a : b
 *   ef_f32x16_abs neg (v)                    the sign bit alone
 *   ef_f32x16_round(v)                       to the nearest integer, ties to even; keeps the sign of zero
 *   ef_f32x16_select_lt(a, b, x, y)          a < b ? x : y, lane by lane
 *   ef_f32x16_select_part(v, n, fill)        lanes >= n become fill; 0 <= n <= 16
 *   ef_f32x16_from_i32(i)                    nearest even
 *   ef_f32x16_to_i32(v)                      nearest even; out of the range of int32 (or NaN): any value, no fault
 *   ef_f32x16_to_bits(v) from_bits(i)        the same bits as the other type
 *   ef_f32x16_load_f16(p) load_f16_part(p, n) store_f16(p, v) store_f16_part(p, v, n)
 *                                            p: IEEE halves as uint16_t; exact on loading, nearest even on storing;
 *                                            half denormals are kept whatever the mode for float denormals
 *   ef_f32x16_load_bf16(p)                   p: bfloat16 as uint16_t
 *   ef_f32x16_zip(a, b, &low, &high)         a[0] b[0] a[1] b[1] ... a[7] b[7], then those of lanes 8 .. 15
 *   ef_f32x16_reduce_add(v) reduce_max(v)    the fixed tree: lanes 8 apart, then 4, 2, 1
 *   ef_i32x16_load(p) store(p, v) set1(x)
 *   ef_i32x16_load_once(p)                   as load, for what is read once: the compiler does not merge it with others
 *   ef_i32x16_load_u8(p) load_i8(p) load_u16(p)   sixteen integers of that type, widened
 *   ef_i32x16_store_i8(p, v)                 sixteen bytes; lanes are in -128 .. 127
 *   ef_i32x16_add sub mul (a, b)             modulo 2^32
 *   ef_i32x16_max(a, b) reduce_max(v)
 *   ef_i32x16_shift_left(v, n) shift_right(v, n) shift_right_logical(v, n)    0 <= n <= 31; shift_right keeps the sign
 *   ef_i32x16_and or xor (a, b)
 *   ef_i32x16_high_nibbles(v)                the upper four bits of every byte, as bytes
 *   ef_i32x16_lookup(table, v)               byte by byte: table[the byte of v], which is below 16; table: 16 bytes
 */
#ifndef EDGEFORMER_SIMD_H
#define EDGEFORMER_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Families of vectors: what EF_SIMD may be. Undefined (0): this file gives only what needs no instruction set. */
#define EF_SIMD_SCALAR 1
#define EF_SIMD_AVX2 2
#define EF_SIMD_AVX512 3
#define EF_SIMD_NEON 4

#define EF_JOIN_(a, b) a##_##b
#define EF_JOIN(a, b) EF_JOIN_(a, b)
/* ef_<x>_<instruction set>, for everything that isa.h compiles more than once. */
#define EF_NAME(x) EF_JOIN(ef_##x, EF_ISA)

/* An IEEE half as float, exactly, in integers: correct where the float unit flushes denormals. */
static inline float ef_float_from_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = half >> 10 & 0x1f;
    const uint32_t mantissa = half & 0x3ff;
    uint32_t bits;
    if (exponent == 0x1f) {
        bits = 0x7f800000 | mantissa << 13;
    } else if (exponent != 0) {
        bits = (exponent + 112) << 23 | mantissa << 13;
    } else {
        const float small = (float)mantissa * 0x1p-24f; /* a normal float, or zero */
        memcpy(&bits, &small, 4);
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* A float as IEEE half, nearest even; too large becomes infinity, NaN stays NaN. */
static inline uint16_t ef_half_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x47800000) /* 65536 and more */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude <= 0x33000000) /* 2^-25 and less: zero, the tie goes to even */
        return (uint16_t)sign;
    uint32_t shift = 13, kept = magnitude - (112u << 23);
    if (magnitude < 0x38800000) { /* below 2^-14: a half denormal; the hidden one becomes explicit */
        shift = 126 - (magnitude >> 23);
        kept = (magnitude & 0x7fffff) | 0x800000;
    }
    const uint32_t rounding = (1u << (shift - 1)) - 1 + (kept >> shift & 1);
    return (uint16_t)(sign | (kept + rounding) >> shift);
}

static inline float ef_float_from_bfloat16(uint16_t bfloat16)
{
    const uint32_t bits = (uint32_t)bfloat16 << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

#define ef_f32x16 EF_NAME(simd_f32x16)
#define ef_i32x16 EF_NAME(simd_i32x16)
#define ef_f32x16_load EF_NAME(simd_f32x16_load)
#define ef_f32x16_store EF_NAME(simd_f32x16_store)
#define ef_f32x16_load_part EF_NAME(simd_f32x16_load_part)
#define ef_f32x16_store_part EF_NAME(simd_f32x16_store_part)
#define ef_f32x16_set1 EF_NAME(simd_f32x16_set1)
#define ef_f32x16_zero EF_NAME(simd_f32x16_zero)
#define ef_f32x16_add EF_NAME(simd_f32x16_add)
#define ef_f32x16_sub EF_NAME(simd_f32x16_sub)
#define ef_f32x16_mul EF_NAME(simd_f32x16_mul)
#define ef_f32x16_div EF_NAME(simd_f32x16_div)
#define ef_f32x16_sqrt EF_NAME(simd_f32x16_sqrt)
#define ef_f32x16_fma EF_NAME(simd_f32x16_fma)
#define ef_f32x16_fnma EF_NAME(simd_f32x16_fnma)
#define ef_f32x16_max EF_NAME(simd_f32x16_max)
#define ef_f32x16_min EF_NAME(simd_f32x16_min)
#define ef_f32x16_abs EF_NAME(simd_f32x16_abs)
#define ef_f32x16_neg EF_NAME(simd_f32x16_neg)
#define ef_f32x16_round EF_NAME(simd_f32x16_round)
#define ef_f32x16_select_lt EF_NAME(simd_f32x16_select_lt)
#define ef_f32x16_select_part EF_NAME(simd_f32x16_select_part)
#define ef_f32x16_from_i32 EF_NAME(simd_f32x16_from_i32)
#define ef_f32x16_to_i32 EF_NAME(simd_f32x16_to_i32)
#define ef_f32x16_to_bits EF_NAME(simd_f32x16_to_bits)
#define ef_f32x16_from_bits EF_NAME(simd_f32x16_from_bits)
#define ef_f32x16_load_f16 EF_NAME(simd_f32x16_load_f16)
#define ef_f32x16_load_f16_part EF_NAME(simd_f32x16_load_f16_part)
#define ef_f32x16_store_f16 EF_NAME(simd_f32x16_store_f16)
#define ef_f32x16_store_f16_part EF_NAME(simd_f32x16_store_f16_part)
#define ef_f32x16_load_bf16 EF_NAME(simd_f32x16_load_bf16)
#define ef_f32x16_zip EF_NAME(simd_f32x16_zip)
#define ef_f32x16_reduce_add EF_NAME(simd_f32x16_reduce_add)
#define ef_f32x16_reduce_max EF_NAME(simd_f32x16_reduce_max)
#define ef_i32x16_load EF_NAME(simd_i32x16_load)
#define ef_i32x16_load_once EF_NAME(simd_i32x16_load_once)
#define ef_i32x16_store EF_NAME(simd_i32x16_store)
#define ef_i32x16_load_u8 EF_NAME(simd_i32x16_load_u8)
#define ef_i32x16_load_i8 EF_NAME(simd_i32x16_load_i8)
#define ef_i32x16_load_u16 EF_NAME(simd_i32x16_load_u16)
#define ef_i32x16_store_i8 EF_NAME(simd_i32x16_store_i8)
#define ef_i32x16_set1 EF_NAME(simd_i32x16_set1)
#define ef_i32x16_add EF_NAME(simd_i32x16_add)
#define ef_i32x16_sub EF_NAME(simd_i32x16_sub)
#define ef_i32x16_mul EF_NAME(simd_i32x16_mul)
#define ef_i32x16_max EF_NAME(simd_i32x16_max)
#define ef_i32x16_reduce_max EF_NAME(simd_i32x16_reduce_max)
#define ef_i32x16_shift_left EF_NAME(simd_i32x16_shift_left)
#define ef_i32x16_shift_right EF_NAME(simd_i32x16_shift_right)
#define ef_i32x16_shift_right_logical EF_NAME(simd_i32x16_shift_right_logical)
#define ef_i32x16_high_nibbles EF_NAME(simd_i32x16_high_nibbles)
#define ef_i32x16_and EF_NAME(simd_i32x16_and)
#define ef_i32x16_or EF_NAME(simd_i32x16_or)
#define ef_i32x16_xor EF_NAME(simd_i32x16_xor)
#define ef_i32x16_lookup EF_NAME(simd_i32x16_lookup)

#endif

/* EF_INLINE, EF_UNROLL: for functions whose loops must unroll over constant arguments, and these loops. The scalar vectors
 * are loops already: there, and with a sanitizer, they are plain functions and loops, which are compiled in a fraction of
 * the time. */
#undef EF_INLINE
#undef EF_UNROLL
#if EF_SIMD == EF_SIMD_SCALAR || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EF_INLINE static inline
#define EF_UNROLL
#else
#define EF_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#if __clang_major__ < 16
#pragma clang diagnostic warning "-Wpass-failed" /* it cannot unroll every loop: slower there, and no error */
#endif
#define EF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EF_UNROLL _Pragma("GCC unroll 16")
#endif
#endif

#if EF_SIMD == EF_SIMD_SCALAR
#include "edgeformer/simd/scalar.h"
#elif EF_SIMD == EF_SIMD_AVX2
#include "edgeformer/simd/avx2.h"
#elif EF_SIMD == EF_SIMD_AVX512
#include "edgeformer/simd/avx512.h"
#elif EF_SIMD == EF_SIMD_NEON
#include "edgeformer/simd/neon.h"
#endif
