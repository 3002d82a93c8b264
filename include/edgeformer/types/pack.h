/* GGUF rows -> panels (blocks.h), and single rows back to floats. */

/* Transposes `count` (<= 16) rows of num_columns elements of `size` bytes into one panel [num_columns][16]; rows >=
 * count are zero. Sixteen columns at a time: rows of a power-of-two length fall into the same cache set, so each line
 * is read whole while it is there. */
EF_INLINE void EF_NAME(pack_elements)(uint8_t *panel, const uint8_t *source, int64_t num_columns, int count,
                                      const int64_t size)
{
    for (int64_t k = 0; k < num_columns; k += 16) {
        const int64_t width = num_columns - k < 16 ? num_columns - k : 16;
        if (count < EF_TILE)
            memset(panel + k * EF_TILE * size, 0, (size_t)(width * EF_TILE * size));
        for (int64_t r = 0; r < count; r++)
            for (int64_t j = 0; j < width; j++)
                memcpy(panel + ((k + j) * EF_TILE + r) * size, source + (r * num_columns + k + j) * size, (size_t)size);
    }
}

#define EF_PACK_CASE(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: EF_NAME(pack_##name)(panel, source, num_columns / columns, count); break;
#define EF_PACK_FLOAT_CASE(name, id, bytes) \
    case id: EF_NAME(pack_elements)(panel, source, num_columns, count, bytes); break;
/* One panel from `count` rows, 1 <= count <= 16. */
static void EF_NAME(pack_panel)(uint8_t *panel, int32_t type, int64_t num_columns, const uint8_t *source, int count)
{
    switch (type) {
    EF_FLOAT_TYPES(EF_PACK_FLOAT_CASE)
    EF_QUANTIZED_TYPES(EF_PACK_CASE)
    case EF_I8_ROW: EF_NAME(pack_i8_row)(panel, source, num_columns, count); break;
    }
}
#undef EF_PACK_CASE
#undef EF_PACK_FLOAT_CASE

/* See ef_kernels.pack. `panels` is 64-byte aligned and large enough; `source` may have any alignment (the block structs
 * are read at even addresses only: rows of types that hold halves have an even length, so `source` must be even for
 * those). */
static void EF_NAME(pack)(uint8_t *panels, int32_t type, int64_t num_columns, const uint8_t *source, int64_t row_begin,
                          int64_t row_end)
{
    const int64_t panel_bytes = ef_panel_bytes(type, num_columns), row_bytes = ef_row_bytes(type, num_columns);
    for (int64_t row = row_begin; row < row_end; row += EF_TILE) {
        const int count = row_end - row < EF_TILE ? (int)(row_end - row) : EF_TILE;
        EF_NAME(pack_panel)(panels + row / EF_TILE * panel_bytes, type, num_columns, source + (row - row_begin) * row_bytes,
                            count);
    }
}

/* `sum`, which is 0, as long as all lanes of x are finite; else NaN there. */
EF_INLINE ef_f32x16 EF_NAME(while_finite)(ef_f32x16 sum, ef_f32x16 x) { return ef_f32x16_fma(x, ef_f32x16_zero(), sum); }

/* A tile's first part tells of all: scales of parts are one half times whole numbers, and so are minima. `offset` is the
 * largest code of a type whose scales reach beyond halves. */
#define EF_FINITE_TILES(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: \
        for (int64_t k = 0; k < num_columns; k += columns, panel += bytes * EF_TILE) { \
            const ef_f32x16 largest = ef_f32x16_mul(EF_NAME(scales)(id, panel, 0), ef_f32x16_set1(offset)); \
            sum = EF_NAME(while_finite)(EF_NAME(while_finite)(sum, largest), EF_NAME(minima)(id, panel, 0)); \
        } \
        break;
/* 0 in every lane if a panel is finite. */
static ef_f32x16 EF_NAME(panel_finite)(const uint8_t *panel, int32_t type, int64_t num_columns)
{
    ef_f32x16 sum = ef_f32x16_zero();
    const float *floats = (const float *)(const void *)panel;
    const uint16_t *halves = (const uint16_t *)(const void *)panel;
    switch (type) {
    EF_QUANTIZED_TYPES(EF_FINITE_TILES)
    case EF_I8_ROW: {
        const ef_f32x16 scales = ef_f32x16_load((const float *)(const void *)(panel + EF_TILE * num_columns));
        sum = EF_NAME(while_finite)(sum, ef_f32x16_mul(scales, ef_f32x16_set1(128.0f)));
        break;
    }
    case EF_F32:
        for (int64_t k = 0; k < num_columns; k++)
            sum = EF_NAME(while_finite)(sum, ef_f32x16_load(floats + k * EF_TILE));
        break;
    case EF_F16:
        for (int64_t k = 0; k < num_columns; k++)
            sum = EF_NAME(while_finite)(sum, ef_f32x16_load_f16(halves + k * EF_TILE));
        break;
    case EF_BF16:
        for (int64_t k = 0; k < num_columns; k++)
            sum = EF_NAME(while_finite)(sum, ef_f32x16_load_bf16(halves + k * EF_TILE));
        break;
    }
    return sum;
}
#undef EF_FINITE_TILES

/* See ef_kernels.panels_finite. */
static int32_t EF_NAME(panels_finite)(const ef_matrix *matrix, int32_t panel_begin, int32_t panel_end)
{
    ef_f32x16 sum = ef_f32x16_zero();
    for (int32_t panel = panel_begin; panel < panel_end; panel++) {
        const uint8_t *bytes = matrix->data + panel * matrix->panel_bytes;
        sum = ef_f32x16_add(sum, EF_NAME(panel_finite)(bytes, matrix->type, matrix->num_columns));
    }
    return ef_f32x16_reduce_add(sum) == 0.0f;
}

EF_INLINE float EF_NAME(float_element)(const uint8_t *panel, int32_t type, int64_t index)
{
    switch (type) {
    case EF_F32: return ((const float *)(const void *)panel)[index];
    case EF_F16: return ef_float_from_half(((const uint16_t *)(const void *)panel)[index]);
    default: return ef_float_from_bfloat16(((const uint16_t *)(const void *)panel)[index]);
    }
}

#define EF_COLUMNS_CASE(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: EF_NAME(quantized_columns)(values, panel, id, r, k); break;
/* Columns k .. k + count - 1 of lane r of a panel as floats; k % 32 == 0, 1 <= count <= 32, = 32 for a quantized type. */
static void EF_NAME(panel_columns)(float *values, const uint8_t *panel, const ef_matrix *weight, int r, int64_t k, int count)
{
    switch (weight->type) {
    EF_QUANTIZED_TYPES(EF_COLUMNS_CASE)
    case EF_I8_ROW: EF_NAME(row_columns)(values, panel, weight->num_columns, r, k); break;
    default:
        for (int i = 0; i < count; i++)
            values[i] = EF_NAME(float_element)(panel, weight->type, (k + i) * EF_TILE + r);
    }
}
#undef EF_COLUMNS_CASE

/* See ef_kernels.embed. Product and sum are rounded separately; nothing past num_columns is read or written. */
static void EF_NAME(embed)(float *output, const ef_matrix *weight, int32_t row, float scale, const float *add)
{
    const uint8_t *panel = weight->data + row / EF_TILE * weight->panel_bytes;
    for (int64_t k = 0; k < weight->num_columns; k += EF_BLOCK) {
        const int count = weight->num_columns - k < EF_BLOCK ? (int)(weight->num_columns - k) : EF_BLOCK;
        float values[EF_BLOCK];
        EF_NAME(panel_columns)(values, panel, weight, row % EF_TILE, k, count);
        for (int i = 0; i < count; i++)
            output[k + i] = (add ? add[k + i] : 0.0f) + scale * values[i];
    }
}
