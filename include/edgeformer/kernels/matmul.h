/* The product of rows with a packed matrix (ef_kernels.matmul), its epilogue and the order in which tiles are visited.
 *
 * A tile is up to EF_TILE_ROWS rows by EF_TILE_PANELS panels, its sums held in registers while k runs over all columns
 * in ascending order; an element's bits depend on nothing else. */

/* Writes sums[rows][panels][16], the finished sums of a tile, through bias, activation and residual. */
static void EF_NAME(finish_tile)(const ef_matmul *args, const float *sums, int32_t row, int32_t panel, int rows,
                                 int panels)
{
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < panels; p++) {
            const int64_t column = (int64_t)(panel + p) * EF_TILE;
            ef_f32x16 value = ef_f32x16_load(sums + (r * panels + p) * EF_TILE);
            if (args->bias)
                value = ef_f32x16_add(value, ef_f32x16_load(args->bias + column));
            if (args->activation != EF_ACT_NONE)
                value = EF_NAME(activate_vector)(value, args->activation);
            if (args->residual) {
                const uint8_t *residuals = (const uint8_t *)args->residual + (row + r) * args->residual_stride;
                value = ef_f32x16_add(ef_f32x16_load((const float *)residuals + column), value);
            }
            ef_f32x16_store((float *)((uint8_t *)args->output + (row + r) * args->output_stride) + column, value);
        }
}

#if EF_PRODUCT == EF_PRODUCT_SCALAR
#include "product_scalar.h"
#elif EF_PRODUCT == EF_PRODUCT_DPBUSD
#include "product_dpbusd.h"
#elif EF_PRODUCT == EF_PRODUCT_MADDUBS
#include "product_maddubs.h"
#else
#include "product_neon.h"
#endif

#include "matmul_float.h"
#include "matmul_quantized.h"

/* Calls `function`, a tile compiled for constant height and width, with those constants. */
#define EF_TILE_CASE(function, type, rows, panels) \
    case rows: EF_NAME(function)(args, row, panel, ahead_bytes, type, rows, panels); break;
#if EF_TILE_ROWS == 6
#define EF_TILE_HEIGHTS(function, type, panels) \
    EF_TILE_CASE(function, type, 1, panels) EF_TILE_CASE(function, type, 2, panels) \
    EF_TILE_CASE(function, type, 3, panels) EF_TILE_CASE(function, type, 4, panels) \
    EF_TILE_CASE(function, type, 5, panels) EF_TILE_CASE(function, type, 6, panels)
#else
#define EF_TILE_HEIGHTS(function, type, panels) \
    EF_TILE_CASE(function, type, 1, panels) EF_TILE_CASE(function, type, 2, panels) \
    EF_TILE_CASE(function, type, 3, panels) EF_TILE_CASE(function, type, 4, panels)
#endif
#define EF_TILE_SWITCH(function, type, panels) \
    switch (rows) { \
        EF_TILE_HEIGHTS(function, type, panels) \
    }

/* One tile of a matrix of each type; 1 <= rows <= EF_TILE_ROWS, 1 <= panels <= EF_TILE_PANELS. */
#if EF_TILE_PANELS == 2
#define EF_TILE_FUNCTION(name, function, type) \
    static void EF_NAME(name)(const ef_matmul *args, int32_t row, int32_t panel, int rows, int panels, \
                              int ahead_bytes) \
    { \
        if (panels == 2) \
            EF_TILE_SWITCH(function, type, 2) \
        else \
            EF_TILE_SWITCH(function, type, 1) \
    }
#else
#define EF_TILE_FUNCTION(name, function, type) \
    static void EF_NAME(name)(const ef_matmul *args, int32_t row, int32_t panel, int rows, int panels, \
                              int ahead_bytes) \
    { \
        (void)panels; \
        EF_TILE_SWITCH(function, type, 1) \
    }
#endif
EF_TILE_FUNCTION(tile_f32, float_tile, EF_F32)
EF_TILE_FUNCTION(tile_f16, float_tile, EF_F16)
EF_TILE_FUNCTION(tile_bf16, float_tile, EF_BF16)
EF_TILE_FUNCTION(tile_q8_0, quantized_tile, EF_Q8_0)
EF_TILE_FUNCTION(tile_q4_0, quantized_tile, EF_Q4_0)
#undef EF_TILE_CASE
#undef EF_TILE_HEIGHTS
#undef EF_TILE_SWITCH
#undef EF_TILE_FUNCTION

/* One tile of any matrix. */
static void EF_NAME(tile)(const ef_matmul *args, int32_t row, int32_t panel, int rows, int panels, int ahead_bytes)
{
    switch (args->weight.type) {
    case EF_F32: EF_NAME(tile_f32)(args, row, panel, rows, panels, ahead_bytes); break;
    case EF_F16: EF_NAME(tile_f16)(args, row, panel, rows, panels, ahead_bytes); break;
    case EF_BF16: EF_NAME(tile_bf16)(args, row, panel, rows, panels, ahead_bytes); break;
    case EF_Q8_0: EF_NAME(tile_q8_0)(args, row, panel, rows, panels, ahead_bytes); break;
    case EF_Q4_0: EF_NAME(tile_q4_0)(args, row, panel, rows, panels, ahead_bytes); break;
    }
}

/* Asks for one of `parts` parts of `panels` panels, while others are being worked on; they need not exist. */
static void EF_NAME(prefetch_panels)(const ef_matmul *args, int32_t panel, int panels, int32_t part, int32_t parts)
{
    const uint8_t *first = args->weight.data + panel * args->weight.panel_bytes;
    const int64_t bytes = panels * args->weight.panel_bytes, end = bytes * (part + 1) / parts;
    for (int64_t i = bytes * part / parts; i < end; i += 64)
        __builtin_prefetch(first + i, 0, 2);
}

/* The rows of one chunk by all panels. A group of panels stays near while the rows pass by, and the next group is
 * fetched meanwhile. The rows are cut into tiles of nearly equal height, because a tile of one row costs almost as
 * much as one of three. Few rows wait for memory, so they read panels one by one, as the one plain stream that the
 * hardware foresees. */
static void EF_NAME(matmul_chunk)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin,
                                  int32_t panel_end)
{
    /* Bytes that a load from the second-level cache, or from memory, lies behind the product. */
    enum { NEAR = 4096, FAR = 8704 };
    const int32_t tiles = (row_end - row_begin + EF_TILE_ROWS - 1) / EF_TILE_ROWS;
    const int32_t width = row_end - row_begin <= EF_STREAM_ROWS ? 1 : EF_TILE_PANELS;
    for (int32_t panel = panel_begin; panel < panel_end; panel += width) {
        const int panels = panel_end - panel < width ? panel_end - panel : width;
        for (int32_t t = 0, row = row_begin; t < tiles; t++) {
            const int rows = (row_end - row + tiles - t - 1) / (tiles - t);
            if (tiles > 1)
                EF_NAME(prefetch_panels)(args, panel + panels, panels, t, tiles);
            EF_NAME(tile)(args, row, panel, rows, panels, tiles > 1 ? NEAR : FAR);
            row += rows;
        }
    }
}

/* See ef_kernels.matmul. Rows go in chunks of nearly equal size whose inputs stay in the second-level cache while all
 * panels pass by. */
static void EF_NAME(matmul)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin,
                            int32_t panel_end)
{
    const int32_t least = 4 * EF_TILE_ROWS;
    const int64_t fitting = EF_CHUNK_BYTES / args->input_stride, most = fitting > least ? fitting : least;
    const int32_t chunks = (int32_t)((row_end - row_begin + most - 1) / most);
    for (int32_t c = 0, row = row_begin; c < chunks; c++) {
        const int32_t rows = (row_end - row + chunks - c - 1) / (chunks - c);
        EF_NAME(matmul_chunk)(args, row, row + rows, panel_begin, panel_end);
        row += rows;
    }
}

#undef EF_STREAM_ROWS
#undef EF_CHUNK_BYTES
#undef EF_TILE_ROWS
#undef EF_TILE_PANELS
#undef EF_PRODUCT_ROWS
