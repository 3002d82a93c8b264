/* What this machine can do at best, on all threads of a pool: the peaks of kernels/peaks.h in chunks. */
#ifndef EDGEFORMER_MEASURE_H
#define EDGEFORMER_MEASURE_H

#include "edgeformer/kernels/kernels.h"
#include "edgeformer/host/threads.h"

enum { EF_READ_CHUNK = 1 << 20 }; /* bytes that a thread reads at once */

typedef int64_t (*ef_count)(int64_t rounds);

typedef struct ef_measure {
    ef_count count;             /* NULL: read */
    const ef_kernels *kernels;
    const uint8_t *data;
    int64_t amount;             /* rounds of a chunk, or bytes in all */
    int32_t chunks;
    _Atomic uint64_t result;    /* multiply-adds that were done, or the exclusive or of the words that were read */
} ef_measure;

/* `chunks` times `rounds` rounds of one of the counting kernels. */
static inline ef_measure ef_measure_counts(ef_count count, int64_t rounds, int32_t chunks)
{
    return (ef_measure){.count = count, .amount = rounds, .chunks = chunks};
}

/* Reads `bytes` once, alignment and size as `checksum` wants them. */
static inline ef_measure ef_measure_reading(const ef_kernels *kernels, const uint8_t *data, int64_t bytes)
{
    const int64_t chunks = (bytes + EF_READ_CHUNK - 1) / EF_READ_CHUNK;
    return (ef_measure){.kernels = kernels, .data = data, .amount = bytes, .chunks = (int32_t)chunks};
}

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

/* Does an ef_measure. pool: NULL measures in the calling thread. */
static inline void ef_measure_run(void *context, ef_pool *pool)
{
    ef_measure *measure = context;
    ef_pool_each(pool, ef_measure_chunk, measure, measure->chunks);
}

#endif
