/* The integer product of one block with vpdpbusd (AVX-512-VNNI, AVX-VNNI): unsigned weights, signed activations.
 * Nibbles are unsigned as they are stored, eight-bit weights become so by adding 128; what this adds to a product is 8
 * or 128 times the block's sum. Nothing can overflow: 32 * 255 * 127 < 2^31. */

#if EF_SIMD == EF_SIMD_AVX512
/* Thirty-two registers: sixteen hold the weights of two panels' block, twelve the float sums of six rows. The rows take
 * turns, so each activation is broadcast once for two products. */
#define EF_TILE_ROWS 6
#define EF_TILE_PANELS 2
#define EF_PRODUCT_ROWS 1
#define EF_STREAM_ROWS 2
#define EF_CHUNK_BYTES (768 * 1024)
#define EF_WEIGHTS_IN_REGISTERS 1
#else
/* Sixteen registers: twelve hold the integer sums of six rows, so each group of weights is read once for six rows; the
 * float sums wait in memory. */
#define EF_TILE_ROWS 6
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_STREAM_ROWS EF_TILE_ROWS
#define EF_CHUNK_BYTES (384 * 1024)
#define EF_WEIGHTS_IN_REGISTERS 0
#endif

EF_INLINE ef_i32x16 EF_NAME(dpbusd)(ef_i32x16 sum, ef_i32x16 weights, ef_i32x16 activations)
{
#if EF_SIMD == EF_SIMD_AVX512
    return _mm512_dpbusd_epi32(sum, weights, activations);
#else
    return (ef_i32x16){_mm256_dpbusd_avx_epi32(sum.lo, weights.lo, activations.lo),
                       _mm256_dpbusd_avx_epi32(sum.hi, weights.hi, activations.hi)};
#endif
}

/* Group g of a block's weights (columns 4g .. 4g + 3 of sixteen rows) as unsigned bytes. */
EF_INLINE ef_i32x16 EF_NAME(unsigned_group)(const int type, const uint8_t *tile, const int g)
{
    if (type == EF_Q8_0)
        return ef_i32x16_xor(ef_i32x16_load((const int32_t *)(tile + 64 * g)), ef_i32x16_set1((int32_t)0x80808080));
    const ef_i32x16 nibbles = ef_i32x16_load((const int32_t *)(tile + 64 * (g % 4)));
    return ef_i32x16_and(g < 4 ? nibbles : ef_i32x16_shift_right_logical(nibbles, 4), ef_i32x16_set1(0x0f0f0f0f));
}

typedef struct {
    const uint8_t *tile;
    ef_i32x16 group[8]; /* only where EF_WEIGHTS_IN_REGISTERS */
} EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, const void *tile)
{
    weights->tile = tile;
    if (EF_WEIGHTS_IN_REGISTERS) {
        EF_UNROLL
        for (int g = 0; g < 8; g++)
            weights->group[g] = EF_NAME(unsigned_group)(type, tile, g);
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const EF_NAME(weights) *weights, const uint8_t *input,
                                int64_t input_stride, const int rows, const int panels)
{
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(input + r * input_stride);
        const ef_i32x16 offset = ef_i32x16_set1(block->sum * (type == EF_Q8_0 ? -128 : -8));
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            sum[r * panels + p] = offset;
    }
    EF_UNROLL
    for (int g = 0; g < 8; g++) {
        ef_i32x16 group[EF_TILE_PANELS];
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            group[p] = EF_WEIGHTS_IN_REGISTERS ? weights[p].group[g]
                                               : EF_NAME(unsigned_group)(type, weights[p].tile, g);
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const ef_block_activation *block = (const ef_block_activation *)(input + r * input_stride);
            int32_t four;
            memcpy(&four, block->q + 4 * g, 4);
            const ef_i32x16 activations = ef_i32x16_set1(four);
            EF_UNROLL
            for (int p = 0; p < panels; p++)
                sum[r * panels + p] = EF_NAME(dpbusd)(sum[r * panels + p], group[p], activations);
        }
    }
}

#undef EF_WEIGHTS_IN_REGISTERS
