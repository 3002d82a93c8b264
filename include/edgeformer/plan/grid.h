/* Ops that take rows from elsewhere: gathered by indices, unfolded from a grid, split into several. */
#ifndef EDGEFORMER_PLAN_GRID_H
#define EDGEFORMER_PLAN_GRID_H

#include <string.h>

#include "edgeformer/plan/plan.h"

/* Rows [begin, end) of GATHER. Indices lie within the rows of both inputs, or are negative. */
static inline void ef_op_gather(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    const int32_t *indices = batch->indices[op->gather.source];
    const int32_t num_rows = batch->domains[op->gather.rows].num_rows;
    const size_t bytes = (size_t)op->width * sizeof(float);
    for (int32_t row = begin; row < end; row++) {
        float *output = ef_operand_row(plan, op->output, row);
        const int32_t index = indices[row];
        if (index < 0)
            memset(output, 0, bytes);
        else if (index < num_rows)
            memcpy(output, ef_operand_row(plan, op->input[0], index), bytes);
        else
            memcpy(output, ef_operand_row(plan, op->input[1], index - num_rows), bytes);
    }
}

/* Rows [begin, end) of SPLIT. */
static inline void ef_op_split(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const float *input = ef_operand_row(plan, op->input[0], row / op->split.parts);
        memcpy(ef_operand_row(plan, op->output, row), input + (int64_t)(row % op->split.parts) * op->width,
               (size_t)op->width * sizeof(float));
    }
}

/* The segment that holds `row`, of those with these starts. */
static inline int32_t ef_segment_of(const int32_t *starts, int32_t num_segments, int32_t row)
{
    int32_t low = 0, high = num_segments;
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        if (starts[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A segment's grid. */
typedef struct ef_grid {
    int32_t first_row, height, width;
} ef_grid;

static inline ef_grid ef_grid_of(const ef_rows *rows, int32_t segment)
{
    const int32_t width = rows->widths ? rows->widths[segment] : 1;
    const int32_t count = rows->starts[segment + 1] - rows->starts[segment];
    return (ef_grid){rows->starts[segment], count / width, width};
}

/* The row of a grid at (y, x), or -1 outside of it. */
static inline int32_t ef_grid_row(const ef_grid *grid, int64_t y, int64_t x)
{
    if (y < 0 || y >= grid->height || x < 0 || x >= grid->width)
        return -1;
    return grid->first_row + (int32_t)(y * grid->width + x);
}

/* Rows [begin, end) of UNFOLD. Both domains have the same segments. */
static inline void ef_op_unfold(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    const ef_rows *from = &batch->domains[op->unfold.rows], *to = &batch->domains[op->domain];
    const int32_t taps = op->unfold.kernel_height * op->unfold.kernel_width, columns = op->width / taps;
    for (int32_t row = begin; row < end; row++) {
        const int32_t segment = ef_segment_of(to->starts, to->num_segments, row);
        const ef_grid input = ef_grid_of(from, segment), output = ef_grid_of(to, segment);
        const int32_t place = row - output.first_row;
        const int64_t top = (int64_t)(place / output.width) * op->unfold.stride_height - op->unfold.padding_top;
        const int64_t left = (int64_t)(place % output.width) * op->unfold.stride_width - op->unfold.padding_left;
        float *target = ef_operand_row(plan, op->output, row);
        for (int32_t tap = 0; tap < taps; tap++, target += columns) {
            const int64_t y = top + (int64_t)(tap / op->unfold.kernel_width) * op->unfold.dilation_height;
            const int64_t x = left + (int64_t)(tap % op->unfold.kernel_width) * op->unfold.dilation_width;
            const int32_t source = ef_grid_row(&input, y, x);
            if (source < 0)
                memset(target, 0, (size_t)columns * sizeof(float));
            else
                memcpy(target, ef_operand_row(plan, op->input[0], source), (size_t)columns * sizeof(float));
        }
    }
}

#endif
