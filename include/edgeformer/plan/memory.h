/* What running plans takes besides matrices, caches and arenas, for those who want to know before there is a plan. */
#ifndef EDGEFORMER_PLAN_MEMORY_H
#define EDGEFORMER_PLAN_MEMORY_H

#include "edgeformer/kernels/attention/attention_scratch.h"
#include "edgeformer/plan/linear.h"

/* The most that ef_plan_scratch_bytes gives for a plan with attention over caches like this one and any matrices. */
static inline int64_t ef_plan_most_scratch(const ef_cache *cache)
{
    const ef_matrix unpacked = {.type = EF_Q8_0};
    const int64_t product = ef_matmul_scratch(&unpacked) + EF_ALIGNMENT + 2 * EF_FINISH_BYTES;
    const int64_t attention = ef_attention_scratch(cache) * (int64_t)sizeof(float);
    return 2 * EF_ALIGNMENT + (product > attention ? product : attention);
}

#endif
