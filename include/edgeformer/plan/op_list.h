/* The ops of a plan, in one list: C makes the kinds and the fields of an op from it, Python reads their names, types and
 * order from it. What an op does with its operands stands in its row; ops.h does it, plan_checks.pxi checks it. */
#ifndef EDGEFORMER_OP_LIST_H
#define EDGEFORMER_OP_LIST_H

#include <stdint.h>

/* OP(KIND, kind, by rows, nanoseconds, (fields))
 *
 * by rows: whether a row of the result needs that row of the operands alone, in whole rows, or values that are there
 *     before its chain (cut.h).
 * nanoseconds: a guess of what a value of the result costs one fast core; 0 where cut.h reckons it itself.
 * fields: int32_t first, then float; each is one slot of four bytes. activation, pairing and pooling are numbers of those
 *     enums; source is the number of an input, rows that of a domain. */
#define EF_OPS(OP)                                                                                                     \
    /* output = row of the float input `source` */                                                                     \
    OP(FEATURES, features, 1, 0.2, (int32_t source))                                                                   \
    /* output = (input[0] or 0) + scale * matrices[weight][index input `source`] */                                                  \
    OP(EMBED, embed, 1, 0.2, (int32_t source; float scale))                                                            \
    /* output = (input[1] or 0) + activation(matrices[weight] input[0] + vectors[vector[0]]); input[0] is a quantized  \
     * buffer where the weight's type is. gated = 1: the matrix holds gate and up, each from a whole tile on; output = \
     * activation(gate) * up of `width` columns, no input[1]. groups > 1: the matrix holds, of floats and each of whole \
     * tiles, one for each of as many parts of the columns of input[0]. -> output and/or quantized */                  \
    OP(LINEAR, linear, 0, 0, (int32_t activation, gated, groups))                                                              \
    /* function (ef_row_function: a norm or kin) of each of `groups` parts of `width` columns; weight and bias are     \
     * vectors[vector[0..1]]. -> output (floats) and, where present, quantized (groups == 1) */                        \
    OP(ROW_FUNCTION, row_function, 1, 0, (int32_t groups; float number))                                               \
    /* quantized = input[0], width columns */                                                                          \
    OP(QUANTIZE, quantize, 1, 0.2, ())                                                                                 \
    /* output = cos and sin of index input `source` * vectors[vector[0]], times scale; width = 2 * half */             \
    OP(ROTARY, rotary, 1, 4, (int32_t source; float scale))                                                            \
    /* output = input[0] rotated by input[1] (the rotary), in place (same operand) */                                  \
    OP(ROPE, rope, 1, 0, (int32_t num_heads, head_dim, half, pairing))                                                 \
    /* input[0] keys, input[1] values */                                                                               \
    OP(STORE_KV, store_kv, 1, 0, (int32_t cache, layer))                                                               \
    /* output = attention(input[0]) as ef_attention says; quantized: where present, the same values (whole blocks for  \
     * each head of the cache). vectors[vector[0]]: the bias, by distance where bias_rows is 0, with bias_columns      \
     * distances from -bias_behind on, else dense; vectors[vector[1]]: the sinks. relative_buckets > 0: input[1] holds   \
     * what the rows add to the scores, by as many buckets, and vectors[vector[0]] those of the distances */                                    \
    OP(ATTENTION, attention, 0, 0, (int32_t cache, layer, num_heads, causal, prefix, window, bias_rows, bias_columns,  \
                                    bias_behind, relative_buckets; float scale, soft_cap))                                               \
    /* activation(input[0]) * input[1] -> output and/or quantized. limit > 0: input[0] is at most that, input[1]        \
     * between -limit and limit; offset is added to input[1] */                                                        \
    OP(GATE, gate, 1, 0.6, (int32_t activation; float limit, offset))                                                  \
    /* activation(input[0]) -> output and/or quantized */                                                              \
    OP(ACTIVATE, activate, 1, 0.6, (int32_t activation))                                                               \
    /* output = input[0] + input[1] */                                                                                 \
    OP(ADD, add, 1, 0.2, ())                                                                                           \
    /* output = input[0] times the one column of input[1] */                                                           \
    OP(WEIGHT_ROWS, weight_rows, 1, 0.2, ())                                                                           \
    /* output[m] = row i of input[0], then of input[1] where there is one, i = index input `source` at m; 0 where i is  \
     * negative. rows, more_rows: their domains (more_rows = -1: no input[1]) */                                       \
    OP(GATHER, gather, 0, 0.2, (int32_t source, rows, more_rows))                                                      \
    /* The rows of input[0] under a window at m, as torch.nn.Unfold places it, become output[m]: side by side, 0       \
     * outside of the grid, columns in the order [window's row][window's column][column of input[0]]; or their         \
     * maximum, or their mean, of those within the grid; or, column by column, their sum times vectors[vector[0]]      \
     * [window's row][window's column][column, padded] plus vectors[vector[1]]. reduction: enum ef_window; rows: domain \
     * of input[0] */                                                                                                  \
    OP(WINDOW, window, 0, 0.5, (int32_t reduction, rows, kernel_height, kernel_width, stride_height, stride_width,      \
                                padding_top, padding_left, dilation_height, dilation_width))                           \
    /* output[m] = columns [m % parts * width, ...) of row m / parts of input[0]. rows: domain of input[0] */          \
    OP(SPLIT, split, 0, 0.2, (int32_t rows, parts))                                                                    \
    /* Chooses `used` of the experts for each row of `rows`, from its logits, input[0], and sorts the choices by expert:  \
     * an ef_route for each row of the op's domain, `used` rows for each of `rows`. scoring: enum ef_scoring;          \
     * normalized: weights are divided by their sum, then multiplied by scale. vectors[vector[0]], where present, is   \
     * added to the scores that are compared, not to the weights */                                                    \
    OP(ROUTE, route, 0, 10, (int32_t rows, num_experts, used, scoring, normalized; float scale))                       \
    /* output[m] = the row of input[0] that came to place m of the routes, input[1]. rows: domain of input[0] */       \
    OP(DISPATCH, dispatch, 0, 0.2, (int32_t rows))                                                                     \
    /* output[m] = W input[0][m] + b, W the matrix and b the vector of the expert at place m of the routes, input[1]:  \
     * matrices[weight] and vectors[vector[0]] hold those of all experts, each from a whole tile on */                 \
    OP(EXPERT_LINEAR, expert_linear, 0, 0, (int32_t num_experts))                                                      \
    /* output[m] = sum over the choices of row m, in their order, of the choice's weight * its row of input[0];        \
     * input[1]: the routes. rows: domain of both */                                                                   \
    OP(COMBINE, combine, 0, 1, (int32_t rows, used))                                                                   \
    /* output = input[0], the first `first` columns, and input[1] beside it */                                         \
    OP(CONCATENATE, concatenate, 1, 0.2, (int32_t first))                                                              \
    /* output[s] = pool of the rows of segment s of input[0]. rows: domain of input[0] */                              \
    OP(POOL, pool, 0, 0, (int32_t pooling, rows))

enum { EF_OP_SLOTS = 16 };

enum ef_op_kind {
#define EF_OP_KIND(KIND, kind, by_rows, nanoseconds, fields) EF_OP_##KIND,
    EF_OPS(EF_OP_KIND)
#undef EF_OP_KIND
    EF_OP_COUNT
};

typedef struct ef_op_traits {
    const char *name;
    const char *fields; /* their declarations, as above */
    int row_wise;
    double nanoseconds;
} ef_op_traits;

static const ef_op_traits ef_op_list[EF_OP_COUNT] = {
#define EF_OP_TRAITS(KIND, kind, by_rows, nanoseconds, fields) {#kind, #fields, by_rows, nanoseconds},
    EF_OPS(EF_OP_TRAITS)
#undef EF_OP_TRAITS
};

#define EF_UNWRAPPED(...) __VA_ARGS__

#endif
