/* Packing rows of a matrix on all threads of a pool. */
#ifndef EDGEFORMER_PACK_RUN_H
#define EDGEFORMER_PACK_RUN_H

#include "kernels.h"
#include "threads.h"

enum { EF_PACK_ROWS = 64 }; /* that a thread takes at once: a few hundred kilobytes of a usual matrix */

typedef struct ef_pack {
    const ef_kernels *kernels;
    const ef_matrix *matrix;
    const uint8_t *source;
    int64_t row_begin, row_end, row_bytes;
} ef_pack;

static inline void ef_pack_chunk(void *context, int32_t chunk, int32_t thread)
{
    const ef_pack *pack = context;
    const ef_matrix *matrix = pack->matrix;
    int64_t begin = pack->row_begin + (int64_t)chunk * EF_PACK_ROWS;
    int64_t end = begin + EF_PACK_ROWS < pack->row_end ? begin + EF_PACK_ROWS : pack->row_end;
    (void)thread;
    pack->kernels->pack((uint8_t *)(uintptr_t)matrix->data, matrix->type, matrix->num_columns,
                        pack->source + (begin - pack->row_begin) * pack->row_bytes, begin, end);
}

static inline int32_t ef_pack_over(void *context, int32_t thread)
{
    (void)context, (void)thread;
    return 0;
}

/* Packs GGUF rows [row_begin, row_end), row_begin a multiple of sixteen, from `source` into the matrix.
 * pool: NULL packs in the calling thread. */
static inline void ef_pack_run(const ef_kernels *kernels, const ef_matrix *matrix, const uint8_t *source, int64_t row_begin,
                               int64_t row_end, ef_pool *pool)
{
    ef_pack pack = {kernels, matrix, source, row_begin, row_end, ef_row_bytes(matrix->type, matrix->num_columns)};
    int32_t chunks = (int32_t)((row_end - row_begin + EF_PACK_ROWS - 1) / EF_PACK_ROWS);
    if (pool && chunks > 1) {
        ef_pool_start(pool);
        ef_pool_run(pool, (ef_job){ef_pack_chunk, ef_pack_over, &pack}, chunks);
    } else {
        for (int32_t chunk = 0; chunk < chunks; chunk++)
            ef_pack_chunk(&pack, chunk, 0);
    }
}

#endif
