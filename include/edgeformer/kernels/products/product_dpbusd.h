/* Integer products with vpdpbusd (AVX-512-VNNI, AVX-VNNI): unsigned codes, signed activations. The codes' offset adds
 * offset * (the activations' sum), which the sums start without. Nothing can overflow: 32 * 255 * 127 < 2^31. */

#define EF_UNPACK_ROWS 32
#if EF_SIMD == EF_SIMD_AVX512
/* Thirty-two registers: twelve integer sums of six rows and two panels, so that none waits for the product before it,
 * and as many float sums. I8_ROW and floats have but one kind of sums. */
#define EF_TILE_ROWS 8
#define EF_UNPACKED_ROWS 6
#define EF_TILE_PANELS 2
#define EF_CHUNK_BYTES (768 * 1024)
#else
/* Sixteen registers: eight hold the integer sums of four rows; the float sums wait in memory. */
#define EF_TILE_ROWS 6
#define EF_UNPACKED_ROWS 4
#define EF_TILE_PANELS 1
#define EF_CHUNK_BYTES (384 * 1024)
#endif
#define EF_PRODUCT_ROWS EF_UNPACKED_ROWS
#define EF_WIDTH(bits) 8 /* of codes as far as products care: all alike */
#define EF_UNPACKED_FORMS(form) form(8, 1, 0) form(8, 1, 1) form(8, 2, 0) form(8, 2, 1)

EF_INLINE ef_i32x16 EF_NAME(dpbusd)(ef_i32x16 sum, ef_i32x16 weights, ef_i32x16 activations)
{
#if EF_SIMD == EF_SIMD_AVX512
    return _mm512_dpbusd_epi32(sum, weights, activations);
#else
    return (ef_i32x16){_mm256_dpbusd_avx_epi32(sum.lo, weights.lo, activations.lo),
                       _mm256_dpbusd_avx_epi32(sum.hi, weights.hi, activations.hi)};
#endif
}

EF_INLINE ef_i32x16 EF_NAME(operand)(ef_i32x16 codes, int bits, int offset)
{
    (void)bits, (void)offset;
    return codes;
}

typedef struct { EF_NAME(source) source; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, EF_NAME(source) source)
{
    (void)type;
    weights->source = source;
}

/* Adds group g of a block's columns, the codes of `panels` panels, to the sums of `rows` rows. */
EF_INLINE void EF_NAME(add_group)(ef_i32x16 *sum, const ef_i32x16 *group, const uint8_t *input, int64_t input_stride,
                                  const int g, const int rows, const int panels)
{
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
        int32_t four;
        memcpy(&four, block->q + 4 * g, 4);
        const ef_i32x16 activations = ef_i32x16_set1(four);
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            sum[r * panels + p] = EF_NAME(dpbusd)(sum[r * panels + p], group[p], activations);
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset,
                                const EF_NAME(weights) *weights, const uint8_t *input, int64_t input_stride,
                                const int rows, const int panels, const int first_group, const int num_groups)
{
    (void)bits;
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
        const int32_t sum_of_part = ef_activation_sum(block, 8 / num_groups, first_group / 4);
        const ef_i32x16 start = ef_i32x16_set1(-offset * sum_of_part);
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            sum[r * panels + p] = start;
    }
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g++) {
        ef_i32x16 group[EF_TILE_PANELS];
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            group[p] = EF_NAME(group)(type, weights[p].source, g);
        EF_NAME(add_group)(sum, group, input, input_stride, g, rows, panels);
    }
}

/* The codes keep their offset: it is taken away at the end, for all columns at once. */
#define EF_BYTES_OFFSET 128
#define EF_BYTES_ROWS EF_TILE_ROWS
EF_INLINE void EF_NAME(add_bytes)(ef_i32x16 *sum, const uint8_t *codes, int64_t panel_bytes, const uint8_t *input,
                                  int64_t input_stride, const int rows, const int panels)
{
    EF_UNROLL
    for (int g = 0; g < 8; g++) {
        ef_i32x16 group[EF_TILE_PANELS];
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            group[p] = EF_NAME(group)(EF_I8_ROW, (EF_NAME(source)){codes + p * panel_bytes, 0}, g);
        EF_NAME(add_group)(sum, group, input, input_stride, g, rows, panels);
    }
}
