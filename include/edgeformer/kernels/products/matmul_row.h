/* Tiles of I8_ROW: bytes with one scale a row, times activation rows with one scale each. The integer sum over all
 * columns is exact for as many columns as EF_ROW_COLUMNS, so an element is float(sum) * (weight's scale * activation's
 * scale). */

/* A tile of `rows` rows and `panels` panels, both constants. What add_bytes adds too much is taken away at the end:
 * then the rows' totals are near, where waiting for them at the start cost a tenth of the time of sixteen rows. */
EF_INLINE void EF_NAME(row_tile)(const ef_matmul *args, int32_t row, int32_t panel, const int rows, const int panels)
{
    const int64_t num_columns = args->weight.num_columns, skipped = args->weight.panel_bytes;
    const int64_t stride = args->input_stride;
    const uint8_t *codes = args->weight.data + panel * skipped;
    const uint8_t *first_input = (const uint8_t *)args->input + row * stride, *input = first_input;
    ef_i32x16 sums[EF_TILE_ROWS * EF_TILE_PANELS];
    EF_UNROLL
    for (int i = 0; i < rows * panels; i++)
        sums[i] = ef_i32x16_set1(0);
    for (int64_t b = 0; b < num_columns / EF_BLOCK; b++) {
        EF_NAME(add_bytes)(sums, codes, skipped, input, stride, rows, panels);
        input += sizeof(ef_block_activation);
        codes += EF_UNPACKED_CODES;
    }
    ef_f32x16 finished[EF_TILE_ROWS * EF_TILE_PANELS];
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const float scale = ((const ef_block_activation *)(const void *)(first_input + r * stride))->scale;
        const ef_i32x16 excess = ef_i32x16_set1(EF_BYTES_OFFSET * *ef_row_total(first_input + r * stride, num_columns));
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            const ef_f32x16 weight_scale = ef_f32x16_load((const float *)(const void *)(codes + p * skipped));
            const ef_f32x16 scales = ef_f32x16_mul(weight_scale, ef_f32x16_set1(scale));
            const ef_i32x16 sum = ef_i32x16_sub(sums[r * panels + p], excess);
            finished[r * panels + p] = ef_f32x16_mul(ef_f32x16_from_i32(sum), scales);
        }
    }
    EF_NAME(finish_tile)(args, finished, row, panel, rows, panels);
}
