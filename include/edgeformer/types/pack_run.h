/* Packing rows of a matrix on all threads of a pool, from memory or from a file that every thread reads for itself, and
 * looking whether all that they hold is finite, while it is near. */
#ifndef EDGEFORMER_PACK_RUN_H
#define EDGEFORMER_PACK_RUN_H

#include "edgeformer/kernels/kernels.h"
#include "edgeformer/host/threads.h"

enum { EF_PACK_BYTES = 128 << 10 }; /* of source that a thread takes at once: what was read is packed from its cache */

/* Puts `bytes` bytes of the source from `offset` on into `target`; returns 0, or else what is wrong. Called by any thread. */
typedef int (*ef_fetch)(void *context, uint8_t *target, int64_t offset, int64_t bytes);

/* Rows [row_begin, row_end) of a matrix, row_begin a multiple of sixteen, and where they come from. */
typedef struct ef_pack {
    const ef_kernels *kernels;
    const ef_matrix *matrix;
    int64_t row_begin, row_end;
    const uint8_t *source; /* GGUF rows in memory; NULL where they are read */
    ef_fetch fetch;        /* NULL, without a source: the panels are there, and are only looked at */
    void *fetch_context;
    int64_t offset;   /* of row_begin in what is read */
    uint8_t *buffers; /* 64-byte aligned, ef_pack_buffer_bytes for each thread; NULL where packed panels are read */
    int64_t chunk_rows;
    atomic_int error; /* 0, or the first that `fetch` returned */
    atomic_int not_finite; /* whether a value, scale or minimum is NaN or infinite */
} ef_pack;

/* Rows of one chunk: whole panels of about EF_PACK_BYTES. */
static inline int64_t ef_pack_chunk_rows(const ef_matrix *matrix)
{
    int64_t panels = EF_PACK_BYTES / (EF_TILE * ef_row_bytes(matrix->type, matrix->num_columns));
    return EF_TILE * (panels > 1 ? panels : 1);
}

static inline int64_t ef_pack_buffer_bytes(const ef_matrix *matrix)
{
    int64_t bytes = ef_pack_chunk_rows(matrix) * ef_row_bytes(matrix->type, matrix->num_columns);
    return (bytes + EF_ALIGNMENT - 1) / EF_ALIGNMENT * EF_ALIGNMENT;
}

static inline void ef_pack_failed(ef_pack *pack, int error)
{
    int none = 0;
    atomic_compare_exchange_strong(&pack->error, &none, error);
}

/* Looks at rows [begin, end), which are packed. */
static inline void ef_pack_look(ef_pack *pack, int64_t begin, int64_t end)
{
    if (!pack->kernels->panels_finite(pack->matrix, (int32_t)(begin / EF_TILE), (int32_t)((end + EF_TILE - 1) / EF_TILE)))
        atomic_store_explicit(&pack->not_finite, 1, memory_order_relaxed);
}

/* GGUF rows, read into this thread's buffer if they are not in memory, become panels. */
static inline void ef_pack_chunk(void *context, int32_t chunk, int32_t thread)
{
    ef_pack *pack = context;
    const ef_matrix *matrix = pack->matrix;
    int64_t row_bytes = ef_row_bytes(matrix->type, matrix->num_columns);
    int64_t begin = pack->row_begin + chunk * pack->chunk_rows;
    int64_t end = begin + pack->chunk_rows < pack->row_end ? begin + pack->chunk_rows : pack->row_end;
    int64_t skipped = (begin - pack->row_begin) * row_bytes;
    const uint8_t *rows;
    if (pack->source) {
        rows = pack->source + skipped;
    } else {
        uint8_t *buffer = pack->buffers + thread * ef_pack_buffer_bytes(matrix);
        int error = atomic_load(&pack->error);
        if (!error && (error = pack->fetch(pack->fetch_context, buffer, pack->offset + skipped, (end - begin) * row_bytes)))
            ef_pack_failed(pack, error);
        if (error)
            return;
        rows = buffer;
    }
    pack->kernels->pack((uint8_t *)(uintptr_t)matrix->data, matrix->type, matrix->num_columns, rows, begin, end);
    ef_pack_look(pack, begin, end);
}

/* Panels that are packed already are read into their place, where they are not there yet. */
static inline void ef_pack_read_chunk(void *context, int32_t chunk, int32_t thread)
{
    ef_pack *pack = context;
    int64_t panel_bytes = pack->matrix->panel_bytes;
    int64_t begin = (pack->row_begin + chunk * pack->chunk_rows) / EF_TILE;
    int64_t end = begin + pack->chunk_rows / EF_TILE, last = (pack->row_end + EF_TILE - 1) / EF_TILE;
    int error = atomic_load(&pack->error);
    (void)thread;
    end = end < last ? end : last;
    if (!error && pack->fetch)
        error = pack->fetch(pack->fetch_context, (uint8_t *)(uintptr_t)pack->matrix->data + begin * panel_bytes,
                            pack->offset + (begin - pack->row_begin / EF_TILE) * panel_bytes,
                            (end - begin) * panel_bytes);
    if (error)
        ef_pack_failed(pack, error);
    else
        ef_pack_look(pack, begin * EF_TILE, end * EF_TILE);
}

/* Does an ef_pack; error and not_finite are set then. pool: NULL works in the calling thread. */
static inline void ef_pack_run(void *context, ef_pool *pool)
{
    ef_pack *pack = context;
    pack->chunk_rows = ef_pack_chunk_rows(pack->matrix);
    const int64_t chunks = (pack->row_end - pack->row_begin + pack->chunk_rows - 1) / pack->chunk_rows;
    ef_pool_each(pool, pack->source || pack->buffers ? ef_pack_chunk : ef_pack_read_chunk, pack, (int32_t)chunks);
}

#endif
