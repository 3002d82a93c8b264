/* Attention over the paged cache.
 *
 * A tile is up to EF_ATTENTION_QUERIES query rows (a row of the batch and a head of the group each) that share every
 * load of keys and values; lanes of the scores are the sixteen positions of a page, lanes of the output sixteen columns
 * of the values. Positions are walked in spans of EF_ATTENTION_SPAN from 0, each span is softmaxed by itself and the
 * spans are merged in order (online softmax: Milakov, Gimelshein 2018), so a result depends on nothing but its own row.
 * So spans may also be computed apart, in any order and in several threads, and merged when all are there.
 */
#include "edgeformer/kernels/attention/attention_products.h"
#include "edgeformer/kernels/attention/attention_adjust.h"

/* Positions of a prefix whose rows see one another both ways. */
static inline int32_t EF_NAME(attention_prefix)(const ef_attention *args, const ef_segment *segment)
{
    return args->causal && args->prefix ? segment->prefix : 0;
}

/* The positions *first .. *last - 1 that the row at position `own` sees; neither falls from one row to the next. */
static inline void EF_NAME(attention_sees)(const ef_attention *args, int32_t kv_length, int32_t prefix, int32_t own,
                                           int32_t *first, int32_t *last)
{
    const int32_t all = args->causal ? own + 1 : kv_length, most = own < prefix ? prefix : all;
    *first = 0;
    *last = most;
    if (args->window > 0) {
        *first = EF_NAME(max_int)(own + 1 - args->window, 0);
        *last = most - own > args->window ? own + args->window : most;
    }
}

/* Sum over the span of weight * value into tile->span_output: for every query its own positions in order, of which the
 * stretch that all queries see is done for all at once. Values that a query does not see are not read for it. */
static void EF_NAME(attention_span_values)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span)
{
    const int64_t width = ef_pad16(tile->args->cache->value_dim);
    memset(span->output, 0, (size_t)(tile->num_lanes * width) * sizeof(float));
    int32_t first = 0, last = EF_ATTENTION_SPAN;
    for (int32_t t = 0; t < tile->num_queries; t++) {
        first = EF_NAME(max_int)(first, span->first[t]);
        last = EF_NAME(min_int)(last, span->last[t]);
    }
    if (first >= last) {
        for (int32_t t = 0; t < tile->num_queries; t++)
            EF_NAME(attention_own_values)(tile, span, t, span->first[t], span->last[t]);
        return;
    }
    for (int32_t t = 0; t < tile->num_queries; t++)
        EF_NAME(attention_own_values)(tile, span, t, span->first[t], first);
    EF_NAME(attention_shared_values)(tile, span, first, last);
    for (int32_t t = 0; t < tile->num_queries; t++)
        EF_NAME(attention_own_values)(tile, span, t, last, span->last[t]);
}

/* Lanes of page `page` outside first .. last - 1 become -infinity; as a rule there are none. */
static inline void EF_NAME(attention_hide)(float *scores, int32_t page, int32_t first, int32_t last)
{
    float *lanes = scores + page * EF_TILE;
    const int32_t before = EF_NAME(max_int)(first - page * EF_TILE, 0);
    const int32_t until = EF_NAME(min_int)(last - page * EF_TILE, EF_TILE);
    if (before == 0 && until == EF_TILE)
        return;
    const ef_f32x16 seen = ef_f32x16_select_part(ef_f32x16_load(lanes), until, -INFINITY);
    const ef_f32x16 hidden_first = ef_f32x16_select_part(ef_f32x16_set1(1.0f), before, 0.0f); /* 1 in lanes to hide */
    ef_f32x16_store(lanes, ef_f32x16_select_lt(ef_f32x16_zero(), hidden_first, ef_f32x16_set1(-INFINITY), seen));
}

/* The largest score of positions first .. last - 1, first < last; the other lanes of their pages become -infinity. */
static inline float EF_NAME(attention_maximum)(float *scores, int32_t first, int32_t last)
{
    const int32_t page_first = first / EF_TILE, page_last = (last - 1) / EF_TILE;
    EF_NAME(attention_hide)(scores, page_first, first, last);
    EF_NAME(attention_hide)(scores, page_last, first, last);
    ef_f32x16 largest = ef_f32x16_load(scores + page_first * EF_TILE);
    for (int32_t page = page_first + 1; page <= page_last; page++)
        largest = ef_f32x16_max(largest, ef_f32x16_load(scores + page * EF_TILE));
    return ef_f32x16_reduce_max(largest);
}

/* Turns these scores into exp(score - maximum), 0 in hidden lanes, and gives their sum. */
static inline float EF_NAME(attention_weights)(float *scores, int32_t first, int32_t last, float maximum)
{
    const ef_f32x16 maxima = ef_f32x16_set1(maximum);
    ef_f32x16 sums = ef_f32x16_zero();
    for (int32_t page = first / EF_TILE; page <= (last - 1) / EF_TILE; page++) {
        const ef_f32x16 weights = EF_NAME(exp16)(ef_f32x16_sub(ef_f32x16_load(scores + page * EF_TILE), maxima));
        ef_f32x16_store(scores + page * EF_TILE, weights);
        sums = ef_f32x16_add(sums, weights);
    }
    return ef_f32x16_reduce_add(sums);
}

/* Merges a span's part into the tile's. */
static void EF_NAME(attention_merge)(EF_NAME(attention_tile) *tile, const float *part)
{
    const int64_t width = ef_pad16(tile->args->cache->value_dim);
    const float *sum = part + EF_ATTENTION_PART_SUM, *output = part + EF_ATTENTION_PART_OUTPUT;
    float *merged = tile->merged + EF_ATTENTION_PART_OUTPUT;
    const ef_f32x16 old_maximum = ef_f32x16_load(tile->merged), span_maximum = ef_f32x16_load(part);
    const ef_f32x16 new_maximum = ef_f32x16_max(old_maximum, span_maximum);
    const ef_f32x16 old_scale = EF_NAME(exp16)(ef_f32x16_sub(old_maximum, new_maximum));
    const ef_f32x16 span_scale = EF_NAME(exp16)(ef_f32x16_sub(span_maximum, new_maximum));
    const ef_f32x16 old_sum = ef_f32x16_mul(ef_f32x16_load(tile->merged + EF_ATTENTION_PART_SUM), old_scale);
    const ef_f32x16 new_sum = ef_f32x16_add(old_sum, ef_f32x16_mul(ef_f32x16_load(sum), span_scale));
    float maxima[EF_TILE], sums[EF_TILE], old_scales[EF_TILE], span_scales[EF_TILE];
    ef_f32x16_store(maxima, new_maximum);
    ef_f32x16_store(sums, new_sum);
    ef_f32x16_store(old_scales, old_scale);
    ef_f32x16_store(span_scales, span_scale);
    for (int32_t t = 0; t < tile->num_queries; t++) {
        if (sum[t] == 0.0f)
            continue;
        tile->merged[t] = maxima[t];
        tile->merged[EF_ATTENTION_PART_SUM + t] = sums[t];
        const ef_f32x16 old_factor = ef_f32x16_set1(old_scales[t]), span_factor = ef_f32x16_set1(span_scales[t]);
        for (int64_t d = t * width; d < (t + 1) * width; d += EF_TILE) {
            const ef_f32x16 old = ef_f32x16_mul(ef_f32x16_load(merged + d), old_factor);
            ef_f32x16_store(merged + d, ef_f32x16_fma(ef_f32x16_load(output + d), span_factor, old));
        }
    }
}

/* One span of every query of a tile into `part`. All maxima come before all exponentials, so that the chains from
 * scores to maximum, which are long, do not wait for each other. */
static void EF_NAME(attention_span_step)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                         float *part)
{
    const int32_t *first = span->first, *last = span->last;
    float *maximum = part, *sum = part + EF_ATTENTION_PART_SUM;
    memset(part, 0, EF_ATTENTION_PART_OUTPUT * sizeof(float));
    EF_NAME(attention_tile_scores)(tile, span);
    if (tile->args->bias || tile->args->relative || tile->args->soft_cap > 0.0f)
        EF_NAME(attention_adjust)(tile, span);
    for (int32_t t = 0; t < tile->num_queries; t++)
        if (first[t] < last[t])
            maximum[t] = EF_NAME(attention_maximum)(tile->scores + t * EF_ATTENTION_SPAN, first[t], last[t]);
    for (int32_t t = 0; t < tile->num_queries; t++)
        if (first[t] < last[t])
            sum[t] = EF_NAME(attention_weights)(tile->scores + t * EF_ATTENTION_SPAN, first[t], last[t], maximum[t]);
    EF_NAME(attention_span_values)(tile, span);
}

/* Span `index` of the tile, of which some query sees a position, into `part`. */
static void EF_NAME(attention_span_part)(const EF_NAME(attention_tile) *tile, int32_t index, float *part)
{
    const ef_cache *cache = tile->args->cache;
    const int32_t layer = tile->args->layer, start = index * EF_ATTENTION_SPAN;
    const int32_t positions = EF_NAME(min_int)(tile->last_position - start, EF_ATTENTION_SPAN);
    EF_NAME(attention_span) span = {.start = start,
                                    .first_page = EF_NAME(max_int)(tile->first_position - start, 0) / EF_TILE,
                                    .num_pages = (positions + EF_TILE - 1) / EF_TILE,
                                    .output = part + EF_ATTENTION_PART_OUTPUT};
    for (int32_t page = span.first_page; page < span.num_pages; page++) {
        span.keys[page] = ef_cache_key(cache, tile->pages[start / EF_TILE + page], layer, tile->kv_head);
        span.values[page] = ef_cache_value(cache, tile->pages[start / EF_TILE + page], layer, tile->kv_head);
    }
    for (int32_t t = 0; t < tile->num_queries; t++) {
        span.first[t] = EF_NAME(min_int)(EF_NAME(max_int)(tile->first[t] - start, 0), EF_ATTENTION_SPAN);
        span.last[t] = EF_NAME(max_int)(EF_NAME(min_int)(tile->last[t] - start, EF_ATTENTION_SPAN), span.first[t]);
    }
    EF_NAME(attention_span_step)(tile, &span, part);
}

/* Scratch (ef_attention_scratch): scores of a span, its part, the queries in eight bits, then merged parts of tiles. */
EF_INLINE float *EF_NAME(attention_scratch_part)(float *scratch)
{
    return scratch + EF_ATTENTION_QUERIES * EF_ATTENTION_SPAN;
}

EF_INLINE float *EF_NAME(attention_scratch_merged)(const ef_cache *cache, float *scratch)
{
    return EF_NAME(attention_scratch_part)(scratch) + ef_attention_part(cache) + ef_attention_quantized(cache);
}

/* The tile of queries (row * group + head of the group, from row_begin's first) from `begin` on, to be merged in
 * `merged`. */
EF_INLINE void EF_NAME(attention_tile_begin)(EF_NAME(attention_tile) *tile, const ef_attention *args,
                                             const ef_segment *segment, int32_t kv_head, int32_t row_begin,
                                             int32_t row_end, int32_t begin, float *scratch, float *merged)
{
    const ef_cache *cache = args->cache;
    const int32_t group = args->num_heads / cache->num_heads, left = (row_end - row_begin) * group - begin;
    const int32_t prefix = EF_NAME(attention_prefix)(args, segment);
    tile->args = args;
    tile->pages = args->page_table + segment->first_page;
    tile->kv_head = kv_head;
    tile->position = segment->position + row_begin;
    tile->first_row = segment->first_row - segment->position;
    tile->group = group;
    tile->query_begin = begin;
    tile->num_queries = left == 7 || left == 8 ? 4 : EF_NAME(min_int)(left, EF_ATTENTION_QUERIES);
    tile->num_lanes = tile->num_queries == 5 ? 6 : tile->num_queries;
    tile->first_position = INT32_MAX;
    tile->last_position = 0;
    for (int32_t t = 0; t < tile->num_lanes; t++) {
        const int32_t query = begin + EF_NAME(min_int)(t, tile->num_queries - 1); /* a spare lane repeats the last */
        const int32_t row = row_begin + query / group, head = kv_head * group + query % group;
        const int64_t batch_row = segment->first_row + row;
        const char *queries = (const char *)args->query + batch_row * args->query_stride;
        char *outputs = (char *)args->output + batch_row * args->output_stride;
        tile->query[t] = (const float *)(const void *)queries + (int64_t)head * cache->key_dim;
        tile->result[t] = (float *)(void *)outputs + (int64_t)head * cache->value_dim;
        EF_NAME(attention_sees)(args, segment->kv_length, prefix, segment->position + row, &tile->first[t],
                                &tile->last[t]);
        tile->first_position = EF_NAME(min_int)(tile->first_position, tile->first[t]);
        tile->last_position = EF_NAME(max_int)(tile->last_position, tile->last[t]);
    }
    tile->scores = scratch;
    tile->merged = merged;
    float *part = EF_NAME(attention_scratch_part)(scratch);
    tile->quantized = (ef_block_activation *)(void *)(part + ef_attention_part(cache));
    const int64_t blocks = ef_cache_blocks(cache->key_dim);
    if (cache->type == EF_Q8_0)
        for (int32_t t = 0; t < tile->num_lanes; t++)
            EF_NAME(quantize_padded)(tile->quantized + t * blocks, tile->query[t], cache->key_dim);
}

/* Nothing is merged but sinks, whose weight is 1 and whose value is 0. */
EF_INLINE void EF_NAME(attention_tile_clear)(const EF_NAME(attention_tile) *tile)
{
    memset(tile->merged, 0, (size_t)ef_attention_part(tile->args->cache) * sizeof(float));
    ef_f32x16_store(tile->merged, ef_f32x16_set1(-INFINITY));
    for (int32_t t = 0; tile->args->sinks && t < tile->num_queries; t++) {
        tile->merged[t] = tile->args->sinks[EF_NAME(attention_head)(tile, t)];
        tile->merged[EF_ATTENTION_PART_SUM + t] = 1.0f;
    }
}

/* Writes the tile's results: what was merged over the sums. */
static void EF_NAME(attention_tile_end)(const EF_NAME(attention_tile) *tile)
{
    const int64_t value_dim = tile->args->cache->value_dim, width = ef_pad16(value_dim);
    const float *merged = tile->merged + EF_ATTENTION_PART_OUTPUT;
    for (int32_t t = 0; t < tile->num_queries; t++)
        for (int64_t d = 0; d < value_dim; d += EF_TILE) {
            const ef_f32x16 sums = ef_f32x16_set1(tile->merged[EF_ATTENTION_PART_SUM + t]);
            const ef_f32x16 result = ef_f32x16_div(ef_f32x16_load(merged + t * width + d), sums);
            EF_NAME(store_row)(tile->result[t] + d, result, value_dim - d);
        }
}

/* Spans span_begin .. span_end - 1 of all tiles from query `begin` on that have room for what is merged: a block of
 * spans for one tile after the other, so that keys and values come from a core's own cache for all but the first.
 * Returns the first query that is left. */
static int32_t EF_NAME(attention_tiles)(const ef_attention *args, const ef_segment *segment, int32_t kv_head,
                                        int32_t row_begin, int32_t row_end, int32_t begin, int32_t span_begin,
                                        int32_t span_end, float *scratch)
{
    const ef_cache *cache = args->cache;
    const int32_t num_queries = (row_end - row_begin) * (args->num_heads / cache->num_heads);
    const int64_t page_bytes = ef_cache_head_key_bytes(cache) + ef_cache_head_value_bytes(cache);
    const int64_t fitting = EF_ATTENTION_BLOCK_BYTES / (page_bytes * (EF_ATTENTION_SPAN / EF_TILE));
    const int32_t step = num_queries - begin <= EF_ATTENTION_QUERIES ? span_end : fitting > 1 ? (int32_t)fitting : 1;
    float *part = EF_NAME(attention_scratch_part)(scratch);
    int32_t query = begin;
    for (int32_t block = span_begin; block < span_end; block += step) {
        float *merged = EF_NAME(attention_scratch_merged)(cache, scratch);
        query = begin;
        for (int32_t t = 0; t < EF_ATTENTION_TILES && query < num_queries; t++, merged += ef_attention_part(cache)) {
            EF_NAME(attention_tile) tile;
            EF_NAME(attention_tile_begin)(&tile, args, segment, kv_head, row_begin, row_end, query, scratch, merged);
            const int32_t first = EF_NAME(max_int)(block, tile.first_position / EF_ATTENTION_SPAN);
            const int32_t last = EF_NAME(min_int)(span_end - block, step) + block;
            if (block == span_begin)
                EF_NAME(attention_tile_clear)(&tile);
            const int32_t end = EF_NAME(min_int)(last, ef_attention_spans(tile.last_position));
            for (int32_t index = first; index < end; index++) {
                EF_NAME(attention_span_part)(&tile, index, part);
                EF_NAME(attention_merge)(&tile, part);
            }
            if (last == span_end)
                EF_NAME(attention_tile_end)(&tile);
            query += tile.num_queries;
        }
    }
    return query;
}

/* See kernels.h. */
static void EF_NAME(attention)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t row_begin,
                               int32_t row_end, float *scratch)
{
    const int32_t num_queries = (row_end - row_begin) * (args->num_heads / args->cache->num_heads);
    const int32_t prefix = EF_NAME(attention_prefix)(args, segment), position = segment->position;
    int32_t first, last, ignored;
    EF_NAME(attention_sees)(args, segment->kv_length, prefix, position + row_begin, &first, &ignored);
    EF_NAME(attention_sees)(args, segment->kv_length, prefix, position + row_end - 1, &ignored, &last);
    for (int32_t begin = 0; begin < num_queries;)
        begin = EF_NAME(attention_tiles)(args, segment, kv_head, row_begin, row_end, begin, first / EF_ATTENTION_SPAN,
                                         ef_attention_spans(last), scratch);
}

/* See kernels.h. */
static void EF_NAME(attention_split)(const ef_attention *args, const ef_segment *segment, int32_t kv_head,
                                     int32_t span_begin, int32_t span_end, float *parts, float *scratch)
{
    const int32_t num_queries = segment->num_rows * (args->num_heads / args->cache->num_heads);
    const int64_t floats = ef_attention_part(args->cache), span_floats = ef_attention_tiles(num_queries) * floats;
    EF_NAME(attention_tile) tile;
    for (int32_t begin = 0; begin < num_queries; begin += tile.num_queries, parts += floats) {
        EF_NAME(attention_tile_begin)(&tile, args, segment, kv_head, 0, segment->num_rows, begin, scratch, NULL);
        for (int32_t index = span_begin; index < span_end; index++) {
            const int32_t start = index * EF_ATTENTION_SPAN;
            if (start < tile.last_position && start + EF_ATTENTION_SPAN > tile.first_position)
                EF_NAME(attention_span_part)(&tile, index, parts + index * span_floats);
            else
                memset(parts + index * span_floats, 0, EF_ATTENTION_PART_OUTPUT * sizeof(float));
        }
    }
}

/* See kernels.h. */
static void EF_NAME(attention_join)(const ef_attention *args, const ef_segment *segment, int32_t kv_head,
                                    int32_t num_spans, const float *parts, float *scratch)
{
    const int32_t num_queries = segment->num_rows * (args->num_heads / args->cache->num_heads);
    const int64_t floats = ef_attention_part(args->cache), span_floats = ef_attention_tiles(num_queries) * floats;
    EF_NAME(attention_tile) tile;
    for (int32_t begin = 0; begin < num_queries; begin += tile.num_queries, parts += floats) {
        EF_NAME(attention_tile_begin)(&tile, args, segment, kv_head, 0, segment->num_rows, begin, scratch,
                                      EF_NAME(attention_scratch_merged)(args->cache, scratch));
        EF_NAME(attention_tile_clear)(&tile);
        for (int32_t index = 0; index < num_spans; index++)
            EF_NAME(attention_merge)(&tile, parts + index * span_floats);
        EF_NAME(attention_tile_end)(&tile);
    }
}

/* What matmul.h left for the integer products here. */
#undef EF_TILE_ROWS
#undef EF_TILE_PANELS
#undef EF_PRODUCT_ROWS
