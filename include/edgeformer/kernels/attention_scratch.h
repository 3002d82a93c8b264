/* What an attention kernel needs from its caller besides its arguments; the same for every instruction set. */
#ifndef EDGEFORMER_KERNELS_ATTENTION_SCRATCH_H
#define EDGEFORMER_KERNELS_ATTENTION_SCRATCH_H

#include "../kernels.h"

enum {
    EF_ATTENTION_SPAN = 128,  /* positions between two merges; part of the numerics */
    EF_ATTENTION_QUERIES = 6  /* query rows that share one load of keys and values */
};

/* Floats of scratch for one call of the attention kernel on this cache: the scores of a span, the output of a span and
 * the merged output for each query of a tile. A 64-byte aligned address is best, not required. */
static inline int64_t ef_attention_scratch(const ef_cache *cache)
{
    return EF_ATTENTION_QUERIES * (EF_ATTENTION_SPAN + 2 * ef_pad16(cache->value_dim));
}

#endif
