/* The likeliest entries of rows of logits, rows shared out among threads. */
#ifndef EDGEFORMER_TOP_ROWS_H
#define EDGEFORMER_TOP_ROWS_H

#include "edgeformer/kernels/kernels.h"
#include "edgeformer/host/threads.h"

typedef struct ef_top_rows {
    const ef_kernels *kernels;
    const float *rows;   /* [num_rows][length] */
    int64_t length;      /* at least `wanted` */
    int32_t num_rows;
    int32_t wanted;      /* at least 1 */
    int32_t *indices;    /* [num_rows][wanted], written */
    float *log_probs;    /* [num_rows][wanted], written */
    uint64_t *heaps;     /* [num_rows][wanted], to work in */
} ef_top_rows;

/* One row: its `wanted` greatest as kernels->top gives them, and (value - greatest) - log of the sum of exponentials. */
static inline void ef_top_rows_chunk(void *context, int32_t row, int32_t thread)
{
    const ef_top_rows *job = context;
    const float *values = job->rows + row * job->length;
    const int64_t at = (int64_t)row * job->wanted;
    int32_t *index = job->indices + at;
    float largest;
    (void)thread;
    job->kernels->top(index, job->wanted, values, (int32_t)job->length, job->heaps + at);
    const float log_sum = job->kernels->log_sum_exp(&largest, values, job->length);
    for (int32_t i = 0; i < job->wanted; i++)
        job->log_probs[at + i] = (values[index[i]] - largest) - log_sum;
}

/* Does an ef_top_rows. pool: NULL works in the calling thread. What a row gives does not depend on the threads. */
static inline void ef_top_rows_run(void *context, ef_pool *pool)
{
    ef_pool_each(pool, ef_top_rows_chunk, context, ((ef_top_rows *)context)->num_rows);
}

#endif
