/* Tiles of I8_ROW: bytes with one scale a row, times activation rows with one scale each. The integer sum over all
 * columns is exact for as many columns as EF_ROW_COLUMNS, so an element is float(sum) * (weight's scale * activation's
 * scale). */

/* Adds the next thirty-two columns and goes on to those after them. */
EF_INLINE void EF_NAME(add_row_block)(ef_i32x16 *sums, const uint8_t **codes, int64_t panel_bytes, const uint8_t **input,
                                  int64_t input_stride, const int ahead_bytes, const int rows, const int panels)
{
    if (ahead_bytes)
        EF_NAME(prefetch)(*codes + ahead_bytes, EF_UNPACKED_CODES);
    EF_NAME(add_bytes)(sums, *codes, panel_bytes, *input, input_stride, rows, panels);
    *codes += EF_UNPACKED_CODES;
    *input += sizeof(ef_block_activation);
}

/* A tile of `rows` rows and `panels` panels, both constants. Weights are asked for ahead_bytes, a constant, before their
 * turn (0: never); past the end of a panel that means the next one. What add_bytes adds too much is taken away at the end:
 * then the rows' totals are near, where waiting for them at the start cost a tenth of the time of sixteen rows. */
EF_INLINE void EF_NAME(row_tile)(const ef_matmul *args, int32_t row, int32_t panel, const int ahead_bytes,
                                 const int rows, const int panels)
{
    const int64_t num_columns = args->weight.num_columns, skipped = args->weight.panel_bytes;
    const int64_t stride = args->input_stride;
    const uint8_t *codes = args->weight.data + panel * skipped;
    const uint8_t *first_input = (const uint8_t *)args->input + row * stride, *input = first_input;
    const int turns = rows * panels <= 2 ? 2 : 1; /* so few sums would wait for one another: two of each take turns */
    ef_i32x16 sums[2 * EF_TILE_ROWS * EF_TILE_PANELS];
    EF_UNROLL
    for (int i = 0; i < turns * rows * panels; i++)
        sums[i] = ef_i32x16_set1(0);
    for (int64_t b = 0; b < num_columns / EF_BLOCK; b++) {
        EF_NAME(add_row_block)(sums, &codes, skipped, &input, stride, ahead_bytes, rows, panels);
        if (turns == 2 && ++b < num_columns / EF_BLOCK)
            EF_NAME(add_row_block)(sums + rows * panels, &codes, skipped, &input, stride, ahead_bytes, rows, panels);
    }
    EF_UNROLL
    for (int i = 0; i < (turns - 1) * rows * panels; i++)
        sums[i] = ef_i32x16_add(sums[i], sums[rows * panels + i]);
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

/* Tiles of `rows` rows (constant) of panels [panel, end), one by one: few rows wait for memory, and so read the weights as
 * the one plain stream that the hardware foresees. */
EF_INLINE void EF_NAME(row_stream)(const ef_matmul *args, int32_t row, int32_t panel, int32_t end, const int rows)
{
    for (; panel < end; panel++)
        EF_NAME(row_tile)(args, row, panel, EF_NAME(AHEAD), rows, 1);
}
