/* Tiles of quantized matrices. Each product_*.h gives
 *     EF_TILE_ROWS, EF_TILE_PANELS   the largest tile
 *     EF_UNPACKED_ROWS               where defined, the rows of an unpacked matrix' tile: as many, or one less
 *     EF_PRODUCT_ROWS                how many rows one call of `product` takes
 *     EF_UNPACK_ROWS                 from how many rows on a panel is worth unpacking
 *     EF_UNPACKED_FORMS(form)        form(width, parts, minimum) for each kind of unpacked tile; width =
 *                                    EF_WIDTH(bits of the codes), minimum: whether there are any
 *     EF_NAME(operand), EF_NAME(store_operands)   see operands.h
 *     EF_OWN_ADD_PRODUCTS            where defined, an EF_NAME(add_products) of its own takes the place of that below
 *     EF_NAME(weights)               thirty-two columns of one panel, ready for the product
 *     EF_NAME(load_weights)(weights, type, source)
 *     EF_NAME(product)(sum, type, bits, offset, weights, input, input_stride, rows, panels, first_group, num_groups)
 *         sum[r * panels + p] = the exact integer sums, over the columns of those groups, of (codes - offset) of
 *         weights[p] times row r; input: row 0's block.
 *     EF_NAME(add_bytes)(sum, codes, panel_bytes, input, input_stride, rows, panels)
 *         sum[r * panels + p] += the products of thirty-two columns of I8_ROW, from `codes` on in panel 0, whose codes
 *         are EF_BYTES_OFFSET too large
 *
 * An element is A + M (M only where the type has minima): A adds, part by part of the columns that share a scale, in
 * ascending order, fma(integer sum, weight's scale * activation's scale, A); M likewise fma(minimum, scale * sum of the
 * activations, M).
 */

/* So that kernels of types with minima can do without offsets. */
#define EF_ASSERT_TYPE(name, id, columns, bytes, shared, bits, offset, minimum) \
    _Static_assert(!(minimum) || (offset) == 0, #name ": a minimum and an offset");
EF_QUANTIZED_TYPES(EF_ASSERT_TYPE)
#undef EF_ASSERT_TYPE

/* Asks for bytes that come soon; they need not exist. */
EF_INLINE void EF_NAME(prefetch)(const uint8_t *first, const int64_t bytes)
{
    EF_UNROLL
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(first + i, 0, 3);
}

/* A's next thirty-two columns, for a tile of `rows` rows and `panels` panels. scales: [parts][panels]. */
EF_INLINE void EF_NAME(accumulate)(ef_f32x16 *sums, const int type, const int bits, const int offset,
                                   const EF_NAME(weights) *weights, const ef_f32x16 *scales, const int parts,
                                   const uint8_t *input, int64_t stride, const int rows, const int panels)
{
    EF_UNROLL
    for (int first = 0; first < rows; first += EF_PRODUCT_ROWS) {
        const int count = rows - first < EF_PRODUCT_ROWS ? rows - first : EF_PRODUCT_ROWS;
        EF_UNROLL
        for (int h = 0; h < parts; h++) {
            ef_i32x16 integers[EF_PRODUCT_ROWS * EF_TILE_PANELS];
            EF_NAME(product)(integers, type, bits, offset, weights, input + first * stride, stride, count, panels,
                             h * (8 / parts), 8 / parts);
            EF_UNROLL
            for (int r = 0; r < count; r++) {
                const uint8_t *block = input + (first + r) * stride;
                const ef_f32x16 scale = ef_f32x16_set1(((const ef_block_activation *)(const void *)block)->scale);
                EF_UNROLL
                for (int p = 0; p < panels; p++) {
                    ef_f32x16 *sum = &sums[(first + r) * panels + p];
                    const ef_f32x16 product = ef_f32x16_from_i32(integers[r * panels + p]);
                    *sum = ef_f32x16_fma(product, ef_f32x16_mul(scales[h * panels + p], scale), *sum);
                }
            }
        }
    }
}

/* What a minimum of the part is multiplied with. */
EF_INLINE float EF_NAME(part_sum)(const uint8_t *input, const int parts, int h)
{
    const ef_block_activation *block = (const ef_block_activation *)(const void *)input;
    return parts == 1 ? block->scaled_sum : block->scale * (float)ef_activation_sum(block, parts, h);
}

/* A tile of `rows` rows (constant) of one panel, its weights taken from memory as they are stored. They are asked for
 * ahead_bytes before their turn (0: never); past the end of a panel that means the next one. */
EF_INLINE void EF_NAME(direct_tile)(const ef_matmul *args, int32_t row, int32_t panel, const int ahead_bytes,
                                    const int type, const int rows)
{
    const ef_type_traits traits = ef_traits(type);
    const int64_t tile_bytes = (int64_t)traits.block_bytes * EF_TILE, stride = args->input_stride;
    const int parts = EF_BLOCK / traits.scale_columns, blocks = traits.block_columns / EF_BLOCK;
    const int64_t share = tile_bytes / blocks;
    const uint8_t *tile = args->weight.data + panel * args->weight.panel_bytes;
    const uint8_t *end = tile + args->weight.num_columns / traits.block_columns * tile_bytes;
    const uint8_t *input = (const uint8_t *)args->input + row * stride;
    ef_f32x16 sums[4], minima[4];
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        sums[r] = minima[r] = ef_f32x16_zero();
    for (; tile < end; tile += tile_bytes)
        for (int b = 0; b < blocks; b++, input += sizeof(ef_block_activation)) {
            EF_NAME(weights) weights;
            ef_f32x16 scales[2];
            if (ahead_bytes)
                EF_NAME(prefetch)(tile + ahead_bytes + b * share, share);
            EF_NAME(load_weights)(&weights, type, (EF_NAME(source)){tile, b});
            EF_UNROLL
            for (int h = 0; h < parts; h++)
                scales[h] = EF_NAME(scales)(type, tile, b * parts + h);
            EF_NAME(accumulate)(sums, type, traits.bits, traits.offset, &weights, scales, parts, input, stride, rows,
                                1);
            EF_UNROLL
            for (int h = 0; h < parts * traits.has_min; h++) {
                const ef_f32x16 minimum = EF_NAME(minima)(type, tile, b * parts + h);
                EF_UNROLL
                for (int r = 0; r < rows; r++) {
                    const float sum = EF_NAME(part_sum)(input + r * stride, parts, h);
                    minima[r] = ef_f32x16_fma(minimum, ef_f32x16_set1(sum), minima[r]);
                }
            }
        }
    if (traits.has_min) {
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            sums[r] = ef_f32x16_add(sums[r], minima[r]);
    }
    EF_NAME(finish_tile)(args, sums, row, panel, rows, 1);
}

/* Unpacks columns of a panel, whole blocks, from its tile on: for each thirty-two columns operands, then scales of the
 * parts; minima go to `minima`. */
EF_INLINE void EF_NAME(unpack_columns)(uint8_t *output, float *minima, const int type, const uint8_t *tile,
                                       int64_t num_columns)
{
    const ef_type_traits traits = ef_traits(type);
    const int parts = EF_BLOCK / traits.scale_columns, blocks = traits.block_columns / EF_BLOCK;
    const int64_t tile_bytes = (int64_t)traits.block_bytes * EF_TILE;
    const int64_t step = EF_UNPACKED_CODES + parts * EF_UNPACKED_PART;
    for (int64_t t = 0; t < num_columns / traits.block_columns; t++, tile += tile_bytes)
        for (int b = 0; b < blocks; b++, output += step) {
            EF_NAME(store_operands)(output, type, (EF_NAME(source)){tile, b});
            EF_UNROLL
            for (int h = 0; h < parts; h++) {
                float *scales = (float *)(void *)(output + EF_UNPACKED_CODES + h * EF_UNPACKED_PART);
                ef_f32x16_store(scales, EF_NAME(scales)(type, tile, b * parts + h));
                if (traits.has_min) {
                    ef_f32x16_store(minima, EF_NAME(minima)(type, tile, b * parts + h));
                    minima += EF_TILE;
                }
            }
        }
}

/* A slab: columns [column, column + num_columns) of a group of panels, unpacked to `codes` and `minima`, each
 * `.._bytes` a panel. Between slabs the sums A and M of row r of the pass and panel p wait in sums[r][p][A, M][16]. */
typedef struct {
    uint8_t *codes, *minima;
    int64_t codes_bytes, minima_bytes;
    int64_t column, num_columns;
    float *sums;
    int32_t first_row; /* of the pass */
} EF_NAME(slab);

/* Sums of a tile of `rows` rows and `panels` panels, from where they wait; which: 0 for A, 1 for M. */
EF_INLINE void EF_NAME(load_sums)(ef_f32x16 *sums, const EF_NAME(slab) *slab, int32_t row, int which, const int rows,
                                  const int panels)
{
    const float *waiting = slab->sums + ((int64_t)(row - slab->first_row) * EF_SLAB_PANELS * 2 + which) * EF_TILE;
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            sums[r * panels + p] = slab->column == 0 ? ef_f32x16_zero()
                                                     : ef_f32x16_load(waiting + (r * EF_SLAB_PANELS + p) * 2 * EF_TILE);
}

EF_INLINE void EF_NAME(store_sums)(const ef_f32x16 *sums, const EF_NAME(slab) *slab, int32_t row, int which,
                                   const int rows, const int panels)
{
    float *waiting = slab->sums + ((int64_t)(row - slab->first_row) * EF_SLAB_PANELS * 2 + which) * EF_TILE;
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        EF_UNROLL
        for (int p = 0; p < panels; p++)
            ef_f32x16_store(waiting + (r * EF_SLAB_PANELS + p) * 2 * EF_TILE, sums[r * panels + p]);
}

/* M's next columns for a tile; input: row 0's block of the slab's first columns. */
EF_INLINE void EF_NAME(add_minima)(ef_f32x16 *totals, const EF_NAME(slab) *slab, const int parts, const uint8_t *input,
                                   int64_t stride, const int rows, const int panels)
{
    const uint8_t *minima = slab->minima;
    for (int64_t k = 0; k < slab->num_columns; k += EF_BLOCK, input += sizeof(ef_block_activation))
        for (int h = 0; h < parts; h++, minima += EF_UNPACKED_PART)
            EF_UNROLL
            for (int r = 0; r < rows; r++) {
                const ef_f32x16 sum = ef_f32x16_set1(EF_NAME(part_sum)(input + r * stride, parts, h));
                EF_UNROLL
                for (int p = 0; p < panels; p++) {
                    const uint8_t *minimum = minima + p * slab->minima_bytes;
                    totals[r * panels + p] = ef_f32x16_fma(ef_f32x16_load((const float *)(const void *)minimum), sum,
                                                           totals[r * panels + p]);
                }
            }
}

#ifndef EF_OWN_ADD_PRODUCTS
/* A's next columns for a tile; input as above. codes: of the first panel, codes_bytes before the next's. bits, parts,
 * rows and panels are constants. */
EF_INLINE void EF_NAME(add_products)(ef_f32x16 *sums, const uint8_t *codes, int64_t codes_bytes, int64_t num_columns,
                                     const int bits, const int parts, const int offset, const uint8_t *input,
                                     int64_t stride, const int rows, const int panels)
{
    for (int64_t k = 0; k < num_columns; k += EF_BLOCK, input += sizeof(ef_block_activation)) {
        EF_NAME(weights) weights[EF_TILE_PANELS];
        ef_f32x16 scales[2 * EF_TILE_PANELS];
        EF_UNROLL
        for (int r = 0; r < rows && EF_SIMD != EF_SIMD_NEON; r++) /* the next tile's: far apart, so not foreseen */
            __builtin_prefetch(input + (rows + r) * stride, 0, 3);
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            const uint8_t *columns = codes + p * codes_bytes;
            EF_NAME(load_weights)(&weights[p], EF_NAME(UNPACKED), (EF_NAME(source)){columns, 0});
            EF_UNROLL
            for (int h = 0; h < parts; h++)
                scales[h * panels + p] =
                    ef_f32x16_load((const float *)(const void *)(columns + EF_UNPACKED_CODES + h * EF_UNPACKED_PART));
        }
        EF_NAME(accumulate)(sums, EF_NAME(UNPACKED), bits, offset, weights, scales, parts, input, stride, rows, panels);
        codes += EF_UNPACKED_CODES + parts * EF_UNPACKED_PART;
    }
}
#endif

/* A tile of `rows` rows and `panels` panels over the columns of a slab. From `bits` on all are constants. */
EF_INLINE void EF_NAME(slab_tile)(const ef_matmul *args, const EF_NAME(slab) *slab, int32_t row, int32_t panel,
                                  const int bits, const int parts, const int minimum, const int rows, const int panels)
{
    const int offset = minimum ? 0 : ef_traits(args->weight.type).offset;
    const int64_t stride = args->input_stride, first_block = slab->column / EF_BLOCK;
    const uint8_t *first = (const uint8_t *)args->input + row * stride;
    const uint8_t *input = first + first_block * (int64_t)sizeof(ef_block_activation);
    const int last = slab->column + slab->num_columns == args->weight.num_columns;
    ef_f32x16 sums[EF_TILE_ROWS * EF_TILE_PANELS], totals[EF_TILE_ROWS * EF_TILE_PANELS];
    EF_NAME(load_sums)(sums, slab, row, 0, rows, panels);
    EF_NAME(add_products)(sums, slab->codes, slab->codes_bytes, slab->num_columns, bits, parts, offset, input, stride,
                          rows, panels);
    if (!last)
        EF_NAME(store_sums)(sums, slab, row, 0, rows, panels);
    if (minimum) {
        EF_NAME(load_sums)(totals, slab, row, 1, rows, panels);
        EF_NAME(add_minima)(totals, slab, parts, input, stride, rows, panels);
        if (!last)
            EF_NAME(store_sums)(totals, slab, row, 1, rows, panels);
        EF_UNROLL
        for (int i = 0; i < rows * panels; i++)
            sums[i] = ef_f32x16_add(sums[i], totals[i]);
    }
    if (last)
        EF_NAME(finish_tile)(args, sums, row, panel, rows, panels);
}
