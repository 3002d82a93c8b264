/* The quantized types: how a row's blocks move into a tile (tiles.h), and what a tile says.
 *
 * For each type of EF_QUANTIZED_TYPES, types_*.h gives
 *     EF_NAME(pack_row_<type>)(tile, block, r)   row r of the tile from its block; other rows are left alone
 *     EF_NAME(codes_<type>)(tile, b, g)          group g of the tile's thirty-two columns b: unsigned bytes [16 rows][4]
 *     EF_NAME(scale_<type>)(tile, part)          sixteen rows' scales of a part of the tile's columns (32 or 16 of them)
 *     EF_NAME(min_<type>)(tile, part)            and minima, where there are any
 * All else (products, unpacking, embedding rows, packing) is common. A weight's float is scale * (code - offset), plus the
 * minimum, each rounded once.
 */
#include "edgeformer/types/types_legacy.h"
#include "edgeformer/types/types_k.h"
#include "edgeformer/types/types_ternary.h"
#undef EF_ONE_SCALE
#undef EF_ONE_MINIMUM

#define EF_PACK_TYPE(name, id, columns, bytes, shared, bits, offset, minimum) \
    static void EF_NAME(pack_##name)(uint8_t *panel, const uint8_t *source, int64_t num_blocks, int count) \
    { \
        ef_tile_##name *tiles = (ef_tile_##name *)(void *)panel; \
        const ef_block_##name *blocks = (const ef_block_##name *)(const void *)source; \
        for (int64_t b = 0; b < num_blocks; b++) { \
            if (count < EF_TILE) \
                memset(&tiles[b], 0, sizeof tiles[b]); \
            for (int r = 0; r < count; r++) \
                EF_NAME(pack_row_##name)(&tiles[b], &blocks[r * num_blocks + b], r); \
        } \
    }
EF_QUANTIZED_TYPES(EF_PACK_TYPE)
#undef EF_PACK_TYPE

#define EF_CODES_CASE(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: return EF_NAME(codes_##name)((const ef_tile_##name *)(const void *)tile, b, g);
EF_INLINE ef_i32x16 EF_NAME(codes)(const int type, const uint8_t *tile, int b, const int g)
{
    switch (type) {
    EF_QUANTIZED_TYPES(EF_CODES_CASE)
    case EF_I8_ROW: /* `tile`: thirty-two columns, whose scale is the row's */
        return ef_i32x16_xor(ef_i32x16_load((const int32_t *)(const void *)(tile + 64 * g)), ef_i32x16_set1((int32_t)0x80808080));
    default: return ef_i32x16_set1(0);
    }
}
#undef EF_CODES_CASE

#define EF_SCALE_CASE(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: return EF_NAME(scale_##name)((const ef_tile_##name *)(const void *)tile, part);
EF_INLINE ef_f32x16 EF_NAME(scales)(const int type, const uint8_t *tile, int part)
{
    switch (type) {
    EF_QUANTIZED_TYPES(EF_SCALE_CASE)
    default: return ef_f32x16_zero();
    }
}
#undef EF_SCALE_CASE

#define EF_MINIMUM_0(name, id)
#define EF_MINIMUM_1(name, id) case id: return EF_NAME(min_##name)((const ef_tile_##name *)(const void *)tile, part);
#define EF_MINIMUM_CASE(name, id, columns, bytes, shared, bits, offset, minimum) EF_MINIMUM_##minimum(name, id)
/* Zero for a type without minima. */
EF_INLINE ef_f32x16 EF_NAME(minima)(const int type, const uint8_t *tile, int part)
{
    switch (type) {
    EF_QUANTIZED_TYPES(EF_MINIMUM_CASE)
    default: return ef_f32x16_zero();
    }
}
#undef EF_MINIMUM_0
#undef EF_MINIMUM_1
#undef EF_MINIMUM_CASE

/* Columns k .. k + 31 of lane r of a panel as floats; k % 32 == 0. */
EF_INLINE void EF_NAME(quantized_columns)(float *values, const uint8_t *panel, const int type, int r, int64_t k)
{
    const ef_type_traits traits = ef_traits(type);
    const uint8_t *tile = panel + k / traits.block_columns * traits.block_bytes * EF_TILE;
    const int b = (int)(k % traits.block_columns) / EF_BLOCK, parts = EF_BLOCK / traits.scale_columns;
    for (int h = 0; h < parts; h++) {
        float scale[EF_TILE], minimum[EF_TILE];
        ef_f32x16_store(scale, EF_NAME(scales)(type, tile, b * parts + h));
        ef_f32x16_store(minimum, EF_NAME(minima)(type, tile, b * parts + h));
        EF_UNROLL
        for (int g = 0; g < 8; g++) {
            uint8_t codes[EF_TILE][4];
            if (g / (8 / parts) != h)
                continue;
            ef_i32x16_store((int32_t *)(void *)codes, EF_NAME(codes)(type, tile, b, g));
            for (int i = 0; i < 4; i++) {
                const float value = scale[r] * (float)(codes[r][i] - traits.offset);
                values[4 * g + i] = traits.has_min ? value + minimum[r] : value;
            }
        }
    }
}
