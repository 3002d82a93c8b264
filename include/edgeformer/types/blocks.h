/* Weight types: what GGUF stores of each, the packed tile layout that the kernels read, and quantized activations.
 *
 * Every matrix [num_rows = outputs N, num_columns = inputs K] is packed into panels of sixteen rows, panel p = rows
 * 16p .. 16p+15, one after another, `panel_bytes` apart:
 *     F32, F16, BF16     panel = [K][16 rows] elements
 *     I8_ROW             panel = [K/4][16 rows][4] bytes, then the rows' scales, float [16]
 *     the others         panel = [K / columns of a block] tiles (tiles.h), each sixteen rows' blocks in the same number of
 *                        bytes
 * Rows past N in the last panel are zero, so kernels always handle sixteen. The layout is the same for every instruction
 * set.
 */
#ifndef EDGEFORMER_BLOCKS_H
#define EDGEFORMER_BLOCKS_H

#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "edgeformer runs on little-endian processors: GGUF, packed weights and the kernels take that order for granted"
#endif

enum { EF_TILE = 16, EF_BLOCK = 32, EF_SUPER_BLOCK = 256, EF_ALIGNMENT = 64 };

/* GGUF's tensor type ids (ggml.h), and one of ours. */
enum ef_type {
    EF_F32 = 0, EF_F16 = 1, EF_Q4_0 = 2, EF_Q4_1 = 3, EF_Q5_0 = 6, EF_Q5_1 = 7, EF_Q8_0 = 8, EF_Q2_K = 10, EF_Q3_K = 11,
    EF_Q4_K = 12, EF_Q5_K = 13, EF_Q6_K = 14, EF_IQ4_NL = 20, EF_IQ4_XS = 23, EF_BF16 = 30, EF_TQ1_0 = 34, EF_TQ2_0 = 35,
    EF_MXFP4 = 39, EF_I8_ROW = 0x656601
};

/* The types whose weights are small integers with a scale (and a minimum) every few columns:
 *     weight = scale * (code - offset) + minimum
 * row(name, id, columns of a block, bytes of a block, columns that share a scale: 32 or 16, bits of a code, offset,
 *     whether there is a minimum). A code of b bits is below 2^b; codes are what types_*.h makes of the stored bits. */
#define EF_QUANTIZED_TYPES(row) \
    row(q4_0, EF_Q4_0, 32, 18, 32, 4, 8, 0) \
    row(q4_1, EF_Q4_1, 32, 20, 32, 4, 0, 1) \
    row(q5_0, EF_Q5_0, 32, 22, 32, 5, 16, 0) \
    row(q5_1, EF_Q5_1, 32, 24, 32, 5, 0, 1) \
    row(q8_0, EF_Q8_0, 32, 34, 32, 8, 128, 0) \
    row(iq4_nl, EF_IQ4_NL, 32, 18, 32, 8, 128, 0) \
    row(mxfp4, EF_MXFP4, 32, 17, 32, 5, 12, 0) \
    row(q2_k, EF_Q2_K, 256, 84, 16, 4, 0, 1) \
    row(q3_k, EF_Q3_K, 256, 110, 16, 4, 4, 0) \
    row(q4_k, EF_Q4_K, 256, 144, 32, 4, 0, 1) \
    row(q5_k, EF_Q5_K, 256, 176, 32, 5, 0, 1) \
    row(q6_k, EF_Q6_K, 256, 210, 16, 6, 32, 0) \
    row(iq4_xs, EF_IQ4_XS, 256, 136, 32, 8, 128, 0) \
    row(tq1_0, EF_TQ1_0, 256, 54, 32, 4, 1, 0) \
    row(tq2_0, EF_TQ2_0, 256, 66, 32, 4, 1, 0)

/* Bytes of a scale of I8_ROW, in GGUF before the row's bytes: weight = scale * byte. */
enum { EF_ROW_SCALE = 4, EF_ROW_COLUMNS = 65536 /* at most: 2^16 * 2^8 * 127 < 2^31 */ };

/* The types that are multiplied as floats: row(name, id, bytes of an element). */
#define EF_FLOAT_TYPES(row) row(f32, EF_F32, 4) row(f16, EF_F16, 2) row(bf16, EF_BF16, 2)

/* One block of a quantized activation row: x[i] ~ scale * q[i], |q| <= 127, scale = amax / 127; sum = q[0] + ... + q[31],
 * low_sum = q[0] + ... + q[15], scaled_sum = scale * sum. For I8_ROW amax is the whole row's, all its blocks have the
 * same scale, and the sum of all its q follows them as an int32 (ef_row_total). */
typedef struct { float scale, scaled_sum; int16_t sum, low_sum; int8_t q[32]; } ef_block_activation;
_Static_assert(sizeof(ef_block_activation) == 44, "activation block");

/* The sum of part `part` of `parts`, 1 or 2. */
static inline __attribute__((always_inline)) int32_t ef_activation_sum(const ef_block_activation *block, int parts, int part)
{
    return parts == 1 ? block->sum : part == 0 ? block->low_sum : block->sum - block->low_sum;
}

/* Where the sum of a row of `num_columns` quantized activations with one scale is kept. */
static inline __attribute__((always_inline)) int32_t *ef_row_total(const void *blocks, int64_t num_columns)
{
    return (int32_t *)(void *)((const ef_block_activation *)blocks + num_columns / EF_BLOCK);
}

/* A packed matrix. `data` is 64-byte aligned. */
typedef struct ef_matrix {
    const uint8_t *data;
    int64_t panel_bytes;
    int32_t type; /* enum ef_type */
    int32_t num_rows, num_columns;
} ef_matrix;

/* What the kernels need to know of a type; all zero for one that is unknown here. */
typedef struct ef_type_traits {
    const char *name;
    int32_t id;
    int32_t block_columns, block_bytes; /* of one row; a tile is sixteen times as large */
    int32_t scale_columns;              /* that share a scale; 0: a float type, -1: the whole row does (I8_ROW) */
    int32_t bits, offset, has_min;
    int32_t row_bytes;                  /* of a row beside its blocks */
} ef_type_traits;

#define EF_QUANTIZED_ROW(name, id, columns, bytes, shared, bits, offset, minimum) \
    case id: return (ef_type_traits){#name, id, columns, bytes, shared, bits, offset, minimum, 0};
#define EF_FLOAT_ROW(name, id, bytes) case id: return (ef_type_traits){#name, id, 1, bytes, 0, 0, 0, 0, 0};
static inline __attribute__((always_inline)) ef_type_traits ef_traits(int32_t type)
{
    switch (type) {
    EF_QUANTIZED_TYPES(EF_QUANTIZED_ROW)
    EF_FLOAT_TYPES(EF_FLOAT_ROW)
    case EF_I8_ROW: return (ef_type_traits){"i8_row", EF_I8_ROW, EF_BLOCK, EF_BLOCK, -1, 8, 128, 0, EF_ROW_SCALE};
    default: return (ef_type_traits){0};
    }
}
#undef EF_QUANTIZED_ROW
#undef EF_FLOAT_ROW

#define EF_QUANTIZED_ROW(name, id, columns, bytes, shared, bits, offset, minimum) id,
#define EF_FLOAT_ROW(name, id, bytes) id,
/* Every type that there are kernels for. */
static const int32_t ef_type_ids[] = {EF_FLOAT_TYPES(EF_FLOAT_ROW) EF_QUANTIZED_TYPES(EF_QUANTIZED_ROW) EF_I8_ROW};
#undef EF_QUANTIZED_ROW
#undef EF_FLOAT_ROW

/* Whether a matrix of this type takes quantized activations (ef_block_activation) or float rows. */
static inline int ef_type_is_quantized(int32_t type) { return ef_traits(type).scale_columns != 0; }

/* Whether its weights have scales every few columns: a type of EF_QUANTIZED_TYPES. */
static inline int ef_type_has_blocks(int32_t type) { return ef_traits(type).scale_columns > 0; }

/* Bytes of one row as GGUF stores it; 0 for a type that is not known here. num_columns is whole blocks. */
static inline int64_t ef_row_bytes(int32_t type, int64_t num_columns)
{
    const ef_type_traits traits = ef_traits(type);
    return traits.block_columns ? num_columns / traits.block_columns * traits.block_bytes + traits.row_bytes : 0;
}

static inline int64_t ef_panel_bytes(int32_t type, int64_t num_columns) { return EF_TILE * ef_row_bytes(type, num_columns); }

#endif
