/* The product of rows with a packed matrix (ef_kernels.matmul), its epilogue and the order in which tiles are visited.
 *
 * A tile is up to EF_TILE_ROWS rows by EF_TILE_PANELS panels, its sums held in registers while k runs over all columns
 * in ascending order; an element's bits depend on nothing else. */

#include "edgeformer/kernels/products/operands.h"
#if EF_PRODUCT == EF_PRODUCT_SCALAR
#include "edgeformer/kernels/products/product_scalar.h"
#elif EF_PRODUCT == EF_PRODUCT_DPBUSD
#include "edgeformer/kernels/products/product_dpbusd.h"
#elif EF_PRODUCT == EF_PRODUCT_MADDUBS
#include "edgeformer/kernels/products/product_maddubs.h"
#else
#include "edgeformer/kernels/products/product_neon.h"
#endif

#ifndef EF_UNPACKED_ROWS
#define EF_UNPACKED_ROWS EF_TILE_ROWS
#endif
/* Writes sums[rows][panels], the finished sums of a tile, through bias, activation and residual. `rows` and `panels`
 * are constants: the sums go from the registers to the output, but for an activation, which would be spelled out for
 * each. */
EF_INLINE void EF_NAME(finish_tile)(const ef_matmul *args, ef_f32x16 *sums, int32_t row, int32_t panel, const int rows,
                                    const int panels)
{
    const int64_t column = panel * (int64_t)EF_TILE, output_stride = args->output_stride;
    const int64_t residual_stride = args->residual_stride;
    const uint8_t *residuals =
        args->residual ? (const uint8_t *)(args->residual + column) + row * residual_stride : NULL;
    uint8_t *outputs = (uint8_t *)(args->output + column) + row * output_stride;
    if (args->bias) {
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            const ef_f32x16 bias = ef_f32x16_load(args->bias + column + p * EF_TILE);
            EF_UNROLL
            for (int r = 0; r < rows; r++)
                sums[r * panels + p] = ef_f32x16_add(sums[r * panels + p], bias);
        }
    }
    if (args->activation != EF_ACT_NONE) {
        float values[EF_TILE_ROWS * EF_TILE_PANELS * EF_TILE] __attribute__((aligned(EF_ALIGNMENT)));
        EF_UNROLL
        for (int i = 0; i < rows * panels; i++)
            ef_f32x16_store(values + i * EF_TILE, sums[i]);
        EF_NAME(activate_vectors)(values, rows * panels, args->activation);
        EF_UNROLL
        for (int i = 0; i < rows * panels; i++)
            sums[i] = ef_f32x16_load(values + i * EF_TILE);
    }
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        EF_UNROLL
        for (int p = 0; p < panels; p++) {
            ef_f32x16 value = sums[r * panels + p];
            if (residuals) {
                const float *residual = (const float *)(const void *)(residuals + r * residual_stride) + p * EF_TILE;
                value = ef_f32x16_add(ef_f32x16_load(residual), value);
            }
            ef_f32x16_store((float *)(void *)(outputs + r * output_stride) + p * EF_TILE, value);
        }
}

#include "edgeformer/kernels/products/matmul_float.h"
#include "edgeformer/kernels/products/matmul_quantized.h"

/* How many bytes before its turn a weight that comes from memory is asked for. On ARM never: the hardware follows the
 * one stream, and asking took a twentieth of the instructions. */
enum { EF_NAME(AHEAD) = EF_SIMD == EF_SIMD_NEON ? 0 : 8704 };

#include "edgeformer/kernels/products/matmul_row.h"

/* Calls `function` with the arguments given and constants in place of the variables rows, 1 .. EF_TILE_ROWS, and
 * panels, 1 .. EF_TILE_PANELS. */
#define EF_CALL(height, width, function, ...) \
    case height: function(__VA_ARGS__, height, width); break;
#if EF_TILE_ROWS == 8
#define EF_HEIGHTS(width, ...) \
    switch (rows) { \
        EF_CALL(1, width, __VA_ARGS__) EF_CALL(2, width, __VA_ARGS__) EF_CALL(3, width, __VA_ARGS__) \
        EF_CALL(4, width, __VA_ARGS__) EF_CALL(5, width, __VA_ARGS__) EF_CALL(6, width, __VA_ARGS__) \
        EF_CALL(7, width, __VA_ARGS__) EF_CALL(8, width, __VA_ARGS__) \
    }
#elif EF_TILE_ROWS == 6
#define EF_HEIGHTS(width, ...) \
    switch (rows) { \
        EF_CALL(1, width, __VA_ARGS__) EF_CALL(2, width, __VA_ARGS__) EF_CALL(3, width, __VA_ARGS__) \
        EF_CALL(4, width, __VA_ARGS__) EF_CALL(5, width, __VA_ARGS__) EF_CALL(6, width, __VA_ARGS__) \
    }
#else
#define EF_HEIGHTS(width, ...) \
    switch (rows) { \
        EF_CALL(1, width, __VA_ARGS__) EF_CALL(2, width, __VA_ARGS__) EF_CALL(3, width, __VA_ARGS__) \
        EF_CALL(4, width, __VA_ARGS__) \
    }
#endif
#if EF_TILE_PANELS == 2
#define EF_WIDTHS(heights, ...) \
    if (panels == 2) { \
        heights(2, __VA_ARGS__) \
    } else { \
        heights(1, __VA_ARGS__) \
    }
#else
#define EF_WIDTHS(heights, ...) \
    (void)panels; \
    heights(1, __VA_ARGS__)
#endif
#define EF_SIZES(...) EF_WIDTHS(EF_HEIGHTS, __VA_ARGS__)

#define EF_FLOAT_FUNCTION(name, id, bytes) \
    static void EF_NAME(tile_##name)(const ef_matmul *args, int32_t row, int32_t panel, int rows, int panels) \
    { \
        EF_SIZES(EF_NAME(float_tile), args, row, panel, id) \
    }
EF_FLOAT_TYPES(EF_FLOAT_FUNCTION)
#undef EF_FLOAT_FUNCTION

enum { EF_NAME(LONG_PANEL) = 16 * 1024 };

static void EF_NAME(tile_i8_row)(const ef_matmul *args, int32_t row, int32_t panel, int rows, int panels)
{
    EF_SIZES(EF_NAME(row_tile), args, row, panel, 0)
}

/* Whether so few rows by a matrix wait for memory: one does always, up to four (or a tile) where panels are so short that
 * the hardware would foresee two of them as two streams too late. */
static inline int EF_NAME(streams_rows)(const ef_matrix *weight, int32_t rows)
{
    const int32_t most = EF_BYTES_ROWS < 4 ? EF_BYTES_ROWS : 4;
    return weight->type == EF_I8_ROW && (rows == 1 || (rows <= most && weight->panel_bytes < EF_NAME(LONG_PANEL)));
}

/* 1 <= rows <= 4 */
static void EF_NAME(stream_i8_row)(const ef_matmul *args, int32_t row, int32_t panel, int32_t end, int rows)
{
    switch (rows) {
    case 1: EF_NAME(row_stream)(args, row, panel, end, 1); break;
    case 2: EF_NAME(row_stream)(args, row, panel, end, 2); break;
    case 3: EF_NAME(row_stream)(args, row, panel, end, 3); break;
    case 4: EF_NAME(row_stream)(args, row, panel, end, 4); break;
    }
}

/* Unpacked tiles have as many rows as there can be, or one less: EF_UNPACK_ROWS rows and more can always be cut so. */
_Static_assert(EF_UNPACK_ROWS >= (EF_UNPACKED_ROWS - 1) * (EF_UNPACKED_ROWS - 2), "heights of unpacked tiles");
/* That holds for the chunks of matmul, too: the least of several is at least half of the most that one may have. */
enum { EF_NAME(SLAB_BYTES) = EF_SLAB_COLUMNS / EF_BLOCK * (int)sizeof(ef_block_activation) };
_Static_assert(4 * EF_TILE_ROWS >= 2 * EF_UNPACK_ROWS || EF_CHUNK_BYTES / EF_NAME(SLAB_BYTES) >= 2 * EF_UNPACK_ROWS,
               "heights of unpacked tiles in chunks");
_Static_assert(EF_SLAB_ROWS >= 2 * EF_UNPACK_ROWS, "heights of unpacked tiles in chunks of a slab");
#define EF_TALL(width, ...) \
    if (rows == EF_UNPACKED_ROWS) \
        EF_NAME(slab_tile)(__VA_ARGS__, EF_UNPACKED_ROWS, width); \
    else \
        EF_NAME(slab_tile)(__VA_ARGS__, EF_UNPACKED_ROWS - 1, width);

#define EF_FORM_FUNCTION(bits, parts, minimum) \
    static void EF_NAME(tile_##bits##_##parts##_##minimum)(const ef_matmul *args, const EF_NAME(slab) *slab, \
                                                           int32_t row, int32_t panel, int rows, int panels) \
    { \
        EF_WIDTHS(EF_TALL, args, slab, row, panel, bits, parts, minimum) \
    }
EF_UNPACKED_FORMS(EF_FORM_FUNCTION)
#undef EF_FORM_FUNCTION
#undef EF_TALL

#define EF_FLOAT_CASE(name, id, bytes) case id: EF_NAME(tile_##name)(args, row, panel, rows, panels); return;
#define EF_FORM(bits, parts, minimum) (4 * (bits) + 2 * (parts) + (minimum))
#define EF_FORM_CASE(bits, parts, minimum) \
    case EF_FORM(bits, parts, minimum): \
        EF_NAME(tile_##bits##_##parts##_##minimum)(args, slab, row, panel, rows, panels); \
        return;
/* One tile of a matrix, of one with blocks over a slab; 1 <= rows <= EF_TILE_ROWS, 1 <= panels <= EF_TILE_PANELS. */
static void EF_NAME(tile)(const ef_matmul *args, const EF_NAME(slab) *slab, int32_t row, int32_t panel, int rows,
                          int panels)
{
    const ef_type_traits traits = ef_traits(args->weight.type);
    switch (args->weight.type) {
    EF_FLOAT_TYPES(EF_FLOAT_CASE)
    case EF_I8_ROW: EF_NAME(tile_i8_row)(args, row, panel, rows, panels); return;
    }
    switch (EF_FORM(EF_WIDTH(traits.bits), EF_BLOCK / traits.scale_columns, traits.has_min)) {
    EF_UNPACKED_FORMS(EF_FORM_CASE)
    }
}
#undef EF_FLOAT_CASE
#undef EF_FORM_CASE
#undef EF_FORM

/* Tiles of `rows` rows (constant) of panels [panel, end). */
EF_INLINE void EF_NAME(direct_tiles)(const ef_matmul *args, int32_t row, int32_t panel, int32_t end, const int type,
                                     const int rows)
{
    for (; panel < end; panel++)
        EF_NAME(direct_tile)(args, row, panel, EF_NAME(AHEAD), type, rows);
}

#define EF_DIRECT_FUNCTION(name, id, columns, bytes, shared, bits, offset, minimum) \
    static void EF_NAME(direct_##name)(const ef_matmul *args, int32_t row, int32_t panel, int32_t end, int rows) \
    { \
        switch (rows) { \
        case 1: EF_NAME(direct_tiles)(args, row, panel, end, id, 1); break; \
        case 2: EF_NAME(direct_tiles)(args, row, panel, end, id, 2); break; \
        case 4: \
            if (EF_UNPACK_ROWS > 4) /* else four rows are unpacked: nothing to compile */ \
                EF_NAME(direct_tiles)(args, row, panel, end, id, 4); \
            break; \
        } \
    } \
    static void EF_NAME(unpack_##name)(uint8_t *output, float *minima, const uint8_t *tile, int64_t num_columns) \
    { \
        EF_NAME(unpack_columns)(output, minima, id, tile, num_columns); \
    }
EF_QUANTIZED_TYPES(EF_DIRECT_FUNCTION)
#undef EF_DIRECT_FUNCTION

#define EF_DIRECT_CASE(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: EF_NAME(direct_##name)(args, row, panel, end, rows); break;
#define EF_UNPACK_CASE(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: EF_NAME(unpack_##name)(codes, minima, tile, slab->num_columns); break;
/* Tiles of 1, 2 or 4 rows of panels [panel, end) of a quantized matrix. */
static void EF_NAME(direct)(const ef_matmul *args, int32_t row, int32_t panel, int32_t end, int rows)
{
    switch (args->weight.type) {
    EF_QUANTIZED_TYPES(EF_DIRECT_CASE)
    }
}

/* Unpacks the slab's columns of `panels` panels. */
static void EF_NAME(unpack)(const EF_NAME(slab) *slab, const ef_matrix *weight, int32_t panel, int panels)
{
    const int64_t skipped = EF_TILE * ef_row_bytes(weight->type, slab->column);
    const uint8_t *first = weight->data + panel * weight->panel_bytes + skipped;
    for (int p = 0; p < panels; p++) {
        const uint8_t *tile = first + p * weight->panel_bytes;
        uint8_t *codes = slab->codes + p * slab->codes_bytes;
        float *minima = (float *)(void *)(slab->minima + p * slab->minima_bytes);
        switch (weight->type) {
        EF_QUANTIZED_TYPES(EF_UNPACK_CASE)
        }
    }
}
#undef EF_DIRECT_CASE
#undef EF_UNPACK_CASE

/* Asks for bytes [begin, end) of `panels` panels, while others are being worked on; they need not exist. */
EF_INLINE void EF_NAME(prefetch_panels)(const ef_matmul *args, int32_t panel, int panels, int64_t begin, int64_t end)
{
    const uint8_t *first = args->weight.data + panel * args->weight.panel_bytes;
    const int64_t bytes = panels * args->weight.panel_bytes;
    for (int64_t i = begin; i < (end < bytes ? end : bytes); i += 64)
        __builtin_prefetch(first + i, 0, 2);
}

/* Few rows by all panels of a quantized matrix: they wait for memory, so they read panels one by one, as the one plain
 * stream that the hardware foresees. */
static void EF_NAME(matmul_stream)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin,
                                   int32_t panel_end)
{
    const int32_t count = row_end - row_begin, one_tile = count == 1 || count == 2 || count == 4;
    for (int32_t panel = panel_begin, end; panel < panel_end; panel = end) {
        end = one_tile ? panel_end : panel + 1;
        for (int32_t row = row_begin, rows; row < row_end; row += rows) {
            rows = row_end - row >= 4 ? 4 : row_end - row >= 2 ? 2 : 1;
            EF_NAME(direct)(args, row, panel, end, rows);
        }
    }
}

/* The rows of one chunk by a group of panels: all columns, or a slab where the type has blocks. The rows are cut
 * into tiles of nearly equal height, because a tile of one row costs almost as much as one of three; meanwhile the
 * part of the next group of panels that `part` of `parts` says is fetched. */
static void EF_NAME(matmul_group)(const ef_matmul *args, const EF_NAME(slab) *slab, int32_t row_begin, int32_t row_end,
                                  int32_t panel, int panels, int32_t part, int32_t parts)
{
    const int32_t type = args->weight.type;
    const int32_t height = ef_type_has_blocks(type) ? EF_UNPACKED_ROWS
                         : type == EF_I8_ROW ? EF_BYTES_ROWS : EF_TILE_ROWS;
    const int32_t num_rows = row_end - row_begin, tiles = (num_rows + height - 1) / height;
    const int32_t least = num_rows / tiles, taller = num_rows % tiles;
    const int64_t lines = panels * args->weight.panel_bytes / 64;
    const int64_t fetched = (lines / ((int64_t)tiles * parts) + 1) * 64; /* by each tile */
    for (int32_t t = 0, row = row_begin; t < tiles; t++) {
        const int rows = least + (t < taller);
        const int64_t begin = ((int64_t)part * tiles + t) * fetched;
        if (tiles > 1 && EF_NAME(AHEAD) > 0)
            EF_NAME(prefetch_panels)(args, panel + panels, panels, begin, begin + fetched);
        EF_NAME(tile)(args, slab, row, panel, rows, panels);
        row += rows;
    }
}

/* Columns of a slab: the fewer panels, the more. */
enum { EF_NAME(SLAB_COLUMNS) = EF_SLAB_COLUMNS * EF_SLAB_PANELS / EF_TILE_PANELS };

/* The rows of one chunk by all panels. */
static void EF_NAME(matmul_chunk)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin,
                                  int32_t panel_end)
{
    const int64_t num_columns = args->weight.num_columns, slab_columns = EF_NAME(SLAB_COLUMNS);
    const int has_blocks = ef_type_has_blocks(args->weight.type);
    const int64_t blocks = slab_columns / EF_BLOCK;
    const int32_t slabs = has_blocks ? (int32_t)((num_columns + slab_columns - 1) / slab_columns) : 1;
    EF_NAME(slab) slab = {.codes_bytes = blocks * (EF_UNPACKED_CODES + 2 * EF_UNPACKED_PART),
                          .minima_bytes = blocks * 2 * EF_UNPACKED_PART,
                          .codes = args->scratch, .first_row = row_begin};
    if (has_blocks) {
        slab.minima = slab.codes + EF_TILE_PANELS * slab.codes_bytes;
        slab.sums = (float *)(void *)(slab.minima + EF_TILE_PANELS * slab.minima_bytes);
    }
    for (int32_t panel = panel_begin; panel < panel_end; panel += EF_TILE_PANELS) {
        const int panels = panel_end - panel < EF_TILE_PANELS ? panel_end - panel : EF_TILE_PANELS;
        for (int32_t s = 0; s < slabs; s++) {
            slab.column = s * slab_columns;
            slab.num_columns = num_columns - slab.column < slab_columns ? num_columns - slab.column : slab_columns;
            if (has_blocks)
                EF_NAME(unpack)(&slab, &args->weight, panel, panels);
            EF_NAME(matmul_group)(args, &slab, row_begin, row_end, panel, panels, s, slabs);
        }
    }
}

/* See ef_kernels.matmul. Rows go in chunks of nearly equal size whose inputs (of a quantized matrix: the slab's) stay
 * in the second-level cache while all panels pass by. */
static void EF_NAME(matmul)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin,
                            int32_t panel_end)
{
    if (ef_type_has_blocks(args->weight.type) && row_end - row_begin < EF_UNPACK_ROWS) {
        EF_NAME(matmul_stream)(args, row_begin, row_end, panel_begin, panel_end);
        return;
    }
    if (EF_NAME(streams_rows)(&args->weight, row_end - row_begin)) {
        EF_NAME(stream_i8_row)(args, row_begin, panel_begin, panel_end, row_end - row_begin);
        return;
    }
    const int32_t least = 4 * EF_TILE_ROWS;
    const int64_t slab_bytes = ef_matmul_slab_bytes(&args->weight);
    const int64_t row_bytes = slab_bytes < args->input_stride ? slab_bytes : args->input_stride;
    const int64_t fitting = EF_CHUNK_BYTES / row_bytes, kept = fitting < EF_SLAB_ROWS ? fitting : EF_SLAB_ROWS;
    const int64_t most = kept > least ? kept : least;
    const int32_t chunks = (int32_t)((row_end - row_begin + most - 1) / most);
    for (int32_t c = 0, row = row_begin; c < chunks; c++) {
        const int32_t rows = (row_end - row + chunks - c - 1) / (chunks - c);
        EF_NAME(matmul_chunk)(args, row, row + rows, panel_begin, panel_end);
        row += rows;
    }
}

#undef EF_CALL
#undef EF_HEIGHTS
#undef EF_SIZES
#undef EF_WIDTHS
#undef EF_WIDTH
#undef EF_UNPACKED_FORMS
#undef EF_UNPACK_ROWS
#undef EF_CHUNK_BYTES
#undef EF_UNPACKED_ROWS
#undef EF_OWN_ADD_PRODUCTS
#undef EF_BYTES_OFFSET
#undef EF_BYTES_ROWS
