/* What this machine can do at best, on all threads of a pool: the peaks of kernels/peaks.h in chunks. */
#ifndef EDGEFORMER_MEASURE_H
#define EDGEFORMER_MEASURE_H

#include "kernels.h"
#include "threads.h"

enum { EF_READ_CHUNK = 1 << 20 }; /* bytes that a thread reads at once */

typedef int64_t (*ef_count)(int64_t rounds);

typedef struct ef_measure {
    ef_count count;             /* NULL: read */
    const ef_kernels *kernels;
    const uint8_t *data;
    int64_t amount;             /* rounds of a chunk, or bytes in all */
    _Atomic uint64_t result;
} ef_measure;

static inline void ef_measure_chunk(void *context, int32_t chunk, int32_t thread)
{
    ef_measure *measure = context;
    (void)thread;
    if (measure->count) {
        atomic_fetch_add(&measure->result, (uint64_t)measure->count(measure->amount));
        return;
    }
    const int64_t begin = (int64_t)chunk * EF_READ_CHUNK, rest = measure->amount - begin;
    const int64_t bytes = rest < EF_READ_CHUNK ? rest : EF_READ_CHUNK;
    atomic_fetch_xor(&measure->result, measure->kernels->checksum(measure->data + begin, bytes));
}

static inline int32_t ef_measure_over(void *context, int32_t thread)
{
    (void)context, (void)thread;
    return 0;
}

/* pool: NULL measures in the calling thread. */
static inline uint64_t ef_measure_run(ef_measure *measure, int32_t chunks, ef_pool *pool)
{
    if (pool) {
        ef_pool_start(pool);
        ef_pool_run(pool, (ef_job){ef_measure_chunk, ef_measure_over, measure}, chunks);
    } else {
        for (int32_t chunk = 0; chunk < chunks; chunk++)
            ef_measure_chunk(measure, chunk, 0);
    }
    return atomic_load(&measure->result);
}

/* `chunks` times `rounds` rounds of one of the counting kernels; the multiply-adds that were done. */
static inline int64_t ef_measure_counts(ef_count count, int64_t rounds, int32_t chunks, ef_pool *pool)
{
    ef_measure measure = {.count = count, .amount = rounds};
    return (int64_t)ef_measure_run(&measure, chunks, pool);
}

/* Reads `bytes` once (alignment and size as `checksum` wants them); the exclusive or of its words. */
static inline uint64_t ef_measure_reading(const ef_kernels *kernels, const uint8_t *data, int64_t bytes, ef_pool *pool)
{
    ef_measure measure = {.kernels = kernels, .data = data, .amount = bytes};
    return ef_measure_run(&measure, (int32_t)((bytes + EF_READ_CHUNK - 1) / EF_READ_CHUNK), pool);
}

#endif
