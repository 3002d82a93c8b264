/* The vocabulary of simd.h in two AVX2 registers (AVX2, FMA, F16C): lanes 0-7 and 8-15. */

typedef struct { __m256 lo, hi; } ef_f32x16;
typedef struct { __m256i lo, hi; } ef_i32x16;

/* `function` on both halves of the operands. */
#define EF_HALVES1(type, function, a) return (type){function((a).lo), function((a).hi)}
#define EF_HALVES2(type, function, a, b) return (type){function((a).lo, (b).lo), function((a).hi, (b).hi)}
#define EF_HALVES3(type, function, a, b, c) \
    return (type){function((a).lo, (b).lo, (c).lo), function((a).hi, (b).hi, (c).hi)}

/* All bits set in lanes < n; 0 <= n <= 16. */
static inline ef_i32x16 EF_NAME(simd_first)(int n)
{
    const __m256i count = _mm256_set1_epi32(n);
    return (ef_i32x16){_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
                       _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}

static inline ef_f32x16 ef_f32x16_load(const float *p)
{
    return (ef_f32x16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline ef_f32x16 ef_f32x16_load_part(const float *p, int n)
{
    const ef_i32x16 first = EF_NAME(simd_first)(n);
    return (ef_f32x16){_mm256_maskload_ps(p, first.lo), _mm256_maskload_ps(p + 8, first.hi)};
}
static inline void ef_f32x16_store(float *p, ef_f32x16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
static inline void ef_f32x16_store_part(float *p, ef_f32x16 a, int n)
{
    const ef_i32x16 first = EF_NAME(simd_first)(n);
    _mm256_maskstore_ps(p, first.lo, a.lo);
    _mm256_maskstore_ps(p + 8, first.hi, a.hi);
}
static inline ef_f32x16 ef_f32x16_set1(float x) { return (ef_f32x16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline ef_f32x16 ef_f32x16_zero(void) { return (ef_f32x16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }

static inline ef_f32x16 ef_f32x16_add(ef_f32x16 a, ef_f32x16 b) { EF_HALVES2(ef_f32x16, _mm256_add_ps, a, b); }
static inline ef_f32x16 ef_f32x16_sub(ef_f32x16 a, ef_f32x16 b) { EF_HALVES2(ef_f32x16, _mm256_sub_ps, a, b); }
static inline ef_f32x16 ef_f32x16_mul(ef_f32x16 a, ef_f32x16 b) { EF_HALVES2(ef_f32x16, _mm256_mul_ps, a, b); }
static inline ef_f32x16 ef_f32x16_div(ef_f32x16 a, ef_f32x16 b) { EF_HALVES2(ef_f32x16, _mm256_div_ps, a, b); }
static inline ef_f32x16 ef_f32x16_sqrt(ef_f32x16 a) { EF_HALVES1(ef_f32x16, _mm256_sqrt_ps, a); }
static inline ef_f32x16 ef_f32x16_fma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c)
{
    EF_HALVES3(ef_f32x16, _mm256_fmadd_ps, a, b, c);
}
static inline ef_f32x16 ef_f32x16_fnma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c)
{
    EF_HALVES3(ef_f32x16, _mm256_fnmadd_ps, a, b, c);
}
static inline ef_f32x16 ef_f32x16_max(ef_f32x16 a, ef_f32x16 b) { EF_HALVES2(ef_f32x16, _mm256_max_ps, a, b); }
static inline ef_f32x16 ef_f32x16_min(ef_f32x16 a, ef_f32x16 b) { EF_HALVES2(ef_f32x16, _mm256_min_ps, a, b); }
static inline ef_f32x16 ef_f32x16_abs(ef_f32x16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (ef_f32x16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
static inline ef_f32x16 ef_f32x16_neg(ef_f32x16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (ef_f32x16){_mm256_xor_ps(sign, a.lo), _mm256_xor_ps(sign, a.hi)};
}
static inline ef_f32x16 ef_f32x16_round(ef_f32x16 a)
{
    return (ef_f32x16){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                       _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

static inline ef_f32x16 ef_f32x16_select_lt(ef_f32x16 a, ef_f32x16 b, ef_f32x16 x, ef_f32x16 y)
{
    return (ef_f32x16){_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                       _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}

static inline ef_f32x16 ef_f32x16_select_part(ef_f32x16 a, int n, float fill)
{
    const ef_i32x16 first = EF_NAME(simd_first)(n);
    const __m256 filled = _mm256_set1_ps(fill);
    return (ef_f32x16){_mm256_blendv_ps(filled, a.lo, _mm256_castsi256_ps(first.lo)),
                       _mm256_blendv_ps(filled, a.hi, _mm256_castsi256_ps(first.hi))};
}

static inline ef_f32x16 ef_f32x16_from_i32(ef_i32x16 a) { EF_HALVES1(ef_f32x16, _mm256_cvtepi32_ps, a); }
static inline ef_i32x16 ef_f32x16_to_i32(ef_f32x16 a) { EF_HALVES1(ef_i32x16, _mm256_cvtps_epi32, a); }
static inline ef_i32x16 ef_f32x16_to_bits(ef_f32x16 a) { EF_HALVES1(ef_i32x16, _mm256_castps_si256, a); }
static inline ef_f32x16 ef_f32x16_from_bits(ef_i32x16 a) { EF_HALVES1(ef_f32x16, _mm256_castsi256_ps, a); }

static inline ef_f32x16 ef_f32x16_load_f16(const uint16_t *p)
{
    return (ef_f32x16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                       _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static inline ef_f32x16 ef_f32x16_load_f16_part(const uint16_t *p, int n)
{
    uint16_t halves[16] = {0};
    memcpy(halves, p, (size_t)n * 2);
    return ef_f32x16_load_f16(halves);
}
static inline void ef_f32x16_store_f16(uint16_t *p, ef_f32x16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void ef_f32x16_store_f16_part(uint16_t *p, ef_f32x16 a, int n)
{
    uint16_t halves[16];
    ef_f32x16_store_f16(halves, a);
    memcpy(p, halves, (size_t)n * 2);
}
static inline ef_f32x16 ef_f32x16_load_bf16(const uint16_t *p)
{
    const __m256i lo = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    const __m256i hi = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 8)));
    return (ef_f32x16){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}

/* `low` and `high` of eight lanes. */
static inline ef_f32x16 EF_NAME(simd_zip)(__m256 a, __m256 b)
{
    const __m256 even = _mm256_unpacklo_ps(a, b), odd = _mm256_unpackhi_ps(a, b);
    return (ef_f32x16){_mm256_permute2f128_ps(even, odd, 0x20), _mm256_permute2f128_ps(even, odd, 0x31)};
}
static inline void ef_f32x16_zip(ef_f32x16 a, ef_f32x16 b, ef_f32x16 *low, ef_f32x16 *high)
{
    *low = EF_NAME(simd_zip)(a.lo, b.lo);
    *high = EF_NAME(simd_zip)(a.hi, b.hi);
}

static inline float ef_f32x16_reduce_add(ef_f32x16 a)
{
    const __m256 eight = _mm256_add_ps(a.lo, a.hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float ef_f32x16_reduce_max(ef_f32x16 a)
{
    const __m256 eight = _mm256_max_ps(a.lo, a.hi);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

static inline ef_i32x16 ef_i32x16_load(const int32_t *p)
{
    return (ef_i32x16){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8))};
}
static inline void ef_i32x16_store(int32_t *p, ef_i32x16 a)
{
    _mm256_storeu_si256((__m256i *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(p + 8), a.hi);
}
static inline ef_i32x16 ef_i32x16_load_u8(const uint8_t *p)
{
    return (ef_i32x16){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)),
                       _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p + 8)))};
}
static inline ef_i32x16 ef_i32x16_load_i8(const int8_t *p)
{
    return (ef_i32x16){_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)),
                       _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p + 8)))};
}
static inline ef_i32x16 ef_i32x16_load_u16(const uint16_t *p)
{
    return (ef_i32x16){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)),
                       _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}
static inline void ef_i32x16_store_i8(int8_t *p, ef_i32x16 a)
{
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
static inline ef_i32x16 ef_i32x16_set1(int32_t x) { return (ef_i32x16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
static inline ef_i32x16 ef_i32x16_add(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_add_epi32, a, b); }
static inline ef_i32x16 ef_i32x16_sub(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_sub_epi32, a, b); }
static inline ef_i32x16 ef_i32x16_mul(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_mullo_epi32, a, b); }
static inline ef_i32x16 ef_i32x16_max(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_max_epi32, a, b); }
static inline int32_t ef_i32x16_reduce_max(ef_i32x16 a)
{
    const __m256i eight = _mm256_max_epi32(a.lo, a.hi);
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}
static inline ef_i32x16 ef_i32x16_shift_left(ef_i32x16 a, int n)
{
    return (ef_i32x16){_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}
static inline ef_i32x16 ef_i32x16_shift_right(ef_i32x16 a, int n)
{
    return (ef_i32x16){_mm256_srai_epi32(a.lo, n), _mm256_srai_epi32(a.hi, n)};
}
static inline ef_i32x16 ef_i32x16_shift_right_logical(ef_i32x16 a, int n)
{
    return (ef_i32x16){_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}
static inline ef_i32x16 ef_i32x16_and(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_and_si256, a, b); }
static inline ef_i32x16 ef_i32x16_or(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_or_si256, a, b); }
static inline ef_i32x16 ef_i32x16_xor(ef_i32x16 a, ef_i32x16 b) { EF_HALVES2(ef_i32x16, _mm256_xor_si256, a, b); }
static inline ef_i32x16 ef_i32x16_load_once(const int32_t *p) { return ef_i32x16_load(p); }
static inline ef_i32x16 ef_i32x16_high_nibbles(ef_i32x16 a)
{
    return ef_i32x16_and(ef_i32x16_shift_right_logical(a, 4), ef_i32x16_set1(0x0f0f0f0f));
}
static inline ef_i32x16 ef_i32x16_lookup(const uint8_t *table, ef_i32x16 a)
{
    const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return (ef_i32x16){_mm256_shuffle_epi8(both, a.lo), _mm256_shuffle_epi8(both, a.hi)};
}

#undef EF_HALVES1
#undef EF_HALVES2
#undef EF_HALVES3
