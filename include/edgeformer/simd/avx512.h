/* The vocabulary of simd.h in one AVX-512 register (F, BW, VL, DQ). */

typedef __m512 ef_f32x16;
typedef __m512i ef_i32x16;

/* The lowest n bits, 0 <= n <= 16. */
static inline __mmask16 EF_NAME(simd_first)(int n) { return (__mmask16)((1u << n) - 1); }

static inline ef_f32x16 ef_f32x16_load(const float *p) { return _mm512_loadu_ps(p); }
static inline ef_f32x16 ef_f32x16_load_part(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(EF_NAME(simd_first)(n), p);
}
static inline void ef_f32x16_store(float *p, ef_f32x16 a) { _mm512_storeu_ps(p, a); }
static inline void ef_f32x16_store_part(float *p, ef_f32x16 a, int n)
{
    _mm512_mask_storeu_ps(p, EF_NAME(simd_first)(n), a);
}
static inline ef_f32x16 ef_f32x16_set1(float x) { return _mm512_set1_ps(x); }
static inline ef_f32x16 ef_f32x16_zero(void) { return _mm512_setzero_ps(); }

static inline ef_f32x16 ef_f32x16_add(ef_f32x16 a, ef_f32x16 b) { return _mm512_add_ps(a, b); }
static inline ef_f32x16 ef_f32x16_sub(ef_f32x16 a, ef_f32x16 b) { return _mm512_sub_ps(a, b); }
static inline ef_f32x16 ef_f32x16_mul(ef_f32x16 a, ef_f32x16 b) { return _mm512_mul_ps(a, b); }
static inline ef_f32x16 ef_f32x16_div(ef_f32x16 a, ef_f32x16 b) { return _mm512_div_ps(a, b); }
static inline ef_f32x16 ef_f32x16_sqrt(ef_f32x16 a) { return _mm512_sqrt_ps(a); }
static inline ef_f32x16 ef_f32x16_fma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline ef_f32x16 ef_f32x16_fnma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c) { return _mm512_fnmadd_ps(a, b, c); }
static inline ef_f32x16 ef_f32x16_max(ef_f32x16 a, ef_f32x16 b) { return _mm512_max_ps(a, b); }
static inline ef_f32x16 ef_f32x16_min(ef_f32x16 a, ef_f32x16 b) { return _mm512_min_ps(a, b); }
static inline ef_f32x16 ef_f32x16_abs(ef_f32x16 a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
static inline ef_f32x16 ef_f32x16_neg(ef_f32x16 a) { return _mm512_xor_ps(_mm512_set1_ps(-0.0f), a); }
static inline ef_f32x16 ef_f32x16_round(ef_f32x16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline ef_f32x16 ef_f32x16_select_lt(ef_f32x16 a, ef_f32x16 b, ef_f32x16 x, ef_f32x16 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

static inline ef_f32x16 ef_f32x16_select_part(ef_f32x16 a, int n, float fill)
{
    return _mm512_mask_blend_ps(EF_NAME(simd_first)(n), _mm512_set1_ps(fill), a);
}

static inline ef_f32x16 ef_f32x16_from_i32(ef_i32x16 a) { return _mm512_cvtepi32_ps(a); }
static inline ef_i32x16 ef_f32x16_to_i32(ef_f32x16 a) { return _mm512_cvtps_epi32(a); }
static inline ef_i32x16 ef_f32x16_to_bits(ef_f32x16 a) { return _mm512_castps_si512(a); }
static inline ef_f32x16 ef_f32x16_from_bits(ef_i32x16 a) { return _mm512_castsi512_ps(a); }

static inline ef_f32x16 ef_f32x16_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline ef_f32x16 ef_f32x16_load_f16_part(const uint16_t *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(EF_NAME(simd_first)(n), p));
}
static inline void ef_f32x16_store_f16(uint16_t *p, ef_f32x16 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void ef_f32x16_store_f16_part(uint16_t *p, ef_f32x16 a, int n)
{
    const __m256i halves = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_mask_storeu_epi16(p, EF_NAME(simd_first)(n), halves);
}
static inline ef_f32x16 ef_f32x16_load_bf16(const uint16_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void ef_f32x16_zip(ef_f32x16 a, ef_f32x16 b, ef_f32x16 *low, ef_f32x16 *high)
{
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *low = _mm512_permutex2var_ps(a, first, b);
    *high = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(8)), b);
}

static inline float ef_f32x16_reduce_add(ef_f32x16 a)
{
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float ef_f32x16_reduce_max(ef_f32x16 a)
{
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

static inline ef_i32x16 ef_i32x16_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline void ef_i32x16_store(int32_t *p, ef_i32x16 a) { _mm512_storeu_si512(p, a); }
static inline ef_i32x16 ef_i32x16_load_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline ef_i32x16 ef_i32x16_load_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline ef_i32x16 ef_i32x16_load_u16(const uint16_t *p)
{
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline void ef_i32x16_store_i8(int8_t *p, ef_i32x16 a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}
static inline ef_i32x16 ef_i32x16_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline ef_i32x16 ef_i32x16_add(ef_i32x16 a, ef_i32x16 b) { return _mm512_add_epi32(a, b); }
static inline ef_i32x16 ef_i32x16_sub(ef_i32x16 a, ef_i32x16 b) { return _mm512_sub_epi32(a, b); }
static inline ef_i32x16 ef_i32x16_mul(ef_i32x16 a, ef_i32x16 b) { return _mm512_mullo_epi32(a, b); }
static inline ef_i32x16 ef_i32x16_max(ef_i32x16 a, ef_i32x16 b) { return _mm512_max_epi32(a, b); }
static inline int32_t ef_i32x16_reduce_max(ef_i32x16 a)
{
    const __m256i eight = _mm256_max_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
/* Shifts by the compiler's vector operators: one immediate form for a constant, and any n in an unoptimized build,
 * which the intrinsics (macros there) refuse. */
typedef int32_t EF_NAME(simd_signed) __attribute__((vector_size(64)));
typedef uint32_t EF_NAME(simd_unsigned) __attribute__((vector_size(64)));
static inline ef_i32x16 ef_i32x16_shift_left(ef_i32x16 a, int n) { return (ef_i32x16)((EF_NAME(simd_unsigned))a << n); }
static inline ef_i32x16 ef_i32x16_shift_right(ef_i32x16 a, int n) { return (ef_i32x16)((EF_NAME(simd_signed))a >> n); }
static inline ef_i32x16 ef_i32x16_shift_right_logical(ef_i32x16 a, int n)
{
    return (ef_i32x16)((EF_NAME(simd_unsigned))a >> n);
}
static inline ef_i32x16 ef_i32x16_and(ef_i32x16 a, ef_i32x16 b) { return _mm512_and_si512(a, b); }
static inline ef_i32x16 ef_i32x16_or(ef_i32x16 a, ef_i32x16 b) { return _mm512_or_si512(a, b); }
static inline ef_i32x16 ef_i32x16_xor(ef_i32x16 a, ef_i32x16 b) { return _mm512_xor_si512(a, b); }
static inline ef_i32x16 ef_i32x16_load_once(const int32_t *p) { return ef_i32x16_load(p); }
static inline ef_i32x16 ef_i32x16_high_nibbles(ef_i32x16 a)
{
    return ef_i32x16_and(ef_i32x16_shift_right_logical(a, 4), ef_i32x16_set1(0x0f0f0f0f));
}
static inline ef_i32x16 ef_i32x16_lookup(const uint8_t *table, ef_i32x16 a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), a);
}
