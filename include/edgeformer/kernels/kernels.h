/* What kernels are given: argument structs, and the struct of pointers to all of them (list.h).
 *
 * Rules for all kernels: they never allocate, print, abort or touch anything not named in their arguments; `_begin` is
 * inclusive, `_end` exclusive; rows of floats start on a 64-byte boundary and their stride is a multiple of sixteen
 * floats, so a kernel may read and write the padding up to the next multiple of sixteen columns, whose content is
 * unspecified and must never reach a result. The result is the same to the last bit for every instruction set and however
 * the ranges are cut.
 */
#ifndef EDGEFORMER_KERNELS_H
#define EDGEFORMER_KERNELS_H

#include "edgeformer/types/tiles.h"

/* Lists that C and Python share: row(NAME, name). Their names in Python are core.ACTIVATIONS, PAIRINGS and POOLINGS. */
#define EF_ACTIVATIONS(row) /* math.h has a function of each name */ \
    row(NONE, none) row(RELU, relu) row(GELU, gelu) /* with erf */ row(GELU_TANH, gelu_tanh) row(SILU, silu) \
    row(QUICK_GELU, quick_gelu) row(RELU_SQUARED, relu_squared) row(SIGMOID, sigmoid) row(TANH, tanh)
#define EF_PAIRINGS(row) \
    row(HALVES, halves)         /* (i, i + d/2), GPT-NeoX and Hugging Face */ \
    row(NEIGHBOURS, neighbours) /* (2i, 2i + 1), GGUF llama */
#define EF_POOLINGS(row) row(MEAN, mean) row(FIRST, first) row(LAST, last)

#define EF_ROW(upper, lower) EF_ACT_##upper,
enum ef_activation { EF_ACTIVATIONS(EF_ROW) EF_ACT_COUNT };
#undef EF_ROW
#define EF_ROW(upper, lower) EF_PAIR_##upper,
enum ef_pairing { EF_PAIRINGS(EF_ROW) EF_PAIR_COUNT };
#undef EF_ROW
#define EF_ROW(upper, lower) EF_POOL_##upper,
enum ef_pooling { EF_POOLINGS(EF_ROW) EF_POOL_COUNT };
#undef EF_ROW
#define EF_ROW(upper, lower) #lower,
static const char *const ef_activation_names[] = {EF_ACTIVATIONS(EF_ROW)};
static const char *const ef_pairing_names[] = {EF_PAIRINGS(EF_ROW)};
static const char *const ef_pooling_names[] = {EF_POOLINGS(EF_ROW)};
#undef EF_ROW

enum { EF_WEIGHT_CHUNK = 1024 }; /* weights whose sum `weigh` gives */
enum { EF_PAGE = EF_TILE };      /* positions of a page of a cache */

/* output[r][n] = residual[r][n] + activation(sum_k input[r][k] * weight[n][k] + bias[n]). */
typedef struct ef_matmul {
    ef_matrix weight;
    const void *input;      /* float rows, or ef_block_activation rows where ef_type_is_quantized(weight.type) */
    int64_t input_stride;   /* bytes from row to row */
    float *output;          /* may be written up to the padded width of the last panel */
    int64_t output_stride;  /* bytes */
    const float *bias;      /* NULL, or padded with zeros to a multiple of sixteen */
    const float *residual;  /* NULL, or float rows; may be the same memory as output */
    int64_t residual_stride; /* bytes */
    int32_t activation;     /* enum ef_activation */
    uint8_t *scratch;       /* ef_matmul_scratch(&weight) bytes on a 64-byte boundary, private to the caller */
} ef_matmul;

/* Pages of sixteen positions: page -> layer -> keys of every head [key_dim][16], then values of every head
 * [16][value_dim padded to 16]. Padding of the values is zero.
 * EF_Q8_0: keys as ef_tile_q8_0 for each 32 of key_dim, the positions as its rows, padded with zeros; values as bytes,
 * [16][value_dim padded to 16], then their scales as halves, [columns / 32, rounded up][16]. */
typedef struct ef_cache {
    uint8_t *pages;         /* 64-byte aligned */
    int64_t page_bytes;
    int32_t type;           /* EF_F32, EF_F16 or EF_Q8_0 */
    int32_t num_layers, num_heads, key_dim, value_dim;
} ef_cache;

/* One sequence's part of a batch, seen from one cache. */
typedef struct ef_segment {
    int32_t first_row, num_rows; /* rows of the batch */
    int32_t position;            /* cache position of the first row */
    int32_t kv_length;           /* positions that a row may see where the mask is not causal */
    int32_t first_page;          /* index into the page table of this sequence's first page */
    int32_t prefix;              /* so many first positions see one another both ways where ef_attention.prefix is set */
} ef_segment;

/* What is added to the scores, a table for each head: in the table of a head the value for query position q and key
 * position 16 p + lane is element clamp(row_step * q + 16 p, low, high) - low + lane. */
typedef struct ef_bias {
    const float *table; /* [head][head_stride], finite */
    int64_t head_stride, row_step, low, high;
} ef_bias;

/* By distance: behind + 1 + ahead values for key position - query position from -behind to ahead, beyond which the ends
 * count; before and after them fifteen copies of the end. */
static inline ef_bias ef_bias_by_distance(const float *table, int32_t behind, int32_t ahead)
{
    const int64_t copies = EF_TILE - 1, low = -behind - copies;
    return (ef_bias){table, ahead + copies + 1 - low, -1, low, ahead};
}

/* By both positions: [num_rows][num_columns padded to sixteen] for query and key positions below num_rows and
 * num_columns. */
static inline ef_bias ef_bias_dense(const float *table, int32_t num_rows, int32_t num_columns)
{
    const int64_t width = ((int64_t)num_columns + EF_TILE - 1) / EF_TILE * EF_TILE;
    return (ef_bias){table, num_rows * width, width, 0, num_rows * width - EF_TILE};
}

/* What the rows themselves add to scores, by the bucket of the distance (Shaw et al. 2018; He et al. 2021): to the score
 * of a query and a key of head h, element h of the query's row and element num_heads + h of the key's, at the bucket.
 * The keys are the rows of the segment, from position 0 on. */
typedef struct ef_relative {
    const float *scores;  /* [row][2 * num_heads][num_buckets] */
    int64_t stride;       /* bytes */
    const float *buckets; /* of key position - query position from -behind to ahead, beyond which the ends count; whole
                             numbers, from 0 on and below num_buckets */
    int32_t num_buckets, behind, ahead;
} ef_relative;

typedef struct ef_attention {
    const float *query;     /* [row][num_heads * key_dim] */
    int64_t query_stride;   /* bytes */
    float *output;          /* [row][num_heads * value_dim]; only these columns are written */
    int64_t output_stride;  /* bytes */
    const ef_cache *cache;
    const int32_t *page_table;
    int32_t layer, num_heads;
    int32_t causal;         /* row i of a segment sees positions 0 .. position + i, else 0 .. kv_length - 1 */
    int32_t prefix;         /* causal: a row below the segment's prefix sees 0 .. prefix - 1 */
    int32_t window;         /* 0, or row i sees no position that is so far or farther from position + i, either way */
    float scale;            /* of the scores */
    float soft_cap;         /* 0, or a score s becomes soft_cap * tanh(s / soft_cap), before the bias is added */
    const ef_bias *bias;    /* NULL, or what is added to the scores */
    const float *sinks;     /* NULL, or a score for each head that takes part in the softmax and has no value; finite */
    const ef_relative *relative; /* NULL, or what rows add to the scores, after the bias */
} ef_attention;

#include "edgeformer/kernels/list.h"

#define EF_KERNEL(name, result, arguments) result (*name) arguments;
/* The kernels of one instruction set. None is NULL: isa.h makes the table from the same list. */
typedef struct ef_kernels {
    const char *isa;
    EF_KERNELS(EF_KERNEL)
} ef_kernels;
#undef EF_KERNEL

#define EF_KERNEL(name, result, arguments) #name,
/* Their names, in the order of the list. */
static const char *const ef_kernel_names[] = {EF_KERNELS(EF_KERNEL)};
#undef EF_KERNEL
#define EF_ROW(name) #name,
static const char *const ef_row_function_names[] = {EF_ROW_FUNCTIONS(EF_ROW)};
#undef EF_ROW
enum { EF_ROW_FUNCTION_COUNT = sizeof ef_row_function_names / sizeof ef_row_function_names[0] };
/* The row function of that name among the kernels; 0 <= index < EF_ROW_FUNCTION_COUNT. */
static inline ef_row_function ef_row_function_of(const ef_kernels *kernels, int32_t index)
{
#define EF_ROW(name) kernels->name,
    const ef_row_function functions[] = {EF_ROW_FUNCTIONS(EF_ROW)};
#undef EF_ROW
    return functions[index];
}
enum { EF_KERNEL_COUNT = sizeof ef_kernel_names / sizeof ef_kernel_names[0] };

/* A product of many rows unpacks some columns of a group of panels at a time, a slab, so that they stay in the first-level
 * cache while the rows pass by, and keeps the rows' sums between slabs. */
enum {
    EF_SLAB_COLUMNS = 512, EF_SLAB_PANELS = 2, /* at most */
    EF_SLAB_ROWS = 512,                        /* of one pass */
    EF_UNPACKED_CODES = EF_BLOCK * EF_TILE, EF_UNPACKED_PART = EF_TILE * 4 /* bytes of thirty-two columns unpacked */
};

/* Bytes of a row that a product with this matrix reads at a time. */
static inline int64_t ef_matmul_slab_bytes(const ef_matrix *weight)
{
    return ef_type_has_blocks(weight->type) ? EF_SLAB_COLUMNS / EF_BLOCK * (int64_t)sizeof(ef_block_activation) : INT64_MAX;
}

/* Bytes of scratch that a product with this matrix needs: codes, scales and minima of a slab, then two sums a row and
 * panel. */
static inline int64_t ef_matmul_scratch(const ef_matrix *weight)
{
    const int64_t blocks = EF_SLAB_COLUMNS / EF_BLOCK, columns = EF_UNPACKED_CODES + 4 * EF_UNPACKED_PART;
    return ef_type_has_blocks(weight->type) ? EF_SLAB_PANELS * (blocks * columns + 2 * EF_SLAB_ROWS * EF_UNPACKED_PART) : 0;
}

static inline int64_t ef_pad16(int64_t n) { return (n + 15) & ~(int64_t)15; }
/* Blocks of 32 that hold n columns. */
static inline int64_t ef_cache_blocks(int64_t n) { return (n + EF_BLOCK - 1) / EF_BLOCK; }
static inline int64_t ef_cache_element(int32_t type) { return type == EF_F32 ? 4 : type == EF_F16 ? 2 : 1; }
static inline int64_t ef_cache_head_key_bytes(const ef_cache *c)
{
    if (c->type == EF_Q8_0)
        return ef_cache_blocks(c->key_dim) * (int64_t)sizeof(ef_tile_q8_0);
    return (int64_t)c->key_dim * EF_TILE * ef_cache_element(c->type);
}
static inline int64_t ef_cache_head_value_bytes(const ef_cache *c)
{
    const int64_t scales = c->type == EF_Q8_0 ? ef_cache_blocks(c->value_dim) * EF_TILE * 2 : 0;
    return EF_TILE * ef_pad16(c->value_dim) * ef_cache_element(c->type) + scales;
}
static inline int64_t ef_cache_layer_bytes(const ef_cache *c)
{
    return c->num_heads * (ef_cache_head_key_bytes(c) + ef_cache_head_value_bytes(c));
}
static inline uint8_t *ef_cache_key(const ef_cache *c, int32_t page, int32_t layer, int32_t head)
{
    return c->pages + page * c->page_bytes + layer * ef_cache_layer_bytes(c) + head * ef_cache_head_key_bytes(c);
}
static inline uint8_t *ef_cache_value(const ef_cache *c, int32_t page, int32_t layer, int32_t head)
{
    return c->pages + page * c->page_bytes + layer * ef_cache_layer_bytes(c) + c->num_heads * ef_cache_head_key_bytes(c) +
           head * ef_cache_head_value_bytes(c);
}

#endif
