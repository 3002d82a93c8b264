/* Integer products in plain C; the definition. See matmul_quantized.h for the vocabulary of products. */

#define EF_TILE_ROWS 4
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_UNPACK_ROWS 8
#define EF_CHUNK_BYTES (256 * 1024)
#define EF_WIDTH(bits) 8
#define EF_UNPACKED_FORMS(form) form(8, 1, 0) form(8, 1, 1) form(8, 2, 0) form(8, 2, 1)

EF_INLINE ef_i32x16 EF_NAME(operand)(ef_i32x16 codes, int bits, int offset)
{
    (void)bits, (void)offset;
    return codes;
}

typedef struct { uint8_t codes[EF_BLOCK / 4][EF_TILE][4]; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, EF_NAME(source) source)
{
    for (int g = 0; g < 8; g++)
        ef_i32x16_store((int32_t *)(void *)weights->codes[g], EF_NAME(group)(type, source, g));
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset,
                                const EF_NAME(weights) *weights, const uint8_t *input, int64_t input_stride,
                                const int rows, const int panels, const int first_group, const int num_groups)
{
    (void)type, (void)bits;
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
        for (int p = 0; p < panels; p++)
            for (int lane = 0; lane < EF_TILE; lane++) {
                int32_t total = 0;
                for (int k = 4 * first_group; k < 4 * (first_group + num_groups); k++)
                    total += (weights[p].codes[k / 4][lane][k % 4] - offset) * block->q[k];
                sum[r * panels + p].v[lane] = total;
            }
    }
}

#define EF_BYTES_OFFSET 0
#define EF_BYTES_ROWS EF_TILE_ROWS
EF_INLINE void EF_NAME(add_bytes)(ef_i32x16 *sum, const uint8_t *codes, int64_t panel_bytes, const uint8_t *input,
                                  int64_t input_stride, const int rows, const int panels)
{
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++)
            for (int i = 0; i < EF_BLOCK * EF_TILE; i++) { /* [column / 4][row][column % 4] */
                const int8_t weight = (int8_t)codes[p * panel_bytes + i];
                const uint8_t *row = input + r * input_stride;
                const ef_block_activation *block = (const ef_block_activation *)(const void *)row;
                sum[r * panels + p].v[i / 4 % EF_TILE] += weight * block->q[i / (4 * EF_TILE) * 4 + i % 4];
            }
}
