/* A vocabulary's row of logits: the most likely of it, weights to draw from, and the sums that both need. Rows are at any
 * alignment, nothing past n is read or written, and no value is NaN unless a kernel says otherwise.
 */

/* Whether no value of a row of n >= 0 is infinite or NaN. */
static int32_t EF_NAME(is_finite)(const float *input, int64_t n)
{
    const ef_f32x16 zero = ef_f32x16_zero();
    ef_f32x16 even = zero, odd = zero; /* sums of x * 0: NaN once x is infinite or NaN, else 0 */
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        even = ef_f32x16_fma(ef_f32x16_load(input + i), zero, even);
        odd = ef_f32x16_fma(ef_f32x16_load(input + i + 16), zero, odd);
    }
    for (; i < n; i += 16)
        even = ef_f32x16_fma(EF_NAME(load_row)(input + i, n - i), zero, even);
    return ef_f32x16_reduce_add(ef_f32x16_add(even, odd)) == 0.0f;
}

/* A value and its index as one number: the greater comes first, of equal values (0 and -0 are) that of the lower index. */
EF_INLINE uint64_t EF_NAME(order_key)(float value, int32_t index)
{
    const float positive_zero = value + 0.0f;
    uint32_t bits;
    memcpy(&bits, &positive_zero, 4);
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return (uint64_t)bits << 32 | (0xffffffffu - (uint32_t)index);
}

/* Restores the heap below `at`, whose children are heaps: no key is less than its parent's. */
EF_INLINE void EF_NAME(sift_down)(uint64_t *heap, int32_t count, int32_t at)
{
    const uint64_t moved = heap[at];
    for (int32_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && heap[child + 1] < heap[child];
        if (moved <= heap[child])
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* The largest of 64 floats. */
EF_INLINE float EF_NAME(max_of_64)(const float *p)
{
    const ef_f32x16 low = ef_f32x16_max(ef_f32x16_load(p), ef_f32x16_load(p + 16));
    const ef_f32x16 high = ef_f32x16_max(ef_f32x16_load(p + 32), ef_f32x16_load(p + 48));
    return ef_f32x16_reduce_max(ef_f32x16_max(low, high));
}

/* indices = those of the `count` greatest values, greatest first; of equals, the lowest first. 1 <= count <= n, `heap` is
 * scratch. The heap holds the best so far, the last of them at the root; few blocks of 64 values hold a better one. */
static void EF_NAME(top)(int32_t *indices, int32_t count, const float *values, int32_t n, uint64_t *heap)
{
    for (int32_t i = 0; i < count; i++)
        heap[i] = EF_NAME(order_key)(values[i], i);
    for (int32_t i = count / 2; i-- > 0;)
        EF_NAME(sift_down)(heap, count, i);
    for (int32_t begin = count, end; begin < n; begin = end) {
        end = n - begin < 64 ? n : begin + 64;
        const float last = values[0xffffffffu - (uint32_t)heap[0]];
        if (end - begin == 64 && !(EF_NAME(max_of_64)(values + begin) > last))
            continue;
        for (int32_t i = begin; i < end; i++) {
            const uint64_t key = EF_NAME(order_key)(values[i], i);
            if (key > heap[0]) {
                heap[0] = key;
                EF_NAME(sift_down)(heap, count, 0);
            }
        }
    }
    for (int32_t end = count - 1; end >= 0; end--) {
        indices[end] = (int32_t)(0xffffffffu - (uint32_t)heap[0]);
        heap[0] = heap[end];
        EF_NAME(sift_down)(heap, end, 0);
    }
}

/* Sum of n floats in double precision: sixteen lanes, lane l adding elements l, l + 16, ..., then one tree. */
EF_INLINE double EF_NAME(sum_double)(const float *values, int64_t n)
{
    double lanes[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int lane = 0; lane < 16; lane++)
            lanes[lane] += (double)values[i + lane];
    for (int lane = 0; i + lane < n; lane++)
        lanes[lane] += (double)values[i + lane];
    for (int width = 8; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++)
            lanes[lane] += lanes[lane + width];
    return lanes[0];
}

/* weights[i] = exp((input[i] - largest) / temperature), or 0 where that is below `least`; sums[c] = the sum of chunk c of
 * EF_WEIGHT_CHUNK weights. `largest` is the greatest of the n >= 1 values and finite, temperature > 0 and normal. */
static void EF_NAME(weigh)(float *weights, double *sums, const float *input, int64_t n, float largest, float temperature,
                           float least)
{
    const ef_f32x16 shift = ef_f32x16_set1(largest), divisor = ef_f32x16_set1(temperature);
    for (int64_t begin = 0; begin < n; begin += EF_WEIGHT_CHUNK) {
        const int64_t end = n - begin < EF_WEIGHT_CHUNK ? n : begin + EF_WEIGHT_CHUNK;
        for (int64_t i = begin; i < end; i += 16) {
            const ef_f32x16 shifted = ef_f32x16_sub(EF_NAME(load_row)(input + i, end - i), shift);
            const ef_f32x16 weight = EF_NAME(exp16)(ef_f32x16_div(shifted, divisor));
            const ef_f32x16 kept = ef_f32x16_select_lt(weight, ef_f32x16_set1(least), ef_f32x16_zero(), weight);
            EF_NAME(store_row)(weights + i, kept, end - i);
        }
        *sums++ = EF_NAME(sum_double)(weights + begin, end - begin);
    }
}
