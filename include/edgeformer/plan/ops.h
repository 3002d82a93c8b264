/* One function for each kind of op, over a range of its rows; how an op is cut into chunks; what it is likely to
 * cost. */
#ifndef EDGEFORMER_PLAN_OPS_H
#define EDGEFORMER_PLAN_OPS_H

#include <stdatomic.h>
#include <string.h>

#include "edgeformer/kernels/attention/attention_scratch.h"
#include "edgeformer/plan/experts.h"
#include "edgeformer/plan/grid.h"
#include "edgeformer/plan/linear.h"

/* How an op is cut. LINEAR: row_chunks x panel_chunks, panels within rows. ATTENTION: within each segment, key-value
 * heads x rows, or x spans of positions. Others: rows. */
typedef struct ef_cut {
    int32_t rows_a_chunk, panels_a_chunk;
    int32_t panel_chunks; /* of a range of rows; 1 but for LINEAR */
    int32_t spans_a_chunk; /* ATTENTION, all rows of a segment at a time; 0: all spans of some rows */
    int32_t num_chunks;
} ef_cut;

/* What a thread keeps from chunk to chunk of one op; zero at the first. Its scratch follows. */
typedef struct ef_worker_state {
    int32_t op;
    int32_t segment, segment_chunk; /* ATTENTION: where the last chunk lay, and the first chunk of that segment */
    int64_t segment_parts;          /* and its first float of the parts */
} ef_worker_state;

static inline float *ef_worker_scratch(ef_worker_state *state)
{
    return (float *)(void *)((uint8_t *)state + EF_ALIGNMENT);
}

static inline int32_t ef_domain_rows(const ef_batch *batch, int32_t domain)
{
    return batch->domains[domain].num_rows;
}

/* The segment that holds a row of its domain. */
static inline const ef_segment *ef_find_segment(const ef_segment *segments, int32_t num_segments, int32_t row)
{
    int32_t low = 0, high = num_segments;
    while (high - low > 1) {
        int32_t middle = low + (high - low) / 2;
        if (segments[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return &segments[low];
}

static inline void ef_op_features(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin,
                                  int32_t end)
{
    const float *values = batch->features[op->features.source];
    for (int32_t row = begin; row < end; row++)
        memcpy(ef_operand_row(plan, op->output, row), values + (int64_t)row * op->width, (size_t)op->width * sizeof(float));
}

static inline void ef_op_embed(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    const int32_t *source = batch->indices[op->embed.source];
    for (int32_t row = begin; row < end; row++)
        plan->kernels->embed(ef_operand_row(plan, op->output, row), &plan->matrices[op->weight],
                             source ? source[row] : 0, op->embed.scale, ef_operand_row(plan, op->input[0], row));
}

/* Where a row op writes its floats: its output, or the scratch if only the quantized row is wanted. */
static inline float *ef_row_target(const ef_plan *plan, const ef_op *op, int32_t row, float *scratch)
{
    return op->output.buffer < 0 ? scratch : ef_operand_row(plan, op->output, row);
}

static inline void ef_quantize_row(const ef_plan *plan, const ef_op *op, int32_t row, const float *values)
{
    if (op->quantized.buffer < 0)
        return;
    ef_block_activation *blocks = (ef_block_activation *)(void *)ef_operand_row(plan, op->quantized, row);
    (op->row_scale ? plan->kernels->quantize_row : plan->kernels->quantize)(blocks, values, op->width);
}

static inline void ef_op_row_function(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, float *scratch)
{
    const float *weight = ef_plan_vector(plan, op->vector[0]), *bias = ef_plan_vector(plan, op->vector[1]);
    for (int32_t row = begin; row < end; row++) {
        const float *input = ef_operand_row(plan, op->input[0], row);
        float *output = ef_row_target(plan, op, row, scratch);
        for (int64_t first = 0; first < op->row_function.groups * (int64_t)op->width; first += op->width)
            op->function(output + first, input + first, weight, bias, op->width, op->row_function.number);
        ef_quantize_row(plan, op, row, output);
    }
}

static inline void ef_op_quantize(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++)
        ef_quantize_row(plan, op, row, ef_operand_row(plan, op->input[0], row));
}

static inline void ef_op_rotary(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++)
        plan->kernels->rotary(ef_operand_row(plan, op->output, row), batch->indices[op->rotary.source][row],
                              ef_plan_vector(plan, op->vector[0]), op->width / 2, op->rotary.scale);
}

static inline void ef_op_rope(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++)
        plan->kernels->rope(ef_operand_row(plan, op->output, row), ef_operand_row(plan, op->input[1], row),
                            op->rope.num_heads, op->rope.head_dim, op->rope.half, op->rope.pairing);
}

static inline void ef_op_store_kv(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin,
                                  int32_t end)
{
    const int32_t cache = op->store_kv.cache, num_segments = batch->domains[op->domain].num_segments;
    const ef_segment *segments = ef_batch_segments(batch, cache, op->domain);
    const int64_t key_stride = ef_operand_stride(plan, op->input[0]);
    const int64_t value_stride = ef_operand_stride(plan, op->input[1]);
    for (int32_t row = begin, count; row < end; row += count) { /* what one page takes at a time */
        const ef_segment *segment = ef_find_segment(segments, num_segments, row);
        const int32_t position = segment->position + row - segment->first_row, slot = position % EF_TILE;
        const int32_t page = batch->page_table[cache][segment->first_page + position / EF_TILE];
        const int32_t segment_end = segment->first_row + segment->num_rows;
        const int32_t last = segment_end < end ? segment_end : end;
        count = last - row < EF_TILE - slot ? last - row : EF_TILE - slot;
        plan->kernels->store_kv(&plan->caches[cache], page, op->store_kv.layer, slot, count,
                                ef_operand_row(plan, op->input[0], row), key_stride,
                                ef_operand_row(plan, op->input[1], row), value_stride);
    }
}

static inline void ef_op_gate(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, float *scratch)
{
    for (int32_t row = begin; row < end; row++) {
        float *output = ef_row_target(plan, op, row, scratch);
        const float *gate = ef_operand_row(plan, op->input[0], row), *up = ef_operand_row(plan, op->input[1], row);
        if (op->gate.limit > 0)
            plan->kernels->gate_limited(output, gate, up, op->width, op->gate.activation, op->gate.limit, op->gate.offset);
        else
            plan->kernels->gate(output, gate, up, op->width, op->gate.activation);
        ef_quantize_row(plan, op, row, output);
    }
}

static inline void ef_op_activate(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end, float *scratch)
{
    for (int32_t row = begin; row < end; row++) {
        float *output = ef_row_target(plan, op, row, scratch);
        plan->kernels->activate(output, ef_operand_row(plan, op->input[0], row), op->width,
                                op->activate.activation);
        ef_quantize_row(plan, op, row, output);
    }
}

static inline void ef_op_add(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++)
        plan->kernels->add(ef_operand_row(plan, op->output, row), ef_operand_row(plan, op->input[0], row),
                           ef_operand_row(plan, op->input[1], row), op->width);
}

static inline void ef_op_weight_rows(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++)
        plan->kernels->affine(ef_operand_row(plan, op->output, row), ef_operand_row(plan, op->input[0], row), NULL, NULL,
                              op->width, *ef_operand_row(plan, op->input[1], row));
}

static inline void ef_op_concatenate(const ef_plan *plan, const ef_op *op, int32_t begin, int32_t end)
{
    const int32_t first = op->concatenate.first;
    for (int32_t row = begin; row < end; row++) {
        float *output = ef_operand_row(plan, op->output, row);
        memcpy(output, ef_operand_row(plan, op->input[0], row), (size_t)first * sizeof(float));
        memcpy(output + first, ef_operand_row(plan, op->input[1], row), (size_t)(op->width - first) * sizeof(float));
    }
}

static inline void ef_op_pool(const ef_plan *plan, const ef_batch *batch, const ef_op *op, int32_t begin, int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const int32_t *starts = batch->domains[op->pool.rows].starts + row;
        plan->kernels->pool(ef_operand_row(plan, op->output, row), ef_operand_row(plan, op->input[0], starts[0]),
                            ef_operand_stride(plan, op->input[0]), starts[1] - starts[0], op->width, op->pool.pooling);
    }
}

/* Positions that a segment's rows look at in the cache of an ATTENTION, at most. */
static inline int32_t ef_segment_positions(const ef_segment *segment, int causal)
{
    return causal ? segment->position + segment->num_rows : segment->kv_length;
}

/* Floats of the parts that one key-value head of a segment is split into. */
static inline int64_t ef_segment_parts(const ef_plan *plan, const ef_op *op, const ef_segment *segment)
{
    const ef_cache *cache = &plan->caches[op->attention.cache];
    return ef_attention_part(cache) * ef_attention_tiles(segment->num_rows * (op->attention.num_heads / cache->num_heads)) *
           ef_attention_spans(ef_segment_positions(segment, op->attention.causal));
}

/* Chunks that each key-value head of a segment is cut into. */
static inline int32_t ef_segment_chunks(const ef_op *op, const ef_cut *cut, const ef_segment *segment)
{
    if (cut->spans_a_chunk == 0)
        return (segment->num_rows + cut->rows_a_chunk - 1) / cut->rows_a_chunk;
    const int32_t spans = ef_attention_spans(ef_segment_positions(segment, op->attention.causal));
    return (spans + cut->spans_a_chunk - 1) / cut->spans_a_chunk;
}

/* Quantizes what a key-value head gave rows [begin, end) of a segment, where the op wants that. */
static inline void ef_attention_quantize(const ef_plan *plan, const ef_op *op, const ef_attention *args,
                                         const ef_segment *segment, int32_t kv_head, int32_t begin, int32_t end)
{
    const int32_t width = args->num_heads / args->cache->num_heads * args->cache->value_dim, column = kv_head * width;
    begin += segment->first_row;
    if (op->quantized.buffer >= 0)
        ef_quantize_columns(plan, op, begin, segment->first_row + end, column, width,
                            ef_operand_row(plan, op->output, begin) + column, args->output_stride);
}

/* Chunk `within` of the `chunks` of a key-value head of the segment, which gives one part of its spans; whoever is the
 * last merges them all. */
static inline void ef_attention_chunk(const ef_plan *plan, const ef_op *op, const ef_cut *cut, const ef_attention *args,
                                      const ef_segment *segment, int32_t kv_head, int32_t within, int32_t chunks,
                                      const ef_worker_state *state, float *scratch)
{
    const int32_t num_spans = ef_attention_spans(ef_segment_positions(segment, op->attention.causal));
    const int32_t begin = within * cut->spans_a_chunk;
    const int32_t end = begin + cut->spans_a_chunk < num_spans ? begin + cut->spans_a_chunk : num_spans;
    atomic_int *finished = &plan->parts->finished[state->segment * args->cache->num_heads + kv_head];
    float *parts = plan->parts->values + state->segment_parts + kv_head * ef_segment_parts(plan, op, segment);
    plan->kernels->attention_split(args, segment, kv_head, begin, end, parts, scratch);
    if (atomic_fetch_add_explicit(finished, 1, memory_order_acq_rel) + 1 < chunks)
        return;
    atomic_store_explicit(finished, 0, memory_order_relaxed);
    plan->kernels->attention_join(args, segment, kv_head, num_spans, parts, scratch);
    ef_attention_quantize(plan, op, args, segment, kv_head, 0, segment->num_rows);
}

/* The bias of an ATTENTION that has one. */
static inline ef_bias ef_op_bias(const ef_plan *plan, const ef_op *op)
{
    const float *table = ef_plan_vector(plan, op->vector[0]);
    const int32_t rows = op->attention.bias_rows, columns = op->attention.bias_columns, behind = op->attention.bias_behind;
    return rows ? ef_bias_dense(table, rows, columns) : ef_bias_by_distance(table, behind, columns - 1 - behind);
}

/* What the rows of an ATTENTION add to its scores; nothing where it has no buckets. */
static inline ef_relative ef_op_relative(const ef_plan *plan, const ef_op *op)
{
    return (ef_relative){
        .scores = ef_operand_row(plan, op->input[1], 0),
        .stride = ef_operand_stride(plan, op->input[1]),
        .buckets = ef_plan_vector(plan, op->vector[0]),
        .num_buckets = op->attention.relative_buckets,
        .behind = op->attention.bias_behind,
        .ahead = op->attention.bias_columns - 1 - op->attention.bias_behind,
    };
}

/* The chunk counts over all segments: finds the one that holds `chunk`, going on from where the last one was, or from
 * the first segment where that lies behind. */
static inline void ef_op_attention(const ef_plan *plan, const ef_batch *batch, const ef_op *op, const ef_cut *cut,
                                   int32_t chunk, ef_worker_state *state)
{
    const ef_cache *cache = &plan->caches[op->attention.cache];
    const ef_segment *segment;
    int32_t chunks;
    if (chunk < state->segment_chunk)
        *state = (ef_worker_state){.op = state->op};
    for (;;) {
        segment = &ef_batch_segments(batch, op->attention.cache, op->domain)[state->segment];
        chunks = ef_segment_chunks(op, cut, segment);
        if (chunk < state->segment_chunk + chunks * cache->num_heads)
            break;
        state->segment_chunk += chunks * cache->num_heads;
        state->segment_parts += ef_segment_parts(plan, op, segment) * cache->num_heads;
        state->segment++;
    }
    const int32_t kv_head = (chunk - state->segment_chunk) / chunks, within = (chunk - state->segment_chunk) % chunks;
    const int related = op->attention.relative_buckets > 0, biased = op->vector[0] >= 0 && !related;
    ef_bias bias;
    if (biased)
        bias = ef_op_bias(plan, op);
    const ef_relative relative = ef_op_relative(plan, op);
    const ef_attention args = {
        .query = ef_operand_row(plan, op->input[0], 0),
        .query_stride = ef_operand_stride(plan, op->input[0]),
        .output = ef_operand_row(plan, op->output, 0),
        .output_stride = ef_operand_stride(plan, op->output),
        .cache = cache,
        .page_table = batch->page_table[op->attention.cache],
        .layer = op->attention.layer,
        .num_heads = op->attention.num_heads,
        .causal = op->attention.causal,
        .prefix = op->attention.prefix,
        .window = op->attention.window,
        .scale = op->attention.scale,
        .soft_cap = op->attention.soft_cap,
        .bias = biased ? &bias : NULL,
        .relative = related ? &relative : NULL,
        .sinks = ef_plan_vector(plan, op->vector[1]),
    };
    if (cut->spans_a_chunk) {
        ef_attention_chunk(plan, op, cut, &args, segment, kv_head, within, chunks, state, ef_worker_scratch(state));
        return;
    }
    const int32_t begin = within * cut->rows_a_chunk;
    const int32_t end = begin + cut->rows_a_chunk < segment->num_rows ? begin + cut->rows_a_chunk : segment->num_rows;
    plan->kernels->attention(&args, segment, kv_head, begin, end, ef_worker_scratch(state));
    ef_attention_quantize(plan, op, &args, segment, kv_head, begin, end);
}

/* Runs one chunk of an op. */
static inline void ef_op_chunk(const ef_plan *plan, const ef_batch *batch, const ef_op *op, const ef_cut *cut,
                               int32_t chunk, ef_worker_state *state)
{
    int32_t rows = ef_domain_rows(batch, op->domain);
    int32_t begin = chunk / cut->panel_chunks * cut->rows_a_chunk;
    int32_t end = begin + cut->rows_a_chunk < rows ? begin + cut->rows_a_chunk : rows;
    switch ((enum ef_op_kind)op->kind) {
    case EF_OP_EMBED: ef_op_embed(plan, batch, op, begin, end); break;
    case EF_OP_LINEAR: {
        int32_t panels = ef_linear_panels(op);
        int32_t first = chunk % cut->panel_chunks * cut->panels_a_chunk;
        int32_t last = first + cut->panels_a_chunk < panels ? first + cut->panels_a_chunk : panels;
        ef_op_linear(plan, op, begin, end, first, last, (uint8_t *)ef_worker_scratch(state));
        break;
    }
    case EF_OP_ROW_FUNCTION: ef_op_row_function(plan, op, begin, end, ef_worker_scratch(state)); break;
    case EF_OP_QUANTIZE: ef_op_quantize(plan, op, begin, end); break;
    case EF_OP_ROTARY: ef_op_rotary(plan, batch, op, begin, end); break;
    case EF_OP_ROPE: ef_op_rope(plan, op, begin, end); break;
    case EF_OP_STORE_KV: ef_op_store_kv(plan, batch, op, begin, end); break;
    case EF_OP_ATTENTION: ef_op_attention(plan, batch, op, cut, chunk, state); break;
    case EF_OP_GATE: ef_op_gate(plan, op, begin, end, ef_worker_scratch(state)); break;
    case EF_OP_ACTIVATE: ef_op_activate(plan, op, begin, end, ef_worker_scratch(state)); break;
    case EF_OP_ADD: ef_op_add(plan, op, begin, end); break;
    case EF_OP_WEIGHT_ROWS: ef_op_weight_rows(plan, op, begin, end); break;
    case EF_OP_FEATURES: ef_op_features(plan, batch, op, begin, end); break;
    case EF_OP_GATHER: ef_op_gather(plan, batch, op, begin, end); break;
    case EF_OP_WINDOW: ef_op_window(plan, batch, op, begin, end); break;
    case EF_OP_SPLIT: ef_op_split(plan, op, begin, end); break;
    case EF_OP_ROUTE: ef_op_route(plan, batch, op, ef_worker_scratch(state)); break;
    case EF_OP_DISPATCH: ef_op_dispatch(plan, batch, op, begin, end); break;
    case EF_OP_EXPERT_LINEAR: {
        const int32_t panels = ef_linear_panels(op), first = chunk * cut->panels_a_chunk;
        const int32_t last = first + cut->panels_a_chunk < panels ? first + cut->panels_a_chunk : panels;
        ef_op_expert_linear(plan, batch, op, first, last, (uint8_t *)ef_worker_scratch(state));
        break;
    }
    case EF_OP_COMBINE: ef_op_combine(plan, batch, op, begin, end); break;
    case EF_OP_CONCATENATE: ef_op_concatenate(plan, op, begin, end); break;
    case EF_OP_POOL: ef_op_pool(plan, batch, op, begin, end); break;
    case EF_OP_COUNT: break;
    }
}

#endif
