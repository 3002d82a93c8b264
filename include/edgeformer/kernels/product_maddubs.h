/* The integer product of one block with vpmaddubsw (AVX2), which multiplies unsigned by signed bytes and saturates the
 * sum of a pair at 16 bits.
 *     Nibbles are unsigned, so a whole block may be summed in 16 bits: 8 * 2 * 15 * 127 = 30480 < 2^15. Their offset
 *     of 8 is taken away at the end, with the block's sum.
 *     Eight-bit weights give their sign to the activation. A pair is at most 2 * 128 * 127 = 32512 < 2^15 (-128 occurs
 *     only in odd files), so pairs are widened at once. */

/* Sixteen registers: twelve hold the integer sums of six rows; the float sums wait in memory. */
#define EF_TILE_ROWS 6
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_STREAM_ROWS EF_TILE_ROWS
#define EF_CHUNK_BYTES (384 * 1024)

typedef struct { const uint8_t *tile; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, const void *tile)
{
    (void)type;
    weights->tile = tile;
}

EF_INLINE __m256i EF_NAME(broadcast_four)(const uint8_t *input, int64_t offset, const int g)
{
    int32_t four;
    memcpy(&four, ((const ef_block_activation *)(input + offset))->q + 4 * g, 4);
    return _mm256_set1_epi32(four);
}

EF_INLINE void EF_NAME(product_q8_0)(ef_i32x16 *sum, const uint8_t *tile, const uint8_t *input, int64_t input_stride,
                                     const int rows)
{
    const __m256i ones = _mm256_set1_epi16(1);
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = ef_i32x16_set1(0);
    EF_UNROLL
    for (int g = 0; g < 8; g++) {
        const ef_i32x16 w = ef_i32x16_load((const int32_t *)(tile + 64 * g));
        const ef_i32x16 magnitude = {_mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi)};
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const __m256i x = EF_NAME(broadcast_four)(input, r * input_stride, g);
            const __m256i lo = _mm256_maddubs_epi16(magnitude.lo, _mm256_sign_epi8(x, w.lo));
            const __m256i hi = _mm256_maddubs_epi16(magnitude.hi, _mm256_sign_epi8(x, w.hi));
            sum[r].lo = _mm256_add_epi32(sum[r].lo, _mm256_madd_epi16(lo, ones));
            sum[r].hi = _mm256_add_epi32(sum[r].hi, _mm256_madd_epi16(hi, ones));
        }
    }
}

EF_INLINE void EF_NAME(product_q4_0)(ef_i32x16 *sum, const uint8_t *tile, const uint8_t *input, int64_t input_stride,
                                     const int rows)
{
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = ef_i32x16_set1(0);
    EF_UNROLL
    for (int g = 0; g < 8; g++) {
        ef_i32x16 w = ef_i32x16_load((const int32_t *)(tile + 64 * (g % 4)));
        if (g >= 4)
            w = ef_i32x16_shift_right_logical(w, 4);
        w = (ef_i32x16){_mm256_and_si256(w.lo, low), _mm256_and_si256(w.hi, low)};
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const __m256i x = EF_NAME(broadcast_four)(input, r * input_stride, g);
            sum[r].lo = _mm256_add_epi16(sum[r].lo, _mm256_maddubs_epi16(w.lo, x));
            sum[r].hi = _mm256_add_epi16(sum[r].hi, _mm256_maddubs_epi16(w.hi, x));
        }
    }
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const int32_t total = ((const ef_block_activation *)(input + r * input_stride))->sum;
        const ef_i32x16 wide = {_mm256_madd_epi16(sum[r].lo, ones), _mm256_madd_epi16(sum[r].hi, ones)};
        sum[r] = ef_i32x16_sub(wide, ef_i32x16_set1(8 * total));
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const EF_NAME(weights) *weights, const uint8_t *input,
                                int64_t input_stride, const int rows, const int panels)
{
    (void)panels;
    if (type == EF_Q8_0)
        EF_NAME(product_q8_0)(sum, weights->tile, input, input_stride, rows);
    else
        EF_NAME(product_q4_0)(sum, weights->tile, input, input_stride, rows);
}
