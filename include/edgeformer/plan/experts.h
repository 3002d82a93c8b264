/* Routed experts: each row chooses some, rows are sorted by expert, and only the experts that were chosen are read. */
#ifndef EDGEFORMER_PLAN_EXPERTS_H
#define EDGEFORMER_PLAN_EXPERTS_H

#include <string.h>

#include "edgeformer/plan/linear.h"

enum ef_scoring { EF_SCORING_SOFTMAX = 0, EF_SCORING_CHOSEN_SOFTMAX = 1 /* of the chosen alone */, EF_SCORING_SIGMOID = 2 };
enum { EF_MAX_EXPERTS = 1024, EF_SCORING_COUNT = 3, EF_ROUTE_COLUMNS = 5 /* of ef_route, four bytes each */ };

/* A row of routes. Place m of the sorted choices: the row that came there and its expert. Choice m, the j-th of row r
 * where m = r * used + j: its expert, its weight and its place. */
typedef struct ef_route {
    int32_t row, expert;
    int32_t choice_expert, choice_place;
    float choice_weight;
} ef_route;

static inline ef_route *ef_route_at(const ef_plan *plan, ef_operand operand, int64_t place)
{
    return (ef_route *)(void *)ef_operand_row(plan, operand, place);
}

/* An index within [0, count), count >= 1: what a plan's own ops wrote, whatever else may have been written there. */
static inline int32_t ef_route_index(int32_t index, int32_t count)
{
    return index >= 0 && index < count ? index : 0;
}

/* Bytes of scratch that ROUTE needs: scores of all experts, those compared, and how many rows each has. */
static inline int64_t ef_route_scratch(const ef_op *op)
{
    return 3 * ef_pad16(op->route.num_experts + 1) * (int64_t)sizeof(float);
}

/* The expert with the greatest of `compared` that is not chosen yet, of equals the lowest; marks it. NaN is never
 * greater, so a row of them chooses the experts in order. */
static inline int32_t ef_route_best(float *compared, uint8_t *chosen, int32_t num_experts)
{
    int32_t best = -1;
    for (int32_t expert = 0; expert < num_experts; expert++)
        if (!chosen[expert] && (best < 0 || compared[expert] > compared[best]))
            best = expert;
    chosen[best] = 1;
    return best;
}

/* Weights of the choices of one row, from the scores of their experts. */
static inline void ef_route_weigh(const ef_plan *plan, const ef_op *op, int32_t first, const float *scores)
{
    _Alignas(EF_ALIGNMENT) float values[EF_MAX_EXPERTS];
    float sum = 0;
    const int32_t used = op->route.used;
    for (int32_t j = 0; j < used; j++)
        values[j] = scores[ef_route_at(plan, op->output, first + j)->choice_expert];
    if (op->route.scoring == EF_SCORING_CHOSEN_SOFTMAX)
        plan->kernels->softmax(values, values, NULL, NULL, used, 1.0f);
    for (int32_t j = 0; j < used; j++)
        sum += values[j];
    for (int32_t j = 0; j < used; j++) {
        const float weight = op->route.normalized ? values[j] / sum : values[j];
        ef_route_at(plan, op->output, first + j)->choice_weight = weight * op->route.scale;
    }
}

/* All of ROUTE, in one go: sorting looks at every row. scratch: ef_route_scratch bytes on a 64-byte boundary. */
static inline void ef_op_route(const ef_plan *plan, const ef_batch *batch, const ef_op *op, float *scratch)
{
    const int32_t num_rows = batch->domains[op->route.rows].num_rows, num_experts = op->route.num_experts;
    const int64_t padded = ef_pad16(num_experts + 1);
    float *scores = scratch, *compared = scratch + padded;
    int32_t *ends = (int32_t *)(void *)(scratch + 2 * padded);
    const float *bias = ef_plan_vector(plan, op->vector[0]);
    uint8_t chosen[EF_MAX_EXPERTS];
    memset(ends, 0, (size_t)padded * sizeof *ends);
    for (int32_t row = 0; row < num_rows; row++) {
        const float *logits = ef_operand_row(plan, op->input[0], row);
        const int32_t first = row * op->route.used;
        memcpy(scores, logits, (size_t)num_experts * sizeof *scores);
        if (op->route.scoring == EF_SCORING_SOFTMAX)
            plan->kernels->softmax(scores, logits, NULL, NULL, num_experts, 1.0f);
        else if (op->route.scoring == EF_SCORING_SIGMOID)
            plan->kernels->activate(scores, logits, num_experts, EF_ACT_SIGMOID);
        memcpy(compared, scores, (size_t)num_experts * sizeof *scores);
        if (bias)
            plan->kernels->add(compared, scores, bias, num_experts);
        memset(chosen, 0, (size_t)num_experts);
        for (int32_t j = 0; j < op->route.used; j++) {
            const int32_t expert = ef_route_best(compared, chosen, num_experts);
            ef_route_at(plan, op->output, first + j)->choice_expert = expert;
            ends[expert + 1]++;
        }
        ef_route_weigh(plan, op, first, scores);
    }
    for (int32_t expert = 0; expert < num_experts; expert++)
        ends[expert + 1] += ends[expert];
    for (int32_t choice = 0; choice < num_rows * op->route.used; choice++) {
        ef_route *mine = ef_route_at(plan, op->output, choice);
        const int32_t place = ends[mine->choice_expert]++;
        mine->choice_place = place;
        ef_route_at(plan, op->output, place)->row = choice / op->route.used;
        ef_route_at(plan, op->output, place)->expert = mine->choice_expert;
    }
}

/* Rows [begin, end) of DISPATCH. */
static inline void ef_op_dispatch(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    const int32_t num_rows = batch->domains[op->dispatch.rows].num_rows;
    for (int32_t place = begin; place < end; place++) {
        const int32_t row = ef_route_index(ef_route_at(plan, op->input[1], place)->row, num_rows);
        memcpy(ef_operand_row(plan, op->output, place), ef_operand_row(plan, op->input[0], row),
               (size_t)op->width * sizeof(float));
    }
}

/* Panels [panel_begin, panel_end) of the matrix of every expert, over the rows that came to it. scratch: as LINEAR. */
static inline void ef_op_expert_linear(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t panel_begin,
                                       int32_t panel_end, uint8_t *scratch)
{
    const int32_t num_rows = batch->domains[op->domain].num_rows;
    const float *bias = ef_plan_vector(plan, op->vector[0]);
    const int64_t panels = ef_linear_panels(op);
    for (int32_t begin = 0, end; begin < num_rows; begin = end) {
        const int32_t named = ef_route_at(plan, op->input[1], begin)->expert;
        const int32_t expert = ef_route_index(named, op->expert_linear.num_experts);
        for (end = begin + 1; end < num_rows && ef_route_at(plan, op->input[1], end)->expert == named;)
            end++;
        ef_matmul args = {
            .weight = plan->matrices[op->weight],
            .input = ef_operand_row(plan, op->input[0], begin),
            .input_stride = ef_operand_stride(plan, op->input[0]),
            .output = ef_operand_row(plan, op->output, begin) + (int64_t)panel_begin * EF_TILE,
            .output_stride = ef_operand_stride(plan, op->output),
            .bias = bias ? bias + (expert * panels + panel_begin) * EF_TILE : NULL,
            .activation = EF_ACT_NONE,
            .scratch = scratch,
        };
        args.weight.data += (expert * panels + panel_begin) * args.weight.panel_bytes;
        plan->kernels->matmul(&args, 0, end - begin, 0, panel_end - panel_begin);
    }
}

/* Rows [begin, end) of COMBINE. */
static inline void ef_op_combine(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    const int32_t num_places = batch->domains[op->combine.rows].num_rows;
    for (int32_t row = begin; row < end; row++) {
        float *output = ef_operand_row(plan, op->output, row);
        for (int32_t j = 0; j < op->combine.used; j++) {
            const ef_route *choice = ef_route_at(plan, op->input[1], (int64_t)row * op->combine.used + j);
            const int32_t place = ef_route_index(choice->choice_place, num_places);
            const float *input = ef_operand_row(plan, op->input[0], place);
            plan->kernels->affine(output, input, NULL, j ? output : NULL, op->width, choice->choice_weight);
        }
    }
}

#endif
