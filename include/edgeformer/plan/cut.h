/* What an op is likely to cost, and how it is cut into chunks. Both only move time about: no result depends on them. */
#ifndef EDGEFORMER_PLAN_CUT_H
#define EDGEFORMER_PLAN_CUT_H

#include "edgeformer/plan/ops.h"

enum {
    EF_ROW_BLOCK = 24,  /* rows of products and of attention are cut at multiples of this: whole register tiles */
    EF_PANEL_BLOCK = 2, /* and panels at multiples of this */
    EF_CACHED_INPUT_BYTES = 384 * 1024
};

static inline int32_t ef_divide_up(int32_t a, int32_t b) { return a / b + (a % b != 0); }

static inline double ef_attention_products(const ef_plan *plan, const ef_batch *batch, const ef_op *op)
{
    const ef_cache *cache = &plan->caches[op->attention.cache];
    const int32_t num_segments = batch->domains[op->domain].num_segments;
    double pairs = 0;
    for (int32_t i = 0; i < num_segments; i++) {
        const ef_segment *segment = &ef_batch_segments(batch, op->attention.cache, op->domain)[i];
        pairs += (double)segment->num_rows * (double)ef_segment_positions(segment, op->attention.causal);
    }
    return pairs * op->attention.num_heads * (cache->key_dim + cache->value_dim);
}

/* A guess, in nanoseconds of one fast core: good enough to tell what is worth waking threads for. */
static inline double ef_op_nanoseconds(const ef_plan *plan, const ef_batch *batch, const ef_op *op)
{
    double rows = ef_domain_rows(batch, op->domain), values = rows * op->width;
    if (rows == 0)
        return 0;
    switch ((enum ef_op_kind)op->kind) {
    case EF_OP_LINEAR: {
        const ef_matrix *weight = &plan->matrices[op->weight];
        double products = rows * weight->num_rows * weight->num_columns;
        double bytes = (double)ef_linear_panels(op) * (double)ef_linear_panel_bytes(plan, op);
        return products / (ef_type_is_quantized(weight->type) ? 300 : 50) + bytes / 30;
    }
    case EF_OP_EXPERT_LINEAR: {
        const ef_matrix *weight = &plan->matrices[op->weight];
        return rows * op->width * weight->num_columns / (ef_type_is_quantized(weight->type) ? 100 : 25);
    }
    case EF_OP_ATTENTION: return ef_attention_products(plan, batch, op) / 30;
    case EF_OP_ROW_FUNCTION: return values * op->row_function.groups * 0.4;
    case EF_OP_ROPE: return rows * op->rope.num_heads * op->rope.head_dim * 0.3;
    case EF_OP_STORE_KV: {
        const ef_cache *cache = &plan->caches[op->store_kv.cache];
        return rows * cache->num_heads * (cache->key_dim + cache->value_dim) * 0.5;
    }
    case EF_OP_WINDOW: {
        const int32_t taps = op->window.kernel_height * op->window.kernel_width;
        return values * (op->window.reduction == EF_WINDOW_UNFOLD ? 1 : taps) * ef_op_list[op->kind].nanoseconds;
    }
    case EF_OP_POOL: return (double)ef_domain_rows(batch, op->pool.rows) * op->width * 0.1;
    default: return values * ef_op_list[op->kind].nanoseconds;
    }
}

/* LINEAR: rows of which the inputs that a product reads at a time, row_bytes each, stay in a core's second-level cache,
 * times a share of the panels; chunks of the same rows come one after the other. Rows are cut finer only where there
 * are too few panels to go round. */
static inline ef_cut ef_linear_cut(int32_t rows, int64_t row_bytes, int32_t panels, int32_t wanted)
{
    int32_t row_blocks = ef_divide_up(rows, EF_ROW_BLOCK), panel_blocks = ef_divide_up(panels, EF_PANEL_BLOCK);
    int64_t cached = EF_CACHED_INPUT_BYTES / (row_bytes * EF_ROW_BLOCK);
    int32_t row_chunks = cached >= row_blocks ? 1 : ef_divide_up(row_blocks, cached > 1 ? (int32_t)cached : 1);
    int32_t panel_chunks = ef_divide_up(wanted, row_chunks);
    panel_chunks = panel_chunks < panel_blocks ? panel_chunks : panel_blocks;
    if (row_chunks < ef_divide_up(wanted, panel_chunks))
        row_chunks = ef_divide_up(wanted, panel_chunks);
    row_chunks = row_chunks < row_blocks ? row_chunks : row_blocks;
    ef_cut cut = {
        .rows_a_chunk = ef_divide_up(row_blocks, row_chunks) * EF_ROW_BLOCK,
        .panels_a_chunk = ef_divide_up(panel_blocks, panel_chunks) * EF_PANEL_BLOCK,
    };
    cut.panel_chunks = ef_divide_up(panels, cut.panels_a_chunk);
    cut.num_chunks = ef_divide_up(rows, cut.rows_a_chunk) * cut.panel_chunks;
    return cut;
}

/* ATTENTION: how many spans to a chunk, where the heads of a few rows over long contexts are too few to go round; 0
 * where they are not, or where the parts would not fit. */
static inline int32_t ef_attention_split(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t wanted)
{
    const int32_t num_segments = batch->domains[op->domain].num_segments;
    const int64_t heads = plan->caches[op->attention.cache].num_heads, units = heads * num_segments;
    int64_t floats = 0, spans = 0, most = 0;
    if (!plan->parts || units > EF_PARTS_UNITS || 2 * units >= wanted)
        return 0;
    for (int32_t i = 0; i < num_segments; i++) {
        const ef_segment *segment = &ef_batch_segments(batch, op->attention.cache, op->domain)[i];
        const int32_t count = ef_attention_spans(ef_segment_positions(segment, op->attention.causal));
        if (segment->num_rows > EF_ROW_BLOCK)
            return 0;
        floats += ef_segment_parts(plan, op, segment) * heads;
        spans += count * heads;
        most = count > most ? count : most;
    }
    const int64_t spans_a_chunk = (spans + wanted - 1) / wanted;
    return floats <= EF_PARTS_FLOATS && spans_a_chunk < most ? (int32_t)spans_a_chunk : 0;
}

/* ATTENTION: blocks of rows of one key-value head, no longer than the number of chunks wants, or spans. */
static inline ef_cut ef_attention_cut(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t wanted)
{
    int32_t heads = plan->caches[op->attention.cache].num_heads;
    int32_t rows_a_chunk = (int32_t)((int64_t)ef_domain_rows(batch, op->domain) * heads / wanted);
    rows_a_chunk = rows_a_chunk < EF_ROW_BLOCK ? EF_ROW_BLOCK : rows_a_chunk;
    ef_cut cut = {.rows_a_chunk = rows_a_chunk, .panel_chunks = 1};
    cut.spans_a_chunk = ef_attention_split(plan, batch, op, wanted);
    const int32_t num_segments = batch->domains[op->domain].num_segments;
    for (int32_t i = 0; i < num_segments; i++)
        cut.num_chunks += heads * ef_segment_chunks(op, &cut, &ef_batch_segments(batch, op->attention.cache, op->domain)[i]);
    return cut;
}

static inline int ef_op_is_row_wise(const ef_op *op) { return ef_op_list[op->kind].row_wise; }

/* One past the last op of the chain from `first` on: row-wise ops of one domain, through all of which a range of rows
 * may pass at once; any other op is a chain by itself. */
static inline int32_t ef_chain_end(const ef_plan *plan, int32_t first)
{
    int32_t end = first + 1;
    if (ef_op_is_row_wise(&plan->ops[first]))
        while (end < plan->num_ops && ef_op_is_row_wise(&plan->ops[end]) &&
               plan->ops[end].domain == plan->ops[first].domain)
            end++;
    return end;
}

/* Cuts a chain into about `wanted` >= 1 chunks, or as many as it has. */
static inline ef_cut ef_chain_cut(const ef_plan *plan, const ef_batch *batch, int32_t first, int32_t end,
                                  int32_t wanted)
{
    const ef_op *op = &plan->ops[first];
    int32_t rows = ef_domain_rows(batch, op->domain), unit = 1;
    if (rows == 0)
        return (ef_cut){.rows_a_chunk = 1, .panel_chunks = 1};
    if (op->kind == EF_OP_LINEAR) {
        const ef_matrix *weight = &plan->matrices[op->weight];
        int64_t stride = ef_operand_stride(plan, op->input[0]), slab = ef_matmul_slab_bytes(weight);
        return ef_linear_cut(rows, slab < stride ? slab : stride, ef_linear_panels(op), wanted);
    }
    if (op->kind == EF_OP_ATTENTION)
        return ef_attention_cut(plan, batch, op, wanted);
    if (op->kind == EF_OP_ROUTE) /* sorts all rows */
        return (ef_cut){.rows_a_chunk = rows, .panel_chunks = 1, .num_chunks = 1};
    if (op->kind == EF_OP_EXPERT_LINEAR) { /* panels of all rows, whatever experts they came to */
        const int32_t panels = ef_linear_panels(op), blocks = ef_divide_up(panels, EF_PANEL_BLOCK);
        const int32_t panels_a_chunk = ef_divide_up(blocks, wanted < blocks ? wanted : blocks) * EF_PANEL_BLOCK;
        const int32_t chunks = ef_divide_up(panels, panels_a_chunk);
        return (ef_cut){.rows_a_chunk = rows, .panels_a_chunk = panels_a_chunk, .panel_chunks = chunks, .num_chunks = chunks};
    }
    /* Positions of one page lie side by side for each column of the keys: one thread writes them all. */
    for (int32_t i = first; i < end; i++)
        if (plan->ops[i].kind == EF_OP_STORE_KV)
            unit = EF_TILE;
    int32_t units = ef_divide_up(rows, unit);
    int32_t rows_a_chunk = ef_divide_up(units, wanted < units ? wanted : units) * unit;
    return (ef_cut){.rows_a_chunk = rows_a_chunk, .panel_chunks = 1, .num_chunks = ef_divide_up(rows, rows_a_chunk)};
}

/* Bytes that one thread needs to run an op: those of its family, or a row of floats where only its quantized form is
 * kept. */
static inline int64_t ef_op_scratch_bytes(const ef_plan *plan, const ef_op *op)
{
    int64_t floats = 0;
    if (op->kind == EF_OP_LINEAR)
        return ef_linear_scratch(plan, op);
    if (op->kind == EF_OP_EXPERT_LINEAR)
        return ef_matmul_scratch(&plan->matrices[op->weight]);
    if (op->kind == EF_OP_ROUTE)
        return ef_route_scratch(op);
    if (op->kind == EF_OP_ATTENTION)
        floats = ef_attention_scratch(&plan->caches[op->attention.cache]);
    else if (op->quantized.buffer >= 0 && op->output.buffer < 0)
        floats = ef_pad16(op->width);
    return floats * (int64_t)sizeof(float);
}

#endif
