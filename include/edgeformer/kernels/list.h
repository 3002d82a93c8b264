/* Every kernel: kernel(name, result, arguments), with what it must leave behind. From this list come the pointers of
 * ef_kernels, their table for each instruction set (isa.h), the names in Python (core.KERNELS) and the test that asks
 * for a test of each. The rules for all of them are in kernels.h, which includes this file.
 */
#ifndef EDGEFORMER_KERNEL_LIST_H
#define EDGEFORMER_KERNEL_LIST_H

/* Functions of a row, which a plan calls by their address: row(name). `output` may be `input`; nothing past n is written;
 * weight and bias may be NULL, for ones and zeros. number: epsilon of a norm, the factor of affine and softmax, the cap of
 * soft_cap, the limit of clip. */
typedef void (*ef_row_function)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                                float number);
#define EF_ROW_FUNCTIONS(row) \
    row(layer_norm) row(rms_norm) row(l2_norm) row(affine) row(soft_cap) row(clip) row(softmax)
#define EF_ROW_KERNEL(kernel, name) \
    kernel(name, void, (float *output, const float *input, const float *weight, const float *bias, int64_t n, \
                        float number))

/* output = a function of a and b, element by element. */
typedef void (*ef_of_two)(float *output, const float *a, const float *b, int64_t n);

#define EF_KERNELS(kernel) \
    /* Packs GGUF rows [row_begin, row_end) of a matrix into `panels`; row_begin is a multiple of sixteen; source
     * points to row_begin's bytes. Rows from row_end to the next multiple of sixteen are written as zeros. */ \
    kernel(pack, void, (uint8_t *panels, int32_t type, int64_t num_columns, const uint8_t *source, \
                        int64_t row_begin, int64_t row_end)) \
    /* Whether the numbers of panels [panel_begin, panel_end) of a matrix are finite: its values, or its scales and minima
     * and what they can be multiplied to. */ \
    kernel(panels_finite, int32_t, (const ef_matrix *matrix, int32_t panel_begin, int32_t panel_end)) \
    kernel(matmul, void, (const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin, \
                          int32_t panel_end)) \
    /* One row of a packed matrix as floats: output[k] = (add ? add[k] : 0) + scale * weight[row][k],
     * k < num_columns. */ \
    kernel(embed, void, (float *output, const ef_matrix *weight, int32_t row, float scale, const float *add)) \
    \
    kernel(quantize, void, (ef_block_activation *output, const float *input, int64_t n)) /* n % 32 == 0 */ \
    /* One scale for all blocks, and after them the row's total. */ \
    kernel(quantize_row, void, (ef_block_activation *output, const float *input, int64_t n)) \
    kernel(activate, void, (float *output, const float *input, int64_t n, int32_t activation)) \
    /* activation(gate) * up */ \
    kernel(gate, void, (float *output, const float *gate, const float *up, int64_t n, int32_t activation)) \
    /* activation(gate, at most limit) * (up, between -limit and limit, + offset). limit > 0 */ \
    kernel(gate_limited, void, (float *output, const float *gate, const float *up, int64_t n, int32_t activation, \
                                float limit, float offset)) \
    kernel(add, void, (float *output, const float *a, const float *b, int64_t n)) \
    /* The greater of a and b; NaN where a is not finite or b is NaN. */ \
    kernel(maximum, void, (float *output, const float *a, const float *b, int64_t n)) \
    EF_ROW_KERNEL(kernel, layer_norm) \
    EF_ROW_KERNEL(kernel, rms_norm) \
    EF_ROW_KERNEL(kernel, l2_norm) \
    EF_ROW_KERNEL(kernel, affine) \
    EF_ROW_KERNEL(kernel, soft_cap) \
    EF_ROW_KERNEL(kernel, clip) \
    EF_ROW_KERNEL(kernel, softmax) \
    /* cos_sin[i] = cos(position * frequency[i]) * scale, cos_sin[half + i] the sine, i < half. */ \
    kernel(rotary, void, (float *cos_sin, int32_t position, const float *frequency, int64_t half, float scale)) \
    /* Rotates the first 2*half of each head's head_dim values, in place. */ \
    kernel(rope, void, (float *row, const float *cos_sin, int32_t num_heads, int32_t head_dim, int32_t half, \
                        int32_t pairing)) \
    /* Logarithm of the sum of exp(x - *largest), *largest being the greatest: the logarithm of the softmax is
     * (x - *largest) - that. n >= 1 */ \
    kernel(log_sum_exp, float, (float *largest, const float *input, int64_t n)) \
    \
    kernel(is_finite, int32_t, (const float *input, int64_t n)) /* whether no value is infinite or NaN */ \
    /* Indices of the `count` greatest values, greatest first, of equals the lowest first. 1 <= count <= n, no NaN.
     * heap: `count` numbers of scratch. */ \
    kernel(top, void, (int32_t *indices, int32_t count, const float *values, int32_t n, uint64_t *heap)) \
    /* weights = exp((input - largest) / temperature), 0 where below `least`; the double sum of each
     * EF_WEIGHT_CHUNK. */ \
    kernel(weigh, void, (float *weights, double *sums, const float *input, int64_t n, float largest, \
                         float temperature, float least)) \
    \
    /* Writes the keys and values of `count` rows at slots slot .. slot + count - 1 of the page, rounded to the
     * cache's type; the padding becomes zero. key: [num_heads * key_dim] of the first row, key_stride bytes from row
     * to row; value alike. */ \
    kernel(store_kv, void, (const ef_cache *cache, int32_t page, int32_t layer, int32_t slot, int32_t count, \
                            const float *key, int64_t key_stride, const float *value, int64_t value_stride)) \
    /* Rows [row_begin, row_end) of the segment (0 = its first row), all query heads of one key-value head; num_heads
     * of the arguments is a multiple of the cache's. Every row must see at least one position.
     * scratch, here and below: ef_attention_scratch floats, private to the caller. */ \
    kernel(attention, void, (const ef_attention *args, const ef_segment *segment, int32_t kv_head, \
                             int32_t row_begin, int32_t row_end, float *scratch)) \
    /* The same for all rows of the segment in two steps: parts of spans, in any order, then all of them merged into
     * the output. parts: [span][ef_attention_tiles of the queries][ef_attention_part] floats, spans from position 0
     * on. */ \
    kernel(attention_split, void, (const ef_attention *args, const ef_segment *segment, int32_t kv_head, \
                                   int32_t span_begin, int32_t span_end, float *parts, float *scratch)) \
    kernel(attention_join, void, (const ef_attention *args, const ef_segment *segment, int32_t kv_head, \
                                  int32_t num_spans, const float *parts, float *scratch)) \
    /* mean, first or last of rows [0, num_rows) of width n. */ \
    kernel(pool, void, (float *output, const float *input, int64_t input_stride, int32_t num_rows, int64_t n, \
                        int32_t kind)) \
    \
    /* For measurements. Multiply-adds from registers alone, 0 <= rounds <= 2^22, each of one by one; returns how
     * many, by their sum: eight-bit integers, those small enough to be summed in sixteen bits, floats. */ \
    kernel(count_int8, int64_t, (int64_t rounds)) \
    kernel(count_int4, int64_t, (int64_t rounds)) \
    kernel(count_float, int64_t, (int64_t rounds)) \
    /* Reads `bytes`, a multiple of 256, from an address that is a multiple of eight: the exclusive or of its
     * words. */ \
    kernel(checksum, uint64_t, (const uint8_t *data, int64_t bytes))

#endif
