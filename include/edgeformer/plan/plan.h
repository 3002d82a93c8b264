/* The plan: a flat list of ops over rows, and the loop that runs it on a pool of threads from token ids to results. */
#ifndef EDGEFORMER_PLAN_H
#define EDGEFORMER_PLAN_H

#include "edgeformer/kernels/kernels.h"
#include "edgeformer/host/threads.h"
#include "edgeformer/plan/op_list.h"

enum { EF_MAX_CACHES = 4 };

/* Which count of rows an op runs over. */
enum ef_domain {
    EF_ROWS = 0,     /* every row of the batch */
    EF_OUTPUTS = 1,  /* the selected rows */
    EF_SEGMENTS = 2, /* one row a sequence */
};
enum ef_source { EF_TOKENS = 0, EF_POSITIONS = 1, EF_TOKEN_TYPES = 2 };

/* buffer < 0: absent. column: the first float (float buffers only; a multiple of sixteen where the op is LINEAR's
 * output). */
typedef struct ef_operand { int32_t buffer, column; } ef_operand;
/* Byte offset into the arena and bytes from row to row, both multiples of 64. Buffers that one chain of ops
 * (plan_cut.h) touches share no bytes. */
typedef struct ef_buffer { int64_t offset, stride; } ef_buffer;

typedef struct ef_op {
    int32_t kind, domain;
    ef_operand input[2], output, quantized;
    int32_t row_scale; /* the quantized rows have one scale each, as I8_ROW wants it: NORM, GATE, ACTIVATE, QUANTIZE */
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

/* The rows of one run. Segments of every cache list the same sequences in the same order and cover the rows in
 * order. */
typedef struct ef_batch {
    const int32_t *tokens, *positions, *token_types; /* [num_rows]; token_types may be NULL: all 0 */
    const int32_t *output_rows;                      /* [num_outputs] */
    const ef_segment *segments[EF_MAX_CACHES];       /* [num_segments] each */
    const int32_t *page_table[EF_MAX_CACHES];
    int32_t num_rows, num_outputs, num_segments;
} ef_batch;

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
