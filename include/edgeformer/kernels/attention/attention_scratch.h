/* What an attention kernel needs from its caller besides its arguments; the same for every instruction set. */
#ifndef EDGEFORMER_KERNELS_ATTENTION_SCRATCH_H
#define EDGEFORMER_KERNELS_ATTENTION_SCRATCH_H

#include "edgeformer/kernels/kernels.h"

enum {
    EF_ATTENTION_SPAN = 128,  /* positions between two merges; part of the numerics */
    EF_ATTENTION_QUERIES = 6, /* query rows that share one load of keys and values */
    EF_ATTENTION_TILES = 32,  /* tiles of so many that share a block of keys and values from a core's own cache */
    EF_ATTENTION_BLOCK_BYTES = 192 * 1024
};

/* What a span gives for a tile of queries, in floats: the largest score of each query, the sum of exp(score -
 * largest), 0 where the query sees nothing of the span, then the values weighted alike, [query][value_dim padded]. */
enum { EF_ATTENTION_PART_SUM = EF_TILE, EF_ATTENTION_PART_OUTPUT = 2 * EF_TILE };

static inline int64_t ef_attention_part(const ef_cache *cache)
{
    return EF_ATTENTION_PART_OUTPUT + EF_ATTENTION_QUERIES * ef_pad16(cache->value_dim);
}

/* Tiles that so many queries make; seven and eight make two tiles of four and less. */
static inline int32_t ef_attention_tiles(int32_t num_queries)
{
    return (num_queries + EF_ATTENTION_QUERIES - 1) / EF_ATTENTION_QUERIES;
}

/* Spans that hold so many positions. */
static inline int32_t ef_attention_spans(int32_t positions)
{
    return (int32_t)(((int64_t)positions + EF_ATTENTION_SPAN - 1) / EF_ATTENTION_SPAN);
}

/* Floats that hold the queries of a tile in eight bits, where the cache wants them. */
static inline int64_t ef_attention_quantized(const ef_cache *cache)
{
    const int64_t blocks = cache->type == EF_Q8_0 ? EF_ATTENTION_QUERIES * ef_cache_blocks(cache->key_dim) : 0;
    return ef_pad16(blocks * (int64_t)(sizeof(ef_block_activation) / sizeof(float)));
}

/* Floats of scratch for one call of an attention kernel on this cache: the scores of a span, the part of one span, the
 * queries in eight bits, and what is merged for each tile. A 64-byte aligned address is best, not required. */
static inline int64_t ef_attention_scratch(const ef_cache *cache)
{
    return EF_ATTENTION_QUERIES * EF_ATTENTION_SPAN + (1 + EF_ATTENTION_TILES) * ef_attention_part(cache) +
           ef_attention_quantized(cache);
}

#endif
