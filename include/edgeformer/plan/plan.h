/* The plan: a flat list of ops over rows, and the loop that runs it on a pool of threads from token ids to results. */
#ifndef EDGEFORMER_PLAN_H
#define EDGEFORMER_PLAN_H

#include "edgeformer/kernels/kernels.h"
#include "edgeformer/host/threads.h"
#include "edgeformer/plan/op_list.h"

enum {
    EF_MAX_CACHES = 4, EF_MAX_DOMAINS = 24, EF_MAX_INPUTS = 24, /* of each kind */
    EF_MAX_ROWS = 1 << 30 /* of a domain in a run, and positions of a segment: with a chunk or a span more they fit int32_t */
};

/* buffer < 0: absent. column: the first float (float buffers only; a multiple of sixteen where the op is LINEAR's
 * output). */
typedef struct ef_operand { int32_t buffer, column; } ef_operand;
/* Byte offset into the arena and bytes from row to row, both multiples of 64. Buffers that one chain of ops
 * (plan_cut.h) touches share no bytes. */
typedef struct ef_buffer { int64_t offset, stride; } ef_buffer;

typedef struct ef_op {
    int32_t kind, domain;
    ef_operand input[2], output, quantized;
    int32_t row_scale; /* the quantized rows have one scale each, as I8_ROW wants it: ops of WHOLE_ROW_OPS (ops.pxi) */
    int32_t weight;    /* index of a matrix, or -1 */
    int32_t vector[2]; /* indices of vectors, or -1 */
    int32_t width;     /* columns of the result (of one group for NORM) */
    ef_row_function function; /* NORM only */
    union { /* the fields of its kind, by name in C, by number where they come from Python */
        int32_t slot[EF_OP_SLOTS];
#define EF_OP_FIELDS(KIND, kind, by_rows, nanoseconds, fields) struct { EF_UNWRAPPED fields; } kind;
        EF_OPS(EF_OP_FIELDS)
#undef EF_OP_FIELDS
    };
} ef_op;

/* Where the threads leave parts of attention over a long context for one another. */
enum { EF_PARTS_UNITS = 256, EF_PARTS_FLOATS = 1 << 20 };
typedef struct ef_parts {
    atomic_int finished[EF_PARTS_UNITS]; /* parts of a key-value head of a segment that are there; 0 between ops */
    _Alignas(EF_ALIGNMENT) float values[EF_PARTS_FLOATS];
} ef_parts;

typedef struct ef_plan {
    const ef_op *ops;
    const ef_buffer *buffers;
    const ef_matrix *matrices;
    const float *const *vectors; /* each padded with zeros to a multiple of sixteen, 64-byte aligned */
    ef_cache caches[EF_MAX_CACHES];
    uint8_t *arena;              /* 64-byte aligned */
    ef_parts *parts;             /* NULL: one thread computes all of a key-value head of a row; else zero at first */
    const ef_kernels *kernels;
    int32_t num_ops;
} ef_plan;

/* The rows of one domain in one run: tokens, patches, pixels at one stride, the rows asked for, one row a sequence.
 * Segments cover them in order. The rows of a segment form a grid, row by row. */
typedef struct ef_rows {
    int32_t num_rows, num_segments;
    const int32_t *starts; /* [num_segments + 1]: the first row of every segment, then num_rows; NULL: no op asks */
    const int32_t *widths; /* [num_segments]: columns of a segment's grid; NULL: 1 */
} ef_rows;

/* What a run is given. */
typedef struct ef_batch {
    const ef_rows *domains;            /* [num_domains] */
    const int32_t *const *indices;     /* of each index input: a number for every row of its domain; NULL: all 0 */
    const float *const *features;      /* of each float input: [num_rows of its domain][width] without padding */
    const ef_segment *const *segments; /* [num_caches * num_domains]: those of a cache in a domain, or NULL */
    const int32_t *const *page_table;  /* [num_caches] */
    int32_t num_domains;
} ef_batch;

/* The segments of a domain as one cache sees them. */
static inline const ef_segment *ef_batch_segments(const ef_batch *batch, int32_t cache, int32_t domain)
{
    return batch->segments[cache * batch->num_domains + domain];
}

/* -- operands -- */

/* Row `row` of an operand; NULL where it is absent. */
static inline float *ef_operand_row(const ef_plan *plan, ef_operand operand, int64_t row)
{
    if (operand.buffer < 0)
        return NULL;
    const ef_buffer *buffer = &plan->buffers[operand.buffer];
    return (float *)(void *)(plan->arena + buffer->offset + row * buffer->stride) + operand.column;
}

static inline int64_t ef_operand_stride(const ef_plan *plan, ef_operand operand)
{
    return operand.buffer < 0 ? 0 : plan->buffers[operand.buffer].stride;
}

static inline const float *ef_plan_vector(const ef_plan *plan, int32_t index)
{
    return index < 0 ? NULL : plan->vectors[index];
}

#endif
