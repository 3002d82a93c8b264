/* I8_ROW: bytes with one scale a row, times activation rows with one scale each. The integer sum over all columns is exact
 * for as many columns as EF_ROW_COLUMNS), so an element is float(sum) * (weight's scale * activation's scale). */

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
    for (int i = 0; i < EF_BLOCK; i++)
        values[i] = scale * (float)(int8_t)panel[(k + i) / 4 * 64 + 4 * r + i % 4];
}
