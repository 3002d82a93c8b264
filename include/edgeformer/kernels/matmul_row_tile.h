/* Tiles of I8_ROW: see matmul_row.h. */

/* A tile of `rows` rows and `panels` panels, both constants. */
EF_INLINE void EF_NAME(row_tile)(const ef_matmul *args, int32_t row, int32_t panel, const int rows, const int panels)
{
    const int64_t num_columns = args->weight.num_columns, stride = args->input_stride, skipped = args->weight.panel_bytes;
    const uint8_t *codes = args->weight.data + panel * skipped;
    const uint8_t *first_input = (const uint8_t *)args->input + row * stride, *input = first_input;
    ef_i32x16 sums[EF_TILE_ROWS * EF_TILE_PANELS];
    EF_UNROLL
    for (int i = 0; i < rows * panels; i++)
        sums[i] = ef_i32x16_set1(0);
    for (int64_t k = 0; k < num_columns; k += EF_BLOCK, input += sizeof(ef_block_activation), codes += EF_UNPACKED_CODES) {
        EF_NAME(weights) weights[EF_TILE_PANELS];
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            if (EF_NAME(AHEAD))
                EF_NAME(prefetch)(codes + p * skipped + EF_NAME(AHEAD), EF_UNPACKED_CODES);
            EF_NAME(load_weights)(&weights[p], EF_I8_ROW, (EF_NAME(source)){codes + p * skipped, 0});
        }
        EF_UNROLL
        for (int first = 0; first < rows; first += EF_PRODUCT_ROWS) {
            ef_i32x16 integers[EF_PRODUCT_ROWS * EF_TILE_PANELS];
            const int count = rows - first < EF_PRODUCT_ROWS ? rows - first : EF_PRODUCT_ROWS;
            EF_NAME(product)(integers, EF_I8_ROW, 8, 128, weights, input + first * stride, stride, count, panels, 0, 8);
            EF_UNROLL
            for (int i = 0; i < count * panels; i++)
                sums[first * panels + i] = ef_i32x16_add(sums[first * panels + i], integers[i]);
        }
    }
    float finished[EF_TILE_ROWS * EF_TILE_PANELS * EF_TILE] __attribute__((aligned(EF_ALIGNMENT)));
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const float scale = ((const ef_block_activation *)(const void *)(first_input + r * stride))->scale;
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            const ef_f32x16 weight_scale = ef_f32x16_load((const float *)(const void *)(codes + p * skipped));
            const ef_f32x16 scales = ef_f32x16_mul(weight_scale, ef_f32x16_set1(scale));
            const ef_f32x16 sum = ef_f32x16_from_i32(sums[r * panels + p]);
            ef_f32x16_store(finished + (r * panels + p) * EF_TILE, ef_f32x16_mul(sum, scales));
        }
    }
    EF_NAME(finish_tile)(args, finished, row, panel, rows, panels);
}
