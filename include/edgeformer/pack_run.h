/* Packing rows of a matrix on all threads of a pool. */
#ifndef EDGEFORMER_PACK_RUN_H
#define EDGEFORMER_PACK_RUN_H

#include "kernels.h"
#include "threads.h"

enum { EF_PACK_ROWS = 64 }; /* that a thread takes at once: a few hundred kilobytes of a usual matrix */

typedef struct ef_pack_job {
    const ef_kernels *kernels;
    const ef_matrix *matrix;
    const uint8_t *source;
    int64_t row_begin, row_end, row_bytes;
    _Atomic int64_t next_row;
} ef_pack_job;

static inline void ef_pack_thread(void *context, int32_t thread, int32_t num_threads)
{
    ef_pack_job *job = context;
    const ef_matrix *matrix = job->matrix;
    (void)thread, (void)num_threads;
    for (;;) {
        int64_t begin = atomic_fetch_add(&job->next_row, EF_PACK_ROWS);
        if (begin >= job->row_end)
            return;
        int64_t end = begin + EF_PACK_ROWS < job->row_end ? begin + EF_PACK_ROWS : job->row_end;
        job->kernels->pack((uint8_t *)(uintptr_t)matrix->data, matrix->type, matrix->num_columns,
                           job->source + (begin - job->row_begin) * job->row_bytes, begin, end);
    }
}

/* Packs GGUF rows [row_begin, row_end), row_begin a multiple of sixteen, from `source` into the matrix.
 * pool: NULL packs in the calling thread. */
static inline void ef_pack_run(const ef_kernels *kernels, const ef_matrix *matrix, const uint8_t *source, int64_t row_begin,
                               int64_t row_end, ef_pool *pool)
{
    ef_pack_job job = {
        .kernels = kernels, .matrix = matrix, .source = source, .row_begin = row_begin, .row_end = row_end,
        .row_bytes = ef_row_bytes(matrix->type, matrix->num_columns),
    };
    atomic_init(&job.next_row, row_begin);
    if (pool && row_end - row_begin > EF_PACK_ROWS)
        ef_pool_run(pool, ef_pack_thread, &job);
    else
        ef_pack_thread(&job, 0, 1);
}

#endif
