/* What an instruction set can do at best, for measurements: multiply-adds from registers alone, and reading memory.
 *
 * Every product here is one times one, so that the sums count the multiply-adds that were really done: what a compiler
 * left out would be missing from the count. There are as many independent sums as hide the instruction's latency. */

/* No instruction: the compiler must have both in registers here and take them for changed. */
#if EF_SIMD == EF_SIMD_SCALAR
#define EF_OPAQUE(x, y) __asm__ volatile("" : "+r"(x), "+r"(y))
#define EF_OPAQUE_FLOAT(x, y) __asm__ volatile("" : "+m"(x), "+m"(y))
#elif EF_SIMD == EF_SIMD_NEON
#define EF_OPAQUE(x, y) __asm__ volatile("" : "+w"(x), "+w"(y))
#define EF_OPAQUE_FLOAT EF_OPAQUE
#else
#define EF_OPAQUE(x, y) __asm__ volatile("" : "+v"(x), "+v"(y))
#define EF_OPAQUE_FLOAT EF_OPAQUE
#endif

#define EF_PEAK_FLOAT_SUMS 12

/* peak_int: a register of eight-bit integers, or of the sums of their products; peak_float: one of floats.
 * EF_NAME(peak_step)(sum, a, b): sum + the products of a and b, for any eight-bit values. */
#if EF_SIMD == EF_SIMD_AVX512
#define EF_PEAK_SUMS 12
typedef __m512i EF_NAME(peak_int);
typedef __m512 EF_NAME(peak_float);
#define EF_PEAK_ONES _mm512_set1_epi8(1)
#define EF_PEAK_ZERO _mm512_setzero_si512()
#define EF_PEAK_FLOAT(x) _mm512_set1_ps(x)
#define EF_PEAK_FMA _mm512_fmadd_ps
EF_INLINE __m512i EF_NAME(peak_step)(__m512i sum, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sum, a, b); }

#elif EF_SIMD == EF_SIMD_AVX2
typedef __m256i EF_NAME(peak_int);
typedef __m256 EF_NAME(peak_float);
#define EF_PEAK_ONES _mm256_set1_epi8(1)
#define EF_PEAK_ZERO _mm256_setzero_si256()
#define EF_PEAK_FLOAT(x) _mm256_set1_ps(x)
#define EF_PEAK_FMA _mm256_fmadd_ps
#if EF_PRODUCT == EF_PRODUCT_DPBUSD
#define EF_PEAK_SUMS 12
EF_INLINE __m256i EF_NAME(peak_step)(__m256i sum, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#else
#define EF_PEAK_SUMS 6 /* and as many of sixteen bits */
#define EF_PEAK_SUM16 _mm256_setzero_si256()
EF_INLINE __m256i EF_NAME(peak_widen)(__m256i sum, __m256i sum16)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(sum16, _mm256_set1_epi16(1)));
}
EF_INLINE __m256i EF_NAME(peak_step)(__m256i sum, __m256i a, __m256i b)
{
    return EF_NAME(peak_widen)(sum, _mm256_maddubs_epi16(a, b));
}
EF_INLINE __m256i EF_NAME(peak_step16)(__m256i sum16, __m256i a, __m256i b)
{
    return _mm256_add_epi16(sum16, _mm256_maddubs_epi16(a, b));
}
#endif

#elif EF_SIMD == EF_SIMD_NEON
typedef int8x16_t EF_NAME(peak_int);
typedef float32x4_t EF_NAME(peak_float);
#define EF_PEAK_SUMS 12
#define EF_PEAK_ONES vdupq_n_s8(1)
#define EF_PEAK_ZERO vdupq_n_s8(0)
#define EF_PEAK_FLOAT(x) vdupq_n_f32(x)
#define EF_PEAK_FMA(a, b, c) vfmaq_f32(c, a, b)
#if EF_PRODUCT == EF_PRODUCT_SDOT
EF_INLINE int8x16_t EF_NAME(peak_step)(int8x16_t sum, int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), a, b));
}
#elif EF_PRODUCT == EF_PRODUCT_SMMLA
EF_INLINE int8x16_t EF_NAME(peak_step)(int8x16_t sum, int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s32(vmmlaq_s32(vreinterpretq_s32_s8(sum), a, b));
}
#elif EF_PRODUCT == EF_PRODUCT_SMULL
#define EF_PEAK_SUM16 vdupq_n_s8(0)
EF_INLINE int8x16_t EF_NAME(peak_widen)(int8x16_t sum, int8x16_t sum16)
{
    return vreinterpretq_s8_s32(vpadalq_s16(vreinterpretq_s32_s8(sum), vreinterpretq_s16_s8(sum16)));
}
EF_INLINE int8x16_t EF_NAME(peak_step)(int8x16_t sum, int8x16_t a, int8x16_t b)
{
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    return EF_NAME(peak_widen)(sum, vreinterpretq_s8_s16(vmlal_s8(low, vget_high_s8(a), vget_high_s8(b))));
}
EF_INLINE int8x16_t EF_NAME(peak_step16)(int8x16_t sum16, int8x16_t a, int8x16_t b)
{
    const int16x8_t low = vmlal_s8(vreinterpretq_s16_s8(sum16), vget_low_s8(a), vget_low_s8(b));
    return vreinterpretq_s8_s16(vmlal_s8(low, vget_high_s8(a), vget_high_s8(b)));
}
#else
#error "a way to multiply eight-bit integers needs its peak_step here"
#endif

#else
#define EF_PEAK_SUMS 8
typedef int32_t EF_NAME(peak_int);
typedef float EF_NAME(peak_float);
#define EF_PEAK_ONES 1
#define EF_PEAK_ZERO 0
#define EF_PEAK_FLOAT(x) (x)
#define EF_PEAK_FMA fmaf
EF_INLINE int32_t EF_NAME(peak_step)(int32_t sum, int32_t a, int32_t b) { return sum + (int8_t)a * (int8_t)b; }
#endif

/* The sum of the 32-bit integers in `registers`. */
static int64_t EF_NAME(peak_total)(const EF_NAME(peak_int) *registers, int count)
{
    int64_t total = 0;
    for (int i = 0; i < count; i++) {
        int32_t lanes[sizeof registers[0] / sizeof(int32_t)];
        memcpy(lanes, &registers[i], sizeof lanes);
        for (size_t lane = 0; lane < sizeof lanes / sizeof lanes[0]; lane++)
            total += lanes[lane];
    }
    return total;
}

static int64_t EF_NAME(count_int8)(int64_t rounds)
{
    EF_NAME(peak_int) a = EF_PEAK_ONES, b = EF_PEAK_ONES, sum[EF_PEAK_SUMS];
    for (int s = 0; s < EF_PEAK_SUMS; s++)
        sum[s] = EF_PEAK_ZERO;
    for (int64_t round = 0; round < rounds; round++) {
        EF_UNROLL
        for (int s = 0; s < EF_PEAK_SUMS; s++) {
            EF_NAME(peak_int) next = EF_NAME(peak_step)(sum[s], a, b);
            EF_OPAQUE(next, a);
            sum[s] = next;
        }
    }
    return EF_NAME(peak_total)(sum, EF_PEAK_SUMS);
}

#ifdef EF_PEAK_SUM16
/* Eight steps in sixteen bits, then one that widens: what a block of nibbles allows. */
static int64_t EF_NAME(count_int4)(int64_t rounds)
{
    EF_NAME(peak_int) a = EF_PEAK_ONES, b = EF_PEAK_ONES, sum[EF_PEAK_SUMS];
    for (int s = 0; s < EF_PEAK_SUMS; s++)
        sum[s] = EF_PEAK_ZERO;
    for (int64_t round = 0; round < rounds; round++) {
        EF_NAME(peak_int) sum16[EF_PEAK_SUMS];
        EF_UNROLL
        for (int s = 0; s < EF_PEAK_SUMS; s++)
            sum16[s] = EF_PEAK_SUM16;
        EF_UNROLL
        for (int step = 0; step < 8; step++) {
            EF_UNROLL
            for (int s = 0; s < EF_PEAK_SUMS; s++) {
                EF_NAME(peak_int) next = EF_NAME(peak_step16)(sum16[s], a, b);
                EF_OPAQUE(next, a);
                sum16[s] = next;
            }
        }
        EF_UNROLL
        for (int s = 0; s < EF_PEAK_SUMS; s++)
            sum[s] = EF_NAME(peak_widen)(sum[s], sum16[s]);
    }
    return EF_NAME(peak_total)(sum, EF_PEAK_SUMS);
}
#else
/* Nibbles gain nothing here. */
static int64_t EF_NAME(count_int4)(int64_t rounds) { return EF_NAME(count_int8)(rounds); }
#endif

static int64_t EF_NAME(count_float)(int64_t rounds)
{
    EF_NAME(peak_float) a = EF_PEAK_FLOAT(1.0f), b = EF_PEAK_FLOAT(1.0f), sum[EF_PEAK_FLOAT_SUMS];
    for (int s = 0; s < EF_PEAK_FLOAT_SUMS; s++)
        sum[s] = EF_PEAK_FLOAT(0.0f);
    for (int64_t round = 0; round < rounds; round++) {
        EF_UNROLL
        for (int s = 0; s < EF_PEAK_FLOAT_SUMS; s++) {
            EF_NAME(peak_float) next = EF_PEAK_FMA(a, b, sum[s]);
            EF_OPAQUE_FLOAT(next, a);
            sum[s] = next;
        }
    }
    float lanes[EF_PEAK_FLOAT_SUMS * sizeof sum[0] / sizeof(float)];
    memcpy(lanes, sum, sizeof lanes);
    int64_t total = 0;
    for (size_t lane = 0; lane < sizeof lanes / sizeof lanes[0]; lane++)
        total += (int64_t)lanes[lane];
    return total;
}

static uint64_t EF_NAME(checksum)(const uint8_t *data, int64_t bytes)
{
    ef_i32x16 sum[4] = {ef_i32x16_set1(0), ef_i32x16_set1(0), ef_i32x16_set1(0), ef_i32x16_set1(0)};
    for (int64_t i = 0; i < bytes; i += 256) {
        EF_UNROLL
        for (int s = 0; s < 4; s++)
            sum[s] = ef_i32x16_xor(sum[s], ef_i32x16_load((const int32_t *)(data + i + 64 * s)));
    }
    uint64_t words[8], result = 0;
    const ef_i32x16 all = ef_i32x16_xor(ef_i32x16_xor(sum[0], sum[1]), ef_i32x16_xor(sum[2], sum[3]));
    ef_i32x16_store((int32_t *)words, all);
    for (int i = 0; i < 8; i++)
        result ^= words[i];
    return result;
}

#undef EF_OPAQUE
#undef EF_OPAQUE_FLOAT
#undef EF_PEAK_SUMS
#undef EF_PEAK_FLOAT_SUMS
#undef EF_PEAK_SUM16
#undef EF_PEAK_ONES
#undef EF_PEAK_ZERO
#undef EF_PEAK_FLOAT
#undef EF_PEAK_FMA
