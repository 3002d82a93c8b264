/* The two products of attention for a tile of queries over a span of positions: scores = queries * keys, and
 * output += weights * values. attention.h says what tiles and spans are. One source for every count of queries and type
 * of cache, made for each of them with these as constants.
 */
#include "edgeformer/kernels/attention/attention_scratch.h"
#include "edgeformer/kernels/attention/attention_cache.h"

/* Register tile: how many vectors of sixteen sums a tile of this many queries keeps, beside keys or values. */
#if EF_SIMD == EF_SIMD_AVX512
#define EF_ATTENTION_COLUMNS(queries) ((queries) <= 2 ? 8 : 4)
#else
#define EF_ATTENTION_COLUMNS(queries) ((queries) == 1 ? 4 : (queries) == 2 ? 2 : 1)
#endif
/* Loops over the tile unroll, so that its sums stay in registers; plain C has none to keep them in. */
#if EF_SIMD == EF_SIMD_SCALAR
#define EF_ATTENTION_UNROLL
#else
#define EF_ATTENTION_UNROLL EF_UNROLL
#endif
#define EF_ATTENTION_MAX_COLUMNS 8
#define EF_ATTENTION_PAGES (EF_ATTENTION_SPAN / EF_TILE)

typedef struct {
    const ef_attention *args;
    const int32_t *pages; /* of this sequence */
    int32_t kv_head;
    const float *query[EF_ATTENTION_QUERIES];
    float *result[EF_ATTENTION_QUERIES];
    int32_t first[EF_ATTENTION_QUERIES], last[EF_ATTENTION_QUERIES]; /* the positions that a query sees */
    int32_t first_position, last_position;                           /* and that some query sees */
    int64_t first_row; /* of the batch, at position 0 of the segment */
    int32_t position, group, query_begin; /* of row_begin; query heads of a key-value head; the first of the queries */
    int32_t num_queries, num_lanes; /* lanes: the queries and, for a count that has no tile of its own, a spare one */
    float *scores; /* [query][EF_ATTENTION_SPAN] */
    float *merged; /* the part of all spans so far */
    ef_block_activation *quantized; /* [query][blocks of key_dim], where the keys have eight bits */
} EF_NAME(attention_tile);

/* One span of a tile. Bounds count from the span's first position; first == last: the query sees nothing of it. */
typedef struct {
    int32_t start; /* its first position */
    const uint8_t *keys[EF_ATTENTION_PAGES], *values[EF_ATTENTION_PAGES];
    int32_t first[EF_ATTENTION_QUERIES], last[EF_ATTENTION_QUERIES];
    int32_t first_page, num_pages; /* pages first_page .. num_pages - 1 are seen by some query */
    float *output;                 /* [query][value_dim padded], of the span's part */
} EF_NAME(attention_span);

/* Sixteen cache elements as floats, EF_Q8_0's without their scale; the type is constant at the call. */
EF_INLINE ef_f32x16 EF_NAME(load_cached)(const uint8_t *p, const int32_t type)
{
    if (type == EF_Q8_0)
        return ef_f32x16_from_i32(ef_i32x16_load_i8((const int8_t *)p));
    return type == EF_F16 ? ef_f32x16_load_f16((const uint16_t *)(const void *)p)
                          : ef_f32x16_load((const float *)(const void *)p);
}

/* scores[query][16 p + lane] = scale * (query . key at that position), for `columns` pages from pages[0]. */
EF_INLINE void EF_NAME(attention_dot)(float *scores, const float *const *query, const uint8_t *const *pages,
                                      int32_t key_dim, float scale, const int queries, const int columns,
                                      const int32_t type)
{
    const int64_t row_bytes = EF_TILE * ef_cache_element(type);
    const ef_f32x16 scales = ef_f32x16_set1(scale);
    ef_f32x16 sums[EF_ATTENTION_QUERIES][EF_ATTENTION_MAX_COLUMNS];
    EF_ATTENTION_UNROLL
    for (int t = 0; t < queries; t++)
        EF_ATTENTION_UNROLL
        for (int c = 0; c < columns; c++)
            sums[t][c] = ef_f32x16_zero();
    for (int64_t d = 0; d < key_dim; d++) {
        ef_f32x16 key[EF_ATTENTION_MAX_COLUMNS];
        EF_ATTENTION_UNROLL
        for (int c = 0; c < columns; c++)
            key[c] = EF_NAME(load_cached)(pages[c] + d * row_bytes, type);
        EF_ATTENTION_UNROLL
        for (int t = 0; t < queries; t++) {
            const ef_f32x16 element = ef_f32x16_set1(query[t][d]);
            EF_ATTENTION_UNROLL
            for (int c = 0; c < columns; c++)
                sums[t][c] = ef_f32x16_fma(element, key[c], sums[t][c]);
        }
    }
    EF_ATTENTION_UNROLL
    for (int t = 0; t < queries; t++)
        EF_ATTENTION_UNROLL
        for (int c = 0; c < columns; c++)
            ef_f32x16_store(scores + t * EF_ATTENTION_SPAN + c * EF_TILE, ef_f32x16_mul(sums[t][c], scales));
}

/* Scores of all pages of a span, the widest register tile first. */
EF_INLINE void EF_NAME(attention_scores)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                         const int queries, const int32_t type)
{
    const int columns = EF_ATTENTION_COLUMNS(queries);
    const int32_t key_dim = tile->args->cache->key_dim;
    const float scale = tile->args->scale;
    int32_t page = span->first_page;
    for (; page + columns <= span->num_pages; page += columns)
        EF_NAME(attention_dot)(tile->scores + page * EF_TILE, tile->query, span->keys + page, key_dim, scale, queries,
                               columns, type);
    for (; columns > 1 && page < span->num_pages; page++)
        EF_NAME(attention_dot)(tile->scores + page * EF_TILE, tile->query, span->keys + page, key_dim, scale, queries,
                               1, type);
}

/* output[query][16 c + lane] += sum of weight[query][j] * value[j][16 c + lane] over positions first <= j < last of the
 * span in order, for `columns` vectors; value_row: bytes of one position's values. */
EF_INLINE void EF_NAME(attention_accumulate)(float *output, int64_t stride, const float *weights,
                                             const uint8_t *const *pages, int64_t offset, int64_t value_row,
                                             int32_t first, int32_t last, const int queries, const int columns,
                                             const int32_t type)
{
    const int64_t column_bytes = EF_TILE * ef_cache_element(type);
    ef_f32x16 sums[EF_ATTENTION_QUERIES][EF_ATTENTION_MAX_COLUMNS];
    EF_ATTENTION_UNROLL
    for (int t = 0; t < queries; t++)
        EF_ATTENTION_UNROLL
        for (int c = 0; c < columns; c++)
            sums[t][c] = ef_f32x16_load(output + t * stride + c * EF_TILE);
    for (int32_t j = first; j < last;) {
        const int32_t page_last = (j | (EF_TILE - 1)) + 1 < last ? (j | (EF_TILE - 1)) + 1 : last;
        const uint8_t *value = pages[j / EF_TILE] + (j % EF_TILE) * value_row + offset;
        for (; j < page_last; j++, value += value_row) {
            ef_f32x16 row[EF_ATTENTION_MAX_COLUMNS];
            EF_ATTENTION_UNROLL
            for (int c = 0; c < columns; c++)
                row[c] = EF_NAME(load_cached)(value + c * column_bytes, type);
            EF_ATTENTION_UNROLL
            for (int t = 0; t < queries; t++) {
                const ef_f32x16 weight = ef_f32x16_set1(weights[t * EF_ATTENTION_SPAN + j]);
                EF_ATTENTION_UNROLL
                for (int c = 0; c < columns; c++)
                    sums[t][c] = ef_f32x16_fma(weight, row[c], sums[t][c]);
            }
        }
    }
    EF_ATTENTION_UNROLL
    for (int t = 0; t < queries; t++)
        EF_ATTENTION_UNROLL
        for (int c = 0; c < columns; c++)
            ef_f32x16_store(output + t * stride + c * EF_TILE, sums[t][c]);
}

/* Adds positions first .. last - 1 of the span to the span's output of `queries` queries from `query` on. */
EF_INLINE void EF_NAME(attention_values)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                         int32_t query, int32_t first, int32_t last, const int queries,
                                         const int32_t type)
{
    /* Heads have 64 columns as a rule: no more than four vectors. */
    const int columns = EF_ATTENTION_COLUMNS(queries) < 4 ? EF_ATTENTION_COLUMNS(queries) : 4;
    const int64_t width = ef_pad16(tile->args->cache->value_dim), element = ef_cache_element(type);
    const int64_t row = width * element;
    float *output = span->output + query * width;
    const float *weights = tile->scores + query * EF_ATTENTION_SPAN;
    int64_t d = 0;
    for (; d + columns * EF_TILE <= width; d += columns * EF_TILE)
        EF_NAME(attention_accumulate)(output + d, width, weights, span->values, d * element, row, first, last,
                                      queries, columns, type);
    for (; columns > 2 && d + 2 * EF_TILE <= width; d += 2 * EF_TILE)
        EF_NAME(attention_accumulate)(output + d, width, weights, span->values, d * element, row, first, last,
                                      queries, 2, type);
    for (; columns > 1 && d < width; d += EF_TILE)
        EF_NAME(attention_accumulate)(output + d, width, weights, span->values, d * element, row, first, last,
                                      queries, 1, type);
}

#include "edgeformer/kernels/attention/attention_q8_0.h"

/* `product` with the count of queries and the type of the cache as constants. */
#define EF_ATTENTION_CALL(product, queries, ...)                                                        \
    (tile->args->cache->type == EF_F16    ? EF_NAME(product)(__VA_ARGS__, queries, EF_F16)              \
     : tile->args->cache->type == EF_Q8_0 ? EF_NAME(product##_q8_0)(__VA_ARGS__, queries)           \
                                          : EF_NAME(product)(__VA_ARGS__, queries, EF_F32))

/* Scores of the whole tile over the pages of the span. */
static void EF_NAME(attention_tile_scores)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span)
{
    switch (tile->num_lanes) {
    case 1: EF_ATTENTION_CALL(attention_scores, 1, tile, span); break;
    case 2: EF_ATTENTION_CALL(attention_scores, 2, tile, span); break;
    case 3: EF_ATTENTION_CALL(attention_scores, 3, tile, span); break;
    case 4: EF_ATTENTION_CALL(attention_scores, 4, tile, span); break;
    default: EF_ATTENTION_CALL(attention_scores, EF_ATTENTION_QUERIES, tile, span); break;
    }
}

/* Values of the whole tile over positions that all of its queries see. */
static void EF_NAME(attention_shared_values)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                             int32_t first, int32_t last)
{
    switch (tile->num_lanes) {
    case 1: EF_ATTENTION_CALL(attention_values, 1, tile, span, 0, first, last); break;
    case 2: EF_ATTENTION_CALL(attention_values, 2, tile, span, 0, first, last); break;
    case 3: EF_ATTENTION_CALL(attention_values, 3, tile, span, 0, first, last); break;
    case 4: EF_ATTENTION_CALL(attention_values, 4, tile, span, 0, first, last); break;
    default: EF_ATTENTION_CALL(attention_values, EF_ATTENTION_QUERIES, tile, span, 0, first, last); break;
    }
}

/* Values of one query over positions that not every query of the tile sees. */
static void EF_NAME(attention_own_values)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                          int32_t query, int32_t first, int32_t last)
{
    if (first < last)
        EF_ATTENTION_CALL(attention_values, 1, tile, span, query, first, last);
}

#undef EF_ATTENTION_COLUMNS
#undef EF_ATTENTION_UNROLL
#undef EF_ATTENTION_MAX_COLUMNS
#undef EF_ATTENTION_PAGES
#undef EF_ATTENTION_CALL
