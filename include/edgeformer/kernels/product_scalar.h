/* The integer product of one block in plain C; the definition. See matmul_quantized.h for the vocabulary of products.
 * */

#define EF_TILE_ROWS 4
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_STREAM_ROWS EF_TILE_ROWS
#define EF_CHUNK_BYTES (256 * 1024)

typedef struct { int8_t q[EF_BLOCK / 4][EF_TILE][4]; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, const void *tile)
{
    if (type == EF_Q8_0) {
        memcpy(weights->q, ((const ef_tile_q8_0 *)tile)->q, sizeof weights->q);
        return;
    }
    const uint8_t *nibbles = &((const ef_tile_q4_0 *)tile)->nibbles[0][0][0];
    int8_t *q = &weights->q[0][0][0];
    for (int i = 0; i < 256; i++) {
        q[i] = (int8_t)((nibbles[i] & 15) - 8);
        q[i + 256] = (int8_t)((nibbles[i] >> 4) - 8);
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const EF_NAME(weights) *weights, const uint8_t *input,
                                int64_t input_stride, const int rows, const int panels)
{
    (void)type;
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(input + r * input_stride);
        for (int p = 0; p < panels; p++)
            for (int lane = 0; lane < EF_TILE; lane++) {
                int32_t total = 0;
                for (int k = 0; k < EF_BLOCK; k++)
                    total += weights[p].q[k / 4][lane][k % 4] * block->q[k];
                sum[r * panels + p].v[lane] = total;
            }
    }
}
