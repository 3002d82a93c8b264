/* Tiles of float matrices (F32, F16, BF16): sixteen outputs a vector, k ascending, one fma an element. */

EF_INLINE ef_f32x16 EF_NAME(load_weight)(const int type, const uint8_t *panel, int64_t k)
{
    if (type == EF_F32)
        return ef_f32x16_load((const float *)panel + k * EF_TILE);
    const uint16_t *p = (const uint16_t *)panel + k * EF_TILE;
    return type == EF_F16 ? ef_f32x16_load_f16(p) : ef_f32x16_load_bf16(p);
}

/* A tile of `rows` rows and `panels` panels, both constants. */
EF_INLINE void EF_NAME(float_tile)(const ef_matmul *args, int32_t row, int32_t panel, const int type, const int rows,
                                   const int panels)
{
    enum { AHEAD = 4096 }; /* bytes that a weight is asked for before its turn */
    const int64_t num_columns = args->weight.num_columns, stride = args->input_stride;
    const uint8_t *weights = args->weight.data + panel * args->weight.panel_bytes;
    const uint8_t *input = (const uint8_t *)args->input + row * stride;
    ef_f32x16 sums[EF_TILE_ROWS * EF_TILE_PANELS];
    EF_UNROLL
    for (int i = 0; i < rows * panels; i++)
        sums[i] = ef_f32x16_zero();
    for (int64_t k = 0; k < num_columns; k++) {
        ef_f32x16 weight[EF_TILE_PANELS];
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            const uint8_t *first = weights + p * args->weight.panel_bytes;
            __builtin_prefetch(first + k * EF_TILE * (type == EF_F32 ? 4 : 2) + AHEAD, 0, 3);
            weight[p] = EF_NAME(load_weight)(type, first, k);
        }
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const ef_f32x16 x = ef_f32x16_set1(((const float *)(input + r * stride))[k]);
            EF_UNROLL
            for (int p = 0; p < panels; p++)
                sums[r * panels + p] = ef_f32x16_fma(x, weight[p], sums[r * panels + p]);
        }
    }
    EF_NAME(finish_tile)(args, sums, row, panel, rows, panels);
}
