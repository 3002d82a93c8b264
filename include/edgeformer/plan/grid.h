/* Ops that take rows from elsewhere: gathered by indices, under a window over a grid, split into several. */
#ifndef EDGEFORMER_PLAN_GRID_H
#define EDGEFORMER_PLAN_GRID_H

#include <string.h>

#include "edgeformer/plan/plan.h"

/* What becomes of the rows under a window. */
enum ef_window { EF_WINDOW_UNFOLD = 0, EF_WINDOW_MAX = 1, EF_WINDOW_MEAN = 2, EF_WINDOW_WEIGHTED = 3, EF_WINDOW_COUNT };

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

/* The row of input[0] under tap `tap` of the window at a place of the output's grid, or NULL outside of the grid. */
static inline const float *ef_window_row(const ef_plan *plan, const ef_op *op, const ef_grid *input, const ef_grid *output,
                                         int32_t place, int32_t tap)
{
    const int64_t top = (int64_t)(place / output->width) * op->window.stride_height - op->window.padding_top;
    const int64_t left = (int64_t)(place % output->width) * op->window.stride_width - op->window.padding_left;
    const int32_t row = ef_grid_row(input, top + (int64_t)(tap / op->window.kernel_width) * op->window.dilation_height,
                                    left + (int64_t)(tap % op->window.kernel_width) * op->window.dilation_width);
    return row < 0 ? NULL : ef_operand_row(plan, op->input[0], row);
}

/* One tap's part of a result of n columns; `count` rows came before it. */
static inline void ef_window_add(const ef_plan *plan, const ef_op *op, float *output, const float *input, int32_t tap,
                                 int32_t count, int64_t n)
{
    if (op->window.reduction == EF_WINDOW_WEIGHTED)
        plan->kernels->affine(output, input, ef_plan_vector(plan, op->vector[0]) + tap * ef_pad16(n), output, n, 1.0f);
    else if (count == 0)
        memcpy(output, input, (size_t)n * sizeof(float));
    else if (op->window.reduction == EF_WINDOW_MAX)
        plan->kernels->maximum(output, output, input, n);
    else
        plan->kernels->add(output, output, input, n);
}

/* The result at one place: taps in order, those outside of the grid left out. */
static inline void ef_window_reduce(const ef_plan *plan, const ef_op *op, const ef_grid *input, const ef_grid *output,
                                    int32_t place, float *target)
{
    const int32_t taps = op->window.kernel_height * op->window.kernel_width;
    const float *bias = ef_plan_vector(plan, op->vector[1]);
    int32_t count = 0;
    memset(target, 0, (size_t)op->width * sizeof(float)); /* also where no row lies under the window */
    if (op->window.reduction == EF_WINDOW_WEIGHTED && bias)
        memcpy(target, bias, (size_t)op->width * sizeof(float));
    for (int32_t tap = 0; tap < taps; tap++) {
        const float *row = ef_window_row(plan, op, input, output, place, tap);
        if (row)
            ef_window_add(plan, op, target, row, tap, count++, op->width);
    }
    if (op->window.reduction == EF_WINDOW_MEAN && count > 1)
        plan->kernels->affine(target, target, NULL, NULL, op->width, 1.0f / (float)count);
}

/* The rows under the window side by side. */
static inline void ef_window_unfold(const ef_plan *plan, const ef_op *op, const ef_grid *input, const ef_grid *output,
                                    int32_t place, float *target)
{
    const int32_t taps = op->window.kernel_height * op->window.kernel_width, columns = op->width / taps;
    for (int32_t tap = 0; tap < taps; tap++, target += columns) {
        const float *row = ef_window_row(plan, op, input, output, place, tap);
        if (row)
            memcpy(target, row, (size_t)columns * sizeof(float));
        else
            memset(target, 0, (size_t)columns * sizeof(float));
    }
}

/* Rows [begin, end) of WINDOW. Both domains have the same segments. */
static inline void ef_op_window(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    const ef_rows *from = &batch->domains[op->window.rows], *to = &batch->domains[op->domain];
    for (int32_t row = begin; row < end; row++) {
        const int32_t segment = ef_segment_of(to->starts, to->num_segments, row);
        const ef_grid input = ef_grid_of(from, segment), output = ef_grid_of(to, segment);
        float *target = ef_operand_row(plan, op->output, row);
        if (op->window.reduction == EF_WINDOW_UNFOLD)
            ef_window_unfold(plan, op, &input, &output, row - output.first_row, target);
        else
            ef_window_reduce(plan, op, &input, &output, row - output.first_row, target);
    }
}

#endif
