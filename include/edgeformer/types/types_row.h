/* I8_ROW: bytes with one scale a row. How rows move into a panel, and what a panel says. */

static void EF_NAME(pack_i8_row)(uint8_t *panel, const uint8_t *source, int64_t num_columns, int count)
{
    const int64_t row_bytes = EF_ROW_SCALE + num_columns;
    if (count < EF_TILE)
        memset(panel, 0, (size_t)(EF_TILE * row_bytes));
    for (int64_t k = 0; k < num_columns; k += 64) { /* a line of each row at a time */
        const int64_t end = k + 64 < num_columns ? k + 64 : num_columns;
        for (int r = 0; r < count; r++)
            for (int64_t i = k; i < end; i += 4)
                memcpy(panel + i * EF_TILE + 4 * r, source + r * row_bytes + EF_ROW_SCALE + i, 4);
    }
    for (int r = 0; r < count; r++)
        memcpy(panel + EF_TILE * num_columns + 4 * r, source + r * row_bytes, EF_ROW_SCALE);
}

/* Columns k .. k + 31 of lane r of a panel as floats. */
static void EF_NAME(row_columns)(float *values, const uint8_t *panel, int64_t num_columns, int r, int64_t k)
{
    float scale;
    memcpy(&scale, panel + EF_TILE * num_columns + 4 * r, 4);
    int8_t bytes[EF_BLOCK];
    for (int64_t i = 0; i < EF_BLOCK; i += 4)
        memcpy(bytes + i, panel + (k + i) * EF_TILE + 4 * r, 4);
    for (int i = 0; i < EF_BLOCK; i += EF_TILE) {
        const ef_f32x16 lanes = ef_f32x16_from_i32(ef_i32x16_load_i8(bytes + i));
        ef_f32x16_store(values + i, ef_f32x16_mul(ef_f32x16_set1(scale), lanes));
    }
}
