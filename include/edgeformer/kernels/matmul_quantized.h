/* Tiles of quantized matrices. Each product_*.h gives
 *     EF_TILE_ROWS, EF_TILE_PANELS   the largest tile
 *     EF_PRODUCT_ROWS                how many rows one call of `product` takes
 *     EF_NAME(weights)               one panel's block of weights, ready for the product
 *     EF_NAME(load_weights)(weights, type, tile)
 *     EF_NAME(product)(sum, type, weights, input, input_stride, rows, panels)
 *         sum[r * panels + p] = the exact integer sums over k of weights[p] times row r; input: row 0's block.
 */

/* Asks for bytes that come soon; they need not exist. */
EF_INLINE void EF_NAME(prefetch)(const uint8_t *first, int64_t bytes)
{
    EF_UNROLL
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(first + i, 0, 3);
}

/* A tile of `rows` rows and `panels` panels, both constants: per block, ascending, sum = fma(integers, scales, sum).
 * Weights are asked for ahead_bytes before their turn; past the end of a panel that means the next group of panels. */
EF_INLINE void EF_NAME(quantized_tile)(const ef_matmul *args, int32_t row, int32_t panel, int ahead_bytes,
                                       const int type, const int rows, const int panels)
{
    const int64_t tile_bytes = type == EF_Q8_0 ? sizeof(ef_tile_q8_0) : sizeof(ef_tile_q4_0);
    const int64_t scale_offset = type == EF_Q8_0 ? offsetof(ef_tile_q8_0, scale) : offsetof(ef_tile_q4_0, scale);
    const int64_t num_blocks = args->weight.num_columns / EF_BLOCK, stride = args->input_stride;
    const int64_t ahead = ahead_bytes / tile_bytes, skipped = (panels - 1) * args->weight.panel_bytes;
    const uint8_t *tiles = args->weight.data + panel * args->weight.panel_bytes;
    const uint8_t *input = (const uint8_t *)args->input + row * stride;
    ef_f32x16 sums[EF_TILE_ROWS * EF_TILE_PANELS];
    EF_UNROLL
    for (int i = 0; i < rows * panels; i++)
        sums[i] = ef_f32x16_zero();
    for (int64_t b = 0; b < num_blocks; b++) {
        EF_NAME(weights) weights[EF_TILE_PANELS];
        ef_f32x16 weight_scale[EF_TILE_PANELS];
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            const uint8_t *tile = tiles + p * args->weight.panel_bytes + b * tile_bytes;
            EF_NAME(prefetch)(tile + ahead * tile_bytes + (b + ahead < num_blocks ? 0 : skipped), tile_bytes);
            EF_NAME(load_weights)(&weights[p], type, tile);
            weight_scale[p] = ef_f32x16_load_f16((const uint16_t *)(tile + scale_offset));
        }
        const uint8_t *blocks = input + b * (int64_t)sizeof(ef_block_activation);
        EF_UNROLL
        for (int first = 0; first < rows; first += EF_PRODUCT_ROWS) {
            ef_i32x16 integers[EF_PRODUCT_ROWS * EF_TILE_PANELS];
            const int count = rows < EF_PRODUCT_ROWS ? rows : EF_PRODUCT_ROWS;
            EF_NAME(product)(integers, type, weights, blocks + first * stride, stride, count, panels);
            EF_UNROLL
            for (int r = 0; r < count; r++) {
                const ef_block_activation *block = (const ef_block_activation *)(blocks + (first + r) * stride);
                const ef_f32x16 scale = ef_f32x16_set1(block->scale);
                EF_UNROLL
                for (int p = 0; p < panels; p++) {
                    ef_f32x16 *sum = &sums[(first + r) * panels + p];
                    const ef_f32x16 product = ef_f32x16_from_i32(integers[r * panels + p]);
                    *sum = ef_f32x16_fma(product, ef_f32x16_mul(weight_scale[p], scale), *sum);
                }
            }
        }
    }
    float finished[EF_TILE_ROWS * EF_TILE_PANELS * EF_TILE] __attribute__((aligned(EF_ALIGNMENT)));
    EF_UNROLL
    for (int i = 0; i < rows * panels; i++)
        ef_f32x16_store(finished + i * EF_TILE, sums[i]);
    EF_NAME(finish_tile)(args, finished, row, panel, rows, panels);
}
