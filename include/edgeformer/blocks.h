/* Quantized blocks as GGUF stores them, the packed tile layout that the kernels read, and quantized activations.
 *
 * Every matrix [num_rows = outputs N, num_columns = inputs K] is packed into tiles of sixteen rows:
 *     panel p = rows 16p .. 16p+15, panels one after another, `panel_bytes` apart;
 *     F32, F16, BF16     panel = [K][16 rows] elements
 *     Q8_0, Q4_0         panel = [K/32] tile blocks, below
 * Rows past N in the last panel are zero, so kernels always handle sixteen.
 */
#ifndef EDGEFORMER_BLOCKS_H
#define EDGEFORMER_BLOCKS_H

#include <stdint.h>

enum { EF_TILE = 16, EF_BLOCK = 32, EF_ALIGNMENT = 64 };

/* GGUF's tensor type ids (ggml.h). */
enum ef_type { EF_F32 = 0, EF_F16 = 1, EF_Q4_0 = 2, EF_Q8_0 = 8, EF_BF16 = 30 };

/* GGUF blocks: `scale` is an IEEE half; value = scale * q (Q8_0), scale * (nibble - 8) (Q4_0).
 * Q4_0: the low nibble of nibbles[i] is element i, the high nibble element i + 16. */
typedef struct { uint16_t scale; int8_t q[32]; } ef_block_q8_0;
typedef struct { uint16_t scale; uint8_t nibbles[16]; } ef_block_q4_0;

/* Tile blocks: sixteen rows x 32 columns.
 * q[g][r][i] is row r, column 4g + i. In Q4_0 the low nibble of nibbles[g][r][i] is column 4g + i (k-group g), the high
 * nibble column 4(g + 4) + i (k-group g + 4), both still offset by 8. scale[r] is row r's half. */
typedef struct { int8_t q[8][16][4]; uint16_t scale[16]; } ef_tile_q8_0;
typedef struct { uint8_t nibbles[4][16][4]; uint16_t scale[16]; } ef_tile_q4_0;

/* One block of a quantized activation row: x[i] ~ scale * q[i], |q| <= 127, scale = amax / 127, sum = q[0] + ... + q[31]. */
typedef struct { float scale; int32_t sum; int8_t q[32]; } ef_block_activation;

_Static_assert(sizeof(ef_block_q8_0) == 34, "GGUF Q8_0 block");
_Static_assert(sizeof(ef_block_q4_0) == 18, "GGUF Q4_0 block");
_Static_assert(sizeof(ef_tile_q8_0) == 544, "Q8_0 tile block");
_Static_assert(sizeof(ef_tile_q4_0) == 288, "Q4_0 tile block");
_Static_assert(sizeof(ef_block_activation) == 40, "activation block");

/* A packed matrix. `data` is 64-byte aligned. */
typedef struct ef_matrix {
    const uint8_t *data;
    int64_t panel_bytes;
    int32_t type; /* enum ef_type */
    int32_t num_rows, num_columns;
} ef_matrix;

/* Whether a matrix of this type takes quantized activations (ef_block_activation) or float rows. */
static inline int ef_type_is_quantized(int32_t type) { return type == EF_Q8_0 || type == EF_Q4_0; }

static inline int64_t ef_panel_bytes(int32_t type, int64_t num_columns)
{
    switch (type) {
    case EF_F32: return num_columns * EF_TILE * 4;
    case EF_F16:
    case EF_BF16: return num_columns * EF_TILE * 2;
    case EF_Q8_0: return num_columns / EF_BLOCK * (int64_t)sizeof(ef_tile_q8_0);
    case EF_Q4_0: return num_columns / EF_BLOCK * (int64_t)sizeof(ef_tile_q4_0);
    default: return 0;
    }
}

/* Bytes of one row as GGUF stores it; 0 for a type that is not known here. */
static inline int64_t ef_row_bytes(int32_t type, int64_t num_columns)
{
    switch (type) {
    case EF_F32: return num_columns * 4;
    case EF_F16:
    case EF_BF16: return num_columns * 2;
    case EF_Q8_0: return num_columns / EF_BLOCK * (int64_t)sizeof(ef_block_q8_0);
    case EF_Q4_0: return num_columns / EF_BLOCK * (int64_t)sizeof(ef_block_q4_0);
    default: return 0;
    }
}

#endif
