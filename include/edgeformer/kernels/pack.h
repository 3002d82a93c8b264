/* GGUF rows -> tiles (blocks.h), and single rows back to floats. */

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

static void EF_NAME(pack_q8_0)(ef_tile_q8_0 *tiles, const ef_block_q8_0 *source, int64_t num_blocks, int count)
{
    for (int64_t b = 0; b < num_blocks; b++) {
        if (count < EF_TILE)
            memset(&tiles[b], 0, sizeof tiles[b]);
        for (int r = 0; r < count; r++) {
            const ef_block_q8_0 *block = &source[r * num_blocks + b];
            for (int g = 0; g < 8; g++)
                memcpy(tiles[b].q[g][r], block->q + 4 * g, 4);
            tiles[b].scale[r] = block->scale;
        }
    }
}

/* A block's nibbles are already (column i, column i + 16), so they move in fours like bytes. */
static void EF_NAME(pack_q4_0)(ef_tile_q4_0 *tiles, const ef_block_q4_0 *source, int64_t num_blocks, int count)
{
    for (int64_t b = 0; b < num_blocks; b++) {
        if (count < EF_TILE)
            memset(&tiles[b], 0, sizeof tiles[b]);
        for (int r = 0; r < count; r++) {
            const ef_block_q4_0 *block = &source[r * num_blocks + b];
            for (int g = 0; g < 4; g++)
                memcpy(tiles[b].nibbles[g][r], block->nibbles + 4 * g, 4);
            tiles[b].scale[r] = block->scale;
        }
    }
}

/* See ef_kernels.pack. `panels` is 64-byte aligned and large enough; `source` may have any alignment (the block structs
 * are read at even addresses only: rows of quantized types have an even length, so `source` must be even for those). */
static void EF_NAME(pack)(uint8_t *panels, int32_t type, int64_t num_columns, const uint8_t *source, int64_t row_begin,
                          int64_t row_end)
{
    const int64_t num_blocks = num_columns / EF_BLOCK;
    const int64_t panel_bytes = ef_panel_bytes(type, num_columns), row_bytes = ef_row_bytes(type, num_columns);
    for (int64_t row = row_begin; row < row_end; row += EF_TILE) {
        uint8_t *panel = panels + row / EF_TILE * panel_bytes;
        const uint8_t *rows = source + (row - row_begin) * row_bytes;
        const int count = row_end - row < EF_TILE ? (int)(row_end - row) : EF_TILE;
        switch (type) {
        case EF_F32: EF_NAME(pack_elements)(panel, rows, num_columns, count, 4); break;
        case EF_F16:
        case EF_BF16: EF_NAME(pack_elements)(panel, rows, num_columns, count, 2); break;
        case EF_Q8_0: EF_NAME(pack_q8_0)((ef_tile_q8_0 *)panel, (const ef_block_q8_0 *)rows, num_blocks, count); break;
        case EF_Q4_0: EF_NAME(pack_q4_0)((ef_tile_q4_0 *)panel, (const ef_block_q4_0 *)rows, num_blocks, count); break;
        }
    }
}

/* Columns k .. k + count - 1 of lane r of a panel, dequantized; k % 32 == 0, 1 <= count <= 32. */
EF_INLINE void EF_NAME(panel_columns)(float *values, const uint8_t *panel, int32_t type, int r, int64_t k, int count)
{
    const int64_t first = k * EF_TILE + r;
    switch (type) {
    case EF_F32:
        for (int i = 0; i < count; i++)
            values[i] = ((const float *)panel)[first + i * EF_TILE];
        break;
    case EF_F16:
        for (int i = 0; i < count; i++)
            values[i] = ef_float_from_half(((const uint16_t *)panel)[first + i * EF_TILE]);
        break;
    case EF_BF16:
        for (int i = 0; i < count; i++)
            values[i] = ef_float_from_bfloat16(((const uint16_t *)panel)[first + i * EF_TILE]);
        break;
    case EF_Q8_0: {
        const ef_tile_q8_0 *tile = (const ef_tile_q8_0 *)panel + k / EF_BLOCK;
        const float scale = ef_float_from_half(tile->scale[r]);
        int8_t q[EF_BLOCK];
        for (int g = 0; g < 8; g++)
            memcpy(q + 4 * g, tile->q[g][r], 4);
        for (int i = 0; i < EF_BLOCK; i++)
            values[i] = scale * (float)q[i];
        break;
    }
    case EF_Q4_0: {
        const ef_tile_q4_0 *tile = (const ef_tile_q4_0 *)panel + k / EF_BLOCK;
        const float scale = ef_float_from_half(tile->scale[r]);
        uint8_t nibbles[EF_BLOCK / 2];
        for (int g = 0; g < 4; g++)
            memcpy(nibbles + 4 * g, tile->nibbles[g][r], 4);
        for (int i = 0; i < EF_BLOCK / 2; i++) {
            values[i] = scale * (float)((nibbles[i] & 15) - 8);
            values[i + EF_BLOCK / 2] = scale * (float)((nibbles[i] >> 4) - 8);
        }
        break;
    }
    }
}

/* See ef_kernels.embed. Product and sum are rounded separately; nothing past num_columns is read or written. */
static void EF_NAME(embed)(float *output, const ef_matrix *weight, int32_t row, float scale, const float *add)
{
    const uint8_t *panel = weight->data + row / EF_TILE * weight->panel_bytes;
    for (int64_t k = 0; k < weight->num_columns; k += EF_BLOCK) {
        const int count = weight->num_columns - k < EF_BLOCK ? (int)(weight->num_columns - k) : EF_BLOCK;
        float values[EF_BLOCK];
        EF_NAME(panel_columns)(values, panel, weight->type, row % EF_TILE, k, count);
        for (int i = 0; i < count; i++)
            output[k + i] = (add ? add[k + i] : 0.0f) + scale * values[i];
    }
}
