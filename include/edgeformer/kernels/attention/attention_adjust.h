/* What is done to the scores of a span between the products and the softmax: soft cap, bias by position, and what the rows
 * themselves add.
 */
static inline int32_t EF_NAME(min_int)(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t EF_NAME(max_int)(int32_t a, int32_t b) { return a > b ? a : b; }

/* Scores of positions first .. last - 1 and of the other lanes of their pages within the soft cap. */
static void EF_NAME(attention_cap)(float *scores, int32_t first, int32_t last, float soft_cap)
{
    const ef_f32x16 cap = ef_f32x16_set1(soft_cap), inverse = ef_f32x16_set1(1.0f / soft_cap);
    for (int32_t page = first / EF_TILE; page <= (last - 1) / EF_TILE; page++) {
        const ef_f32x16 part = ef_f32x16_mul(ef_f32x16_load(scores + page * EF_TILE), inverse);
        ef_f32x16_store(scores + page * EF_TILE, ef_f32x16_mul(cap, EF_NAME(tanh)(part)));
    }
}

/* The query head of a query of the tile. */
static inline int32_t EF_NAME(attention_head)(const EF_NAME(attention_tile) *tile, int32_t t)
{
    return tile->kv_head * tile->group + (tile->query_begin + t) % tile->group;
}

/* Adds the bias of a query at `position` to the same scores, of which the first is that of position `start`. */
static void EF_NAME(attention_bias)(float *scores, int32_t first, int32_t last, const ef_bias *bias, int32_t head,
                                    int32_t position, int32_t start)
{
    const float *table = bias->table + head * bias->head_stride;
    const int64_t row = bias->row_step * position + start;
    for (int32_t page = first / EF_TILE; page <= (last - 1) / EF_TILE; page++) {
        const int64_t wanted = row + page * EF_TILE, element = wanted < bias->high ? wanted : bias->high;
        const ef_f32x16 values = ef_f32x16_load(table + (element > bias->low ? element - bias->low : 0));
        ef_f32x16_store(scores + page * EF_TILE, ef_f32x16_add(ef_f32x16_load(scores + page * EF_TILE), values));
    }
}

/* Adds what the rows themselves do, that of the query at `position` and those of the keys, to the scores of positions
 * first .. last - 1, of which the first of all is that of position `start`. */
static void EF_NAME(attention_relative)(float *scores, int32_t first, int32_t last, const ef_relative *relative,
                                        const EF_NAME(attention_tile) *tile, int32_t head, int32_t position,
                                        int32_t start)
{
    const int64_t width = relative->num_buckets, keys = (tile->args->num_heads + head) * width;
    const char *rows = (const char *)relative->scores + tile->first_row * relative->stride;
    const float *own = (const float *)(const void *)(rows + position * relative->stride) + head * width;
    for (int32_t i = first; i < last; i++) {
        const int32_t key = start + i, distance = EF_NAME(min_int)(key - position, relative->ahead);
        const int32_t bucket = (int32_t)relative->buckets[EF_NAME(max_int)(distance + relative->behind, 0)];
        const float *other = (const float *)(const void *)(rows + key * relative->stride) + keys;
        scores[i] += own[bucket] + other[bucket];
    }
}

/* What the arguments want done to the scores of a span before the softmax; as a rule nothing. */
static void EF_NAME(attention_adjust)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span)
{
    const ef_attention *args = tile->args;
    for (int32_t t = 0; t < tile->num_queries; t++) {
        float *scores = tile->scores + t * EF_ATTENTION_SPAN;
        const int32_t first = span->first[t], last = span->last[t];
        const int32_t position = tile->position + (tile->query_begin + t) / tile->group;
        if (first < last && args->soft_cap > 0.0f)
            EF_NAME(attention_cap)(scores, first, last, args->soft_cap);
        if (first < last && args->bias)
            EF_NAME(attention_bias)(scores, first, last, args->bias, EF_NAME(attention_head)(tile, t), position,
                                    span->start);
        if (first < last && args->relative)
            EF_NAME(attention_relative)(scores, first, last, args->relative, tile, EF_NAME(attention_head)(tile, t),
                                        position, span->start);
    }
}
