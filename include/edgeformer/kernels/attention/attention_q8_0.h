/* The two products of attention over keys and values of eight bits (ef_cache, EF_Q8_0). Scores are exact integer sums
 * of the keys and of queries quantized like any activations, block by block of 32 times both scales; values are
 * multiplied as floats, by weights that took on the scale of the position and its columns. */

/* scores[query][16 p + lane] = scale * (query . key at that position), for `columns` pages from pages[0]. */
EF_INLINE void EF_NAME(attention_dot_q8_0)(float *scores, const ef_block_activation *query, int64_t num_blocks,
                                           const uint8_t *const *pages, float scale, const int queries,
                                           const int columns)
{
    const int64_t stride = num_blocks * (int64_t)sizeof *query;
    const ef_f32x16 factor = ef_f32x16_set1(scale);
    ef_f32x16 sums[EF_ATTENTION_QUERIES * EF_TILE_PANELS];
    EF_UNROLL
    for (int i = 0; i < queries * columns; i++)
        sums[i] = ef_f32x16_zero();
    for (int64_t b = 0; b < num_blocks; b++) {
        EF_NAME(weights) keys[EF_TILE_PANELS];
        ef_f32x16 scales[EF_TILE_PANELS];
        EF_UNROLL
        for (int c = 0; c < columns; c++) {
            const uint8_t *tile = pages[c] + b * (int64_t)sizeof(ef_tile_q8_0);
            EF_NAME(load_weights)(&keys[c], EF_Q8_0, (EF_NAME(source)){tile, 0});
            scales[c] = EF_NAME(scales)(EF_Q8_0, tile, 0);
        }
        EF_UNROLL
        for (int first = 0; first < queries; first += EF_TILE_ROWS) {
            const int count = queries - first < EF_TILE_ROWS ? queries - first : EF_TILE_ROWS;
            const ef_type_traits traits = ef_traits(EF_Q8_0);
            EF_NAME(accumulate)(sums + first * columns, EF_Q8_0, traits.bits, traits.offset, keys, scales, 1,
                                (const uint8_t *)(query + b) + first * stride, stride, count, columns);
        }
    }
    EF_UNROLL
    for (int t = 0; t < queries; t++)
        EF_UNROLL
        for (int c = 0; c < columns; c++)
            ef_f32x16_store(scores + t * EF_ATTENTION_SPAN + c * EF_TILE, ef_f32x16_mul(sums[t * columns + c], factor));
}

/* Scores of all pages of a span. */
EF_INLINE void EF_NAME(attention_scores_q8_0)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                              const int queries)
{
    const int64_t num_blocks = ef_cache_blocks(tile->args->cache->key_dim);
    const float scale = tile->args->scale;
    int32_t page = span->first_page;
    for (; page + EF_TILE_PANELS <= span->num_pages; page += EF_TILE_PANELS)
        EF_NAME(attention_dot_q8_0)(tile->scores + page * EF_TILE, tile->quantized, num_blocks, span->keys + page,
                                    scale, queries, EF_TILE_PANELS);
    for (; EF_TILE_PANELS > 1 && page < span->num_pages; page++)
        EF_NAME(attention_dot_q8_0)(tile->scores + page * EF_TILE, tile->quantized, num_blocks, span->keys + page,
                                    scale, queries, 1);
}

/* Adds positions first .. last - 1 of the span to the span's output of `queries` queries from `query` on. */
EF_INLINE void EF_NAME(attention_values_q8_0)(const EF_NAME(attention_tile) *tile, const EF_NAME(attention_span) *span,
                                              int32_t query, int32_t first, int32_t last, const int queries)
{
    const int columns = EF_ATTENTION_COLUMNS(queries) < 2 ? 1 : 2; /* of the 32 that share a scale */
    const int64_t width = ef_pad16(tile->args->cache->value_dim);
    const float *weights = tile->scores + query * EF_ATTENTION_SPAN;
    float scaled[EF_ATTENTION_QUERIES * EF_ATTENTION_SPAN] __attribute__((aligned(EF_ALIGNMENT)));
    for (int64_t begin = 0; begin < width; begin += EF_BLOCK) {
        const int64_t end = begin + EF_BLOCK < width ? begin + EF_BLOCK : width;
        for (int32_t page = first / EF_TILE; page <= (last - 1) / EF_TILE; page++) {
            const uint8_t *scales = span->values[page] + EF_TILE * width + begin / EF_BLOCK * EF_TILE * 2;
            const ef_f32x16 scale = ef_f32x16_load_f16((const uint16_t *)(const void *)scales);
            for (int32_t t = 0; t < queries; t++) {
                const int32_t place = t * EF_ATTENTION_SPAN + page * EF_TILE;
                ef_f32x16_store(scaled + place, ef_f32x16_mul(ef_f32x16_load(weights + place), scale));
            }
        }
        int64_t d = begin;
        for (; d + columns * EF_TILE <= end; d += columns * EF_TILE)
            EF_NAME(attention_accumulate)(span->output + query * width + d, width, scaled, span->values, d, width,
                                          first, last, queries, columns, EF_Q8_0);
        for (; columns > 1 && d < end; d += EF_TILE)
            EF_NAME(attention_accumulate)(span->output + query * width + d, width, scaled, span->values, d, width,
                                          first, last, queries, 1, EF_Q8_0);
    }
}
