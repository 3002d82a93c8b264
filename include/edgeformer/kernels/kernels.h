/* What every kernel is given and what it must leave behind: argument structs and the table of function pointers.
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

enum ef_activation { EF_ACT_NONE = 0, EF_ACT_RELU = 1, EF_ACT_GELU = 2 /* erf */, EF_ACT_GELU_TANH = 3, EF_ACT_SILU = 4 };
enum ef_pairing {
    EF_PAIR_HALVES = 0,     /* (i, i + d/2), GPT-NeoX and Hugging Face */
    EF_PAIR_NEIGHBOURS = 1, /* (2i, 2i + 1), GGUF llama */
};
enum { EF_WEIGHT_CHUNK = 1024 }; /* weights whose sum `weigh` gives */
enum ef_pool_kind { EF_POOL_MEAN = 0, EF_POOL_FIRST = 1, EF_POOL_LAST = 2 };

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
    int32_t reserved;
} ef_segment;

typedef struct ef_attention {
    const float *query;     /* [row][num_heads * key_dim] */
    int64_t query_stride;   /* bytes */
    float *output;          /* [row][num_heads * value_dim]; only these columns are written */
    int64_t output_stride;  /* bytes */
    const ef_cache *cache;
    const int32_t *page_table;
    int32_t layer, num_heads;
    int32_t causal;         /* row i of a segment sees positions 0 .. position + i, else 0 .. kv_length - 1 */
    int32_t window;         /* 0, or how many of the latest positions a row sees */
    float scale;            /* of the scores */
} ef_attention;

/* One row: LayerNorm, RMSNorm and kin. `output` may be `input`; nothing past n is written; bias may be NULL. */
typedef void (*ef_row_function)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                                float epsilon);

typedef struct ef_kernels {
    const char *name;

    /* Packs GGUF rows [row_begin, row_end) of a matrix into `panels`; row_begin is a multiple of sixteen; source points to
     * row_begin's bytes. Rows from row_end to the next multiple of sixteen are written as zeros. */
    void (*pack)(uint8_t *panels, int32_t type, int64_t num_columns, const uint8_t *source, int64_t row_begin,
                 int64_t row_end);
    void (*matmul)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin, int32_t panel_end);
    /* One row of a packed matrix as floats: output[k] = (add ? add[k] : 0) + scale * weight[row][k], k < num_columns. */
    void (*embed)(float *output, const ef_matrix *weight, int32_t row, float scale, const float *add);

    void (*quantize)(ef_block_activation *output, const float *input, int64_t n); /* n % 32 == 0 */
    /* One scale for all blocks, and after them the row's total. */
    void (*quantize_row)(ef_block_activation *output, const float *input, int64_t n);
    void (*activate)(float *output, const float *input, int64_t n, int32_t activation);
    /* activation(gate) * up */
    void (*gate)(float *output, const float *gate, const float *up, int64_t n, int32_t activation);
    void (*add)(float *output, const float *a, const float *b, int64_t n);
    ef_row_function layer_norm, rms_norm, l2_norm;
    /* cos_sin[i] = cos(position * frequency[i]) * scale, cos_sin[half + i] the sine, i < half. */
    void (*rotary)(float *cos_sin, int32_t position, const float *frequency, int64_t half, float scale);
    /* Rotates the first 2*half of each head's head_dim values, in place. */
    void (*rope)(float *row, const float *cos_sin, int32_t num_heads, int32_t head_dim, int32_t half, int32_t pairing);
    void (*softmax)(float *output, const float *input, int64_t n);     /* n >= 1 */
    void (*log_softmax)(float *output, const float *input, int64_t n);
    /* Logarithm of the sum of exp(x - *largest), *largest being the greatest: log_softmax is (x - *largest) - that. n >= 1 */
    float (*log_sum_exp)(float *largest, const float *input, int64_t n);

    int32_t (*is_finite)(const float *input, int64_t n); /* whether no value is infinite or NaN */
    /* Indices of the `count` greatest values, greatest first, of equals the lowest first. 1 <= count <= n, no NaN.
     * heap: `count` numbers of scratch. */
    void (*top)(int32_t *indices, int32_t count, const float *values, int32_t n, uint64_t *heap);
    /* weights = exp((input - largest) / temperature), 0 where below `least`; the double sum of each EF_WEIGHT_CHUNK. */
    void (*weigh)(float *weights, double *sums, const float *input, int64_t n, float largest, float temperature,
                  float least);

    /* Writes the keys and values of `count` rows at slots slot .. slot + count - 1 of the page, rounded to the cache's type;
     * the padding becomes zero. key: [num_heads * key_dim] of the first row, key_stride bytes from row to row; value alike. */
    void (*store_kv)(const ef_cache *cache, int32_t page, int32_t layer, int32_t slot, int32_t count, const float *key,
                     int64_t key_stride, const float *value, int64_t value_stride);
    /* Rows [row_begin, row_end) of the segment (0 = its first row), all query heads of one key-value head; num_heads of the
     * arguments is a multiple of the cache's. Every row must see at least one position, else its output is NaN.
     * scratch, here and below: ef_attention_scratch floats, private to the caller. */
    void (*attention)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t row_begin,
                      int32_t row_end, float *scratch);
    /* The same for all rows of the segment in two steps: parts of spans, in any order, then all of them merged into the
     * output. parts: [span][ef_attention_tiles of the queries][ef_attention_part] floats, spans from position 0 on. */
    void (*attention_split)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t span_begin,
                            int32_t span_end, float *parts, float *scratch);
    void (*attention_join)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t num_spans,
                           const float *parts, float *scratch);
    /* mean, first or last of rows [0, num_rows) of width n. */
    void (*pool)(float *output, const float *input, int64_t input_stride, int32_t num_rows, int64_t n, int32_t kind);

    /* For measurements. Multiply-adds from registers alone, 0 <= rounds <= 2^22, each of one by one; returns how many, by
     * their sum: eight-bit integers, those small enough to be summed in sixteen bits, floats. */
    int64_t (*count_int8)(int64_t rounds);
    int64_t (*count_int4)(int64_t rounds);
    int64_t (*count_float)(int64_t rounds);
    /* Reads `bytes`, a multiple of 256, from an address that is a multiple of eight: the exclusive or of its words. */
    uint64_t (*checksum)(const uint8_t *data, int64_t bytes);
} ef_kernels;

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
