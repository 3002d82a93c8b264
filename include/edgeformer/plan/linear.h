/* LINEAR over a range of its rows and panels, and what is done to the products while they are near: gate and
 * quantize. */
#ifndef EDGEFORMER_PLAN_LINEAR_H
#define EDGEFORMER_PLAN_LINEAR_H

#include "edgeformer/plan/plan.h"

enum {
    EF_FINISH_BYTES = 64 * 1024, /* of products kept until they are gated or quantized: they stay in a core's cache */
    EF_FINISH_ROWS = EF_FINISH_BYTES / (EF_BLOCK * (int)sizeof(float))
};

/* Panels of the result. */
static inline int32_t ef_linear_panels(const ef_op *op) { return (op->width + EF_TILE - 1) / EF_TILE; }

/* Bytes of weights of one panel of the result. */
static inline int64_t ef_linear_panel_bytes(const ef_plan *plan, const ef_op *op)
{
    return plan->matrices[op->weight].panel_bytes << op->linear.gated;
}

/* Where the products kept begin in a thread's scratch, after what the product itself needs. */
static inline int64_t ef_linear_kept(const ef_plan *plan, const ef_op *op)
{
    return (ef_matmul_scratch(&plan->matrices[op->weight]) + EF_ALIGNMENT - 1) / EF_ALIGNMENT * EF_ALIGNMENT;
}

/* Bytes of scratch that a thread needs. */
static inline int64_t ef_linear_scratch(const ef_plan *plan, const ef_op *op)
{
    const int kept = op->linear.gated ? 2 : op->output.buffer < 0;
    return ef_linear_kept(plan, op) + kept * EF_FINISH_BYTES;
}

/* Quantizes columns [column, column + width) of rows [begin, end) of an op's result, whole blocks, from `values`:
 * those of the first row, `stride` bytes from row to row. */
static inline void ef_quantize_columns(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, int32_t column,
                                       int32_t width, const float *values, int64_t stride)
{
    for (int32_t row = begin; row < end; row++, values += stride / (int64_t)sizeof(float)) {
        ef_block_activation *blocks = (ef_block_activation *)(void *)ef_operand_row(plan, op->quantized, row);
        plan->kernels->quantize(blocks + column / EF_BLOCK, values, width);
    }
}

/* The product of rows [begin, end) with panels [panel, panel + panels) of the matrix, written to `output`: the first
 * row's first column, `stride` bytes from row to row. */
static inline void ef_linear_product(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, int32_t panel,
                                     int32_t panels, float *output, int64_t stride, uint8_t *scratch)
{
    const float *bias = ef_plan_vector(plan, op->vector[0]), *residual = ef_operand_row(plan, op->input[1], begin);
    const float *input = ef_operand_row(plan, op->input[0], begin);
    const int32_t grouped = op->linear.groups > 1, last = panel + panels;
    const int32_t group_panels = grouped ? ef_linear_panels(op) / op->linear.groups : last;
    ef_matmul args = {
        .weight = plan->matrices[op->weight],
        .input_stride = ef_operand_stride(plan, op->input[0]),
        .output_stride = stride,
        .residual_stride = ef_operand_stride(plan, op->input[1]),
        .activation = op->linear.gated ? EF_ACT_NONE : op->linear.activation,
        .scratch = scratch,
    };
    const uint8_t *const weights = args.weight.data;
    for (int32_t first = panel, end_panel; first < last; first = end_panel) {
        const int32_t group = first / group_panels;
        end_panel = (group + 1) * group_panels < last ? (group + 1) * group_panels : last;
        args.weight.data = weights + first * args.weight.panel_bytes;
        args.input = input + (int64_t)group * args.weight.num_columns;
        args.output = output + (first - panel) * EF_TILE;
        args.bias = bias ? bias + first * EF_TILE : NULL;
        args.residual = residual ? residual + first * EF_TILE : NULL;
        plan->kernels->matmul(&args, 0, end - begin, 0, end_panel - first);
    }
}

/* Rows [begin, end) x panels [panel, panel + panels) of the result, few enough for the scratch: products, gate,
 * blocks. */
static inline void ef_linear_finished(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, int32_t panel,
                                      int32_t panels, uint8_t *scratch)
{
    float *kept = (float *)(void *)(scratch + ef_linear_kept(plan, op));
    const int32_t column = panel * EF_TILE, width = panels * EF_TILE;
    const int gated = op->linear.gated, keeps = op->output.buffer >= 0;
    float *output = keeps ? ef_operand_row(plan, op->output, begin) + column : kept;
    int64_t stride = keeps ? ef_operand_stride(plan, op->output) : width * (int64_t)sizeof(float);
    if (gated) {
        float *gate = kept, *up = kept + EF_FINISH_BYTES / sizeof(float);
        const int64_t part = width * (int64_t)sizeof(float);
        ef_linear_product(plan, op, begin, end, panel, panels, gate, part, scratch);
        ef_linear_product(plan, op, begin, end, ef_linear_panels(op) + panel, panels, up, part, scratch);
        for (int32_t row = 0; row < end - begin; row++)
            plan->kernels->gate(output + row * stride / (int64_t)sizeof(float), gate + row * width, up + row * width,
                                width, op->linear.activation);
    } else {
        ef_linear_product(plan, op, begin, end, panel, panels, output, stride, scratch);
    }
    if (op->quantized.buffer >= 0)
        ef_quantize_columns(plan, op, begin, end, column, width, output, stride);
}

/* Runs LINEAR over rows [begin, end) and panels [panel_begin, panel_end) of its result. Where it gates or quantizes,
 * whole columns of blocks at a time; panel_begin is even then. scratch: ef_linear_scratch bytes on a 64-byte
 * boundary. */
static inline void ef_op_linear(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, int32_t panel_begin,
                                int32_t panel_end, uint8_t *scratch)
{
    if (!op->linear.gated && op->quantized.buffer < 0) {
        ef_linear_product(plan, op, begin, end, panel_begin, panel_end - panel_begin,
                          ef_operand_row(plan, op->output, begin) + panel_begin * EF_TILE,
                          ef_operand_stride(plan, op->output), scratch);
        return;
    }
    const int32_t parts = (end - begin + EF_FINISH_ROWS - 1) / EF_FINISH_ROWS;
    for (int32_t part = 0, row = begin; part < parts; part++) {
        const int32_t rows = (end - row + parts - part - 1) / (parts - part);
        const int32_t most = EF_FINISH_BYTES / (rows * EF_BLOCK * (int32_t)sizeof(float)) * (EF_BLOCK / EF_TILE);
        for (int32_t panel = panel_begin; panel < panel_end; panel += most) {
            const int32_t panels = panel_end - panel < most ? panel_end - panel : most;
            ef_linear_finished(plan, op, row, row + rows, panel, panels, scratch);
        }
        row += rows;
    }
}

#endif
