/* Operations on single rows of floats. Unless said otherwise: n >= 0 elements, any alignment, output may be input,
 * nothing past n is read or written.
 */

/* Sixteen floats of a row of which `left` >= 1 remain; missing lanes are 0. */
EF_INLINE ef_f32x16 EF_NAME(load_row)(const float *p, int64_t left)
{
    return left >= 16 ? ef_f32x16_load(p) : ef_f32x16_load_part(p, (int)left);
}

EF_INLINE void EF_NAME(store_row)(float *p, ef_f32x16 v, int64_t left)
{
    if (left >= 16)
        ef_f32x16_store(p, v);
    else
        ef_f32x16_store_part(p, v, (int)left);
}

/* Magnitudes, ordered as whole numbers as they are as floats, with NaN beyond infinity: the largest of them is NaN where
 * there is one, which a maximum of floats would pass over. */
EF_INLINE ef_i32x16 EF_NAME(magnitudes)(ef_f32x16 x) { return ef_f32x16_to_bits(ef_f32x16_abs(x)); }

EF_INLINE float EF_NAME(largest_magnitude)(ef_i32x16 magnitudes)
{
    const int32_t bits = ef_i32x16_reduce_max(magnitudes);
    float largest;
    memcpy(&largest, &bits, 4);
    return largest;
}

/* nearest(x * inverse), kept in -127 .. 127; NaN gives 127. */
EF_INLINE ef_i32x16 EF_NAME(quantize_lanes)(ef_f32x16 x, ef_f32x16 inverse)
{
    const ef_f32x16 scaled = ef_f32x16_min(ef_f32x16_mul(x, inverse), ef_f32x16_set1(127.0f));
    return ef_f32x16_to_i32(ef_f32x16_max(scaled, ef_f32x16_set1(-127.0f)));
}

/* What values whose largest magnitude is `largest` are multiplied with to be quantized; 0 if all are 0, or one is NaN. */
EF_INLINE float EF_NAME(quantize_inverse)(float largest) { return largest > 0.0f ? 127.0f / largest : 0.0f; }

/* One block, of values of magnitudes up to `largest`; inverse: quantize_inverse of that. Both halves are summed by one
 * tree of floats, as low + 4096 * high, which are whole numbers: |low|, |high| <= 16 * 127 < 2048, the sum < 2^24. */
EF_INLINE void EF_NAME(quantize_block)(ef_block_activation *output, ef_f32x16 low, ef_f32x16 high, float largest,
                                       ef_f32x16 inverse)
{
    const ef_i32x16 q_low = EF_NAME(quantize_lanes)(low, inverse), q_high = EF_NAME(quantize_lanes)(high, inverse);
    ef_i32x16_store_i8(output->q, q_low);
    ef_i32x16_store_i8(output->q + 16, q_high);
    const ef_i32x16 both = ef_i32x16_add(q_low, ef_i32x16_shift_left(q_high, 12));
    const int32_t sums = (int32_t)ef_f32x16_reduce_add(ef_f32x16_from_i32(both));
    const int32_t low_sum = ((sums + 2048) & 4095) - 2048, sum = low_sum + (sums - low_sum) / 4096;
    output->scale = largest / 127.0f;
    output->scaled_sum = output->scale * (float)sum;
    output->sum = (int16_t)sum;
    output->low_sum = (int16_t)low_sum;
}

/* n / 32 blocks; n % 32 == 0. Each block has a scale of its own, largest magnitude / 127: not finite where a value is not,
 * so that no product hides it. */
static void EF_NAME(quantize)(ef_block_activation *output, const float *input, int64_t n)
{
    for (int64_t i = 0; i < n; i += EF_BLOCK, output++) {
        const ef_f32x16 low = ef_f32x16_load(input + i), high = ef_f32x16_load(input + i + 16);
        const float largest =
            EF_NAME(largest_magnitude)(ef_i32x16_max(EF_NAME(magnitudes)(low), EF_NAME(magnitudes)(high)));
        EF_NAME(quantize_block)(output, low, high, largest, ef_f32x16_set1(EF_NAME(quantize_inverse)(largest)));
    }
}

/* As `quantize`, but all blocks have the row's scale, and the row's total follows them. */
static void EF_NAME(quantize_row)(ef_block_activation *output, const float *input, int64_t n)
{
    ef_i32x16 magnitudes = ef_i32x16_set1(0);
    for (int64_t i = 0; i < n; i += 16)
        magnitudes = ef_i32x16_max(EF_NAME(magnitudes)(ef_f32x16_load(input + i)), magnitudes);
    const float largest = EF_NAME(largest_magnitude)(magnitudes);
    const ef_f32x16 inverse = ef_f32x16_set1(EF_NAME(quantize_inverse)(largest));
    int32_t total = 0;
    for (int64_t i = 0; i < n; i += EF_BLOCK, output++) {
        EF_NAME(quantize_block)(output, ef_f32x16_load(input + i), ef_f32x16_load(input + i + 16), largest, inverse);
        total += output->sum;
    }
    *ef_row_total(output, 0) = total;
}

/* output = activation(input); activation: enum ef_activation. */
static void EF_NAME(activate)(float *output, const float *input, int64_t n, int32_t activation)
{
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 x = EF_NAME(load_row)(input + i, n - i);
        EF_NAME(store_row)(output + i, EF_NAME(activate_vector)(x, activation), n - i);
    }
}

/* output = activation(gate) * up. */
static void EF_NAME(gate)(float *output, const float *gate, const float *up, int64_t n, int32_t activation)
{
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 activated = EF_NAME(activate_vector)(EF_NAME(load_row)(gate + i, n - i), activation);
        EF_NAME(store_row)(output + i, ef_f32x16_mul(activated, EF_NAME(load_row)(up + i, n - i)), n - i);
    }
}

/* output = activation(gate, at most limit) * (up, between -limit and limit, + offset); NaN stays NaN. limit > 0 */
static void EF_NAME(gate_limited)(float *output, const float *gate, const float *up, int64_t n, int32_t activation,
                                  float limit, float offset)
{
    const ef_f32x16 most = ef_f32x16_set1(limit), least = ef_f32x16_set1(-limit), more = ef_f32x16_set1(offset);
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 g = EF_NAME(load_row)(gate + i, n - i), u = EF_NAME(load_row)(up + i, n - i);
        const ef_f32x16 activated = EF_NAME(activate_vector)(ef_f32x16_select_lt(most, g, most, g), activation);
        const ef_f32x16 bounded = ef_f32x16_select_lt(most, u, most, ef_f32x16_select_lt(u, least, least, u));
        EF_NAME(store_row)(output + i, ef_f32x16_mul(activated, ef_f32x16_add(bounded, more)), n - i);
    }
}

/* output = a + b. */
static void EF_NAME(add)(float *output, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 sum = ef_f32x16_add(EF_NAME(load_row)(a + i, n - i), EF_NAME(load_row)(b + i, n - i));
        EF_NAME(store_row)(output + i, sum, n - i);
    }
}

/* output = the greater of a and b. a - a is 0, or NaN where a is not finite, so that no fault is lost. */
static void EF_NAME(maximum)(float *output, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 x = EF_NAME(load_row)(a + i, n - i), y = EF_NAME(load_row)(b + i, n - i);
        EF_NAME(store_row)(output + i, ef_f32x16_add(ef_f32x16_max(x, y), ef_f32x16_sub(x, x)), n - i);
    }
}

/* Sum over a row of x - shift (squared: its square), missing lanes adding +0: sixteen lanes, then the fixed tree. */
EF_INLINE float EF_NAME(sum_row)(const float *input, int64_t n, float shift, const int squared)
{
    const ef_f32x16 shifts = ef_f32x16_set1(shift);
    ef_f32x16 sum = ef_f32x16_zero();
    for (int64_t i = 0; i < n; i += 16) {
        ef_f32x16 x = ef_f32x16_sub(EF_NAME(load_row)(input + i, n - i), shifts);
        if (n - i < 16)
            x = ef_f32x16_select_part(x, (int)(n - i), 0.0f);
        sum = ef_f32x16_add(sum, squared ? ef_f32x16_mul(x, x) : x);
    }
    return ef_f32x16_reduce_add(sum);
}

/* y * weight + bias of the elements from i on, `left` of which remain; weight and bias may be NULL. Multiplications and
 * additions are rounded separately, here and in the norms, so that runtime/jit/norms.py gives the same bits with Numba. */
EF_INLINE ef_f32x16 EF_NAME(weigh_row)(ef_f32x16 y, const float *weight, const float *bias, int64_t i, int64_t left)
{
    if (weight)
        y = ef_f32x16_mul(y, EF_NAME(load_row)(weight + i, left));
    return bias ? ef_f32x16_add(y, EF_NAME(load_row)(bias + i, left)) : y;
}

/* LayerNorm (Ba, Kiros, Hinton 2016): ((x - mean) / sqrt(variance + epsilon)) * weight + bias; n >= 1. */
static void EF_NAME(layer_norm)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                                float epsilon)
{
    const float mean = EF_NAME(sum_row)(input, n, 0.0f, 0) / (float)n;
    const float variance = EF_NAME(sum_row)(input, n, mean, 1) / (float)n;
    const ef_f32x16 means = ef_f32x16_set1(mean), scale = ef_f32x16_set1(1.0f / sqrtf(variance + epsilon));
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 centred = ef_f32x16_sub(EF_NAME(load_row)(input + i, n - i), means);
        const ef_f32x16 y = EF_NAME(weigh_row)(ef_f32x16_mul(centred, scale), weight, bias, i, n - i);
        EF_NAME(store_row)(output + i, y, n - i);
    }
}

/* RMSNorm (Zhang, Sennrich 2019): (x / sqrt(mean of squares + epsilon)) * weight; n >= 1, bias is not used. */
static void EF_NAME(rms_norm)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                              float epsilon)
{
    (void)bias;
    const float square = EF_NAME(sum_row)(input, n, 0.0f, 1) / (float)n;
    const ef_f32x16 scale = ef_f32x16_set1(1.0f / sqrtf(square + epsilon));
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 scaled = ef_f32x16_mul(EF_NAME(load_row)(input + i, n - i), scale);
        EF_NAME(store_row)(output + i, EF_NAME(weigh_row)(scaled, weight, NULL, i, n - i), n - i);
    }
}

/* x / max(|x|_2, epsilon); weight and bias are not used. */
static void EF_NAME(l2_norm)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                             float epsilon)
{
    (void)weight;
    (void)bias;
    const float length = sqrtf(EF_NAME(sum_row)(input, n, 0.0f, 1));
    const ef_f32x16 scale = ef_f32x16_set1(1.0f / (length > epsilon ? length : epsilon));
    for (int64_t i = 0; i < n; i += 16)
        EF_NAME(store_row)(output + i, ef_f32x16_mul(EF_NAME(load_row)(input + i, n - i), scale), n - i);
}

/* (x * factor) * weight + bias; weight and bias may be NULL. */
static void EF_NAME(affine)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                            float factor)
{
    const ef_f32x16 factors = ef_f32x16_set1(factor);
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 y = ef_f32x16_mul(EF_NAME(load_row)(input + i, n - i), factors);
        EF_NAME(store_row)(output + i, EF_NAME(weigh_row)(y, weight, bias, i, n - i), n - i);
    }
}

/* cap * tanh(x / cap), between -cap and cap; weight and bias are not used. cap > 0 */
static void EF_NAME(soft_cap)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                              float cap)
{
    (void)weight;
    (void)bias;
    const ef_f32x16 caps = ef_f32x16_set1(cap);
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 u = ef_f32x16_div(EF_NAME(load_row)(input + i, n - i), caps);
        EF_NAME(store_row)(output + i, ef_f32x16_mul(EF_NAME(tanh)(u), caps), n - i);
    }
}

/* x, between -limit and limit; NaN stays NaN; weight and bias are not used. limit > 0. The sum with nought flushes a
 * denormal, which a minimum passes on or not as the compiler makes it. */
static void EF_NAME(clip)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                          float limit)
{
    (void)weight;
    (void)bias;
    const ef_f32x16 most = ef_f32x16_set1(limit), least = ef_f32x16_set1(-limit);
    for (int64_t i = 0; i < n; i += 16) {
        const ef_f32x16 x = EF_NAME(load_row)(input + i, n - i);
        const ef_f32x16 between = ef_f32x16_max(least, ef_f32x16_min(most, x));
        EF_NAME(store_row)(output + i, ef_f32x16_add(between, ef_f32x16_set1(0.0f)), n - i);
    }
}

/* cos_sin[i] = cos(position * frequency[i]) * scale, cos_sin[half + i] the sine; the angle is one float product. */
static void EF_NAME(rotary)(float *cos_sin, int32_t position, const float *frequency, int64_t half, float scale)
{
    for (int64_t i = 0; i < half; i++) {
        float cosine, sine;
        EF_NAME(cos_sin)((float)position * frequency[i], &cosine, &sine);
        cos_sin[i] = cosine * scale;
        cos_sin[half + i] = sine * scale;
    }
}

/* Rotates `count` <= 16 pairs (a[i], b[i]) by the angles of cosine and sine. */
EF_INLINE void EF_NAME(rotate)(float *a, float *b, ef_f32x16 cosine, ef_f32x16 sine, int64_t count)
{
    const ef_f32x16 x = EF_NAME(load_row)(a, count), y = EF_NAME(load_row)(b, count);
    EF_NAME(store_row)(a, ef_f32x16_fma(x, cosine, ef_f32x16_neg(ef_f32x16_mul(y, sine))), count);
    EF_NAME(store_row)(b, ef_f32x16_fma(y, cosine, ef_f32x16_mul(x, sine)), count);
}

/* Rotates pairs of neighbours (row[2i], row[2i + 1]), i < count <= 8, in sixteen lanes: x * cosine + swapped x * sine,
 * where cosine holds every value twice and sine (-s, s) for each pair. */
EF_INLINE void EF_NAME(rotate_neighbours)(float *row, ef_f32x16 cosine, ef_f32x16 sine, int64_t count)
{
    union { float lanes[16]; uint64_t pairs[8]; } swapped;
    const ef_f32x16 x = EF_NAME(load_row)(row, 2 * count);
    ef_f32x16_store(swapped.lanes, x);
    for (int i = 0; i < 8; i++)
        swapped.pairs[i] = swapped.pairs[i] << 32 | swapped.pairs[i] >> 32;
    const ef_f32x16 y = ef_f32x16_fma(x, cosine, ef_f32x16_mul(ef_f32x16_load(swapped.lanes), sine));
    EF_NAME(store_row)(row, y, 2 * count);
}

static void EF_NAME(rope_neighbours)(float *row, const float *cos_sin, int32_t num_heads, int32_t head_dim,
                                     int32_t half)
{
    for (int32_t i = 0; i < half; i += 8) {
        const int32_t count = half - i < 8 ? half - i : 8;
        float cosine[16] = {0}, sine[16] = {0};
        for (int32_t k = 0; k < count; k++) {
            cosine[2 * k] = cosine[2 * k + 1] = cos_sin[i + k];
            sine[2 * k] = -cos_sin[half + i + k];
            sine[2 * k + 1] = cos_sin[half + i + k];
        }
        const ef_f32x16 cosines = ef_f32x16_load(cosine), sines = ef_f32x16_load(sine);
        for (int32_t head = 0; head < num_heads; head++) {
            float *pairs = row + (int64_t)head * head_dim + 2 * i;
            EF_NAME(rotate_neighbours)(pairs, cosines, sines, count);
        }
    }
}

static void EF_NAME(rope_halves)(float *row, const float *cos_sin, int32_t num_heads, int32_t head_dim, int32_t half)
{
    for (int32_t i = 0; i < half; i += 16) {
        const ef_f32x16 cosine = EF_NAME(load_row)(cos_sin + i, half - i);
        const ef_f32x16 sine = EF_NAME(load_row)(cos_sin + half + i, half - i);
        for (int32_t head = 0; head < num_heads; head++) {
            float *a = row + (int64_t)head * head_dim + i;
            EF_NAME(rotate)(a, a + half, cosine, sine, half - i);
        }
    }
}

/* Rotary position embedding (Su et al. 2021) of the first 2*half values of each head, in place, by the angles whose
 * cosines and sines `rotary` wrote: (a, b) becomes (a cos - b sin, b cos + a sin). pairing: enum ef_pairing. */
static void EF_NAME(rope)(float *row, const float *cos_sin, int32_t num_heads, int32_t head_dim, int32_t half,
                          int32_t pairing)
{
    if (pairing == EF_PAIR_NEIGHBOURS)
        EF_NAME(rope_neighbours)(row, cos_sin, num_heads, head_dim, half);
    else
        EF_NAME(rope_halves)(row, cos_sin, num_heads, head_dim, half);
}

/* The largest of a row; n >= 1. */
static inline float EF_NAME(max_row)(const float *input, int64_t n)
{
    ef_f32x16 largest = ef_f32x16_set1(-INFINITY);
    for (int64_t i = 0; i < n; i += 16) {
        ef_f32x16 x = EF_NAME(load_row)(input + i, n - i);
        if (n - i < 16)
            x = ef_f32x16_select_part(x, (int)(n - i), -INFINITY);
        largest = ef_f32x16_max(largest, x);
    }
    return ef_f32x16_reduce_max(largest);
}

/* Sum of exp(x - largest) over a row, whose terms are stored where `output` is not NULL. */
EF_INLINE float EF_NAME(sum_exp_row)(float *output, const float *input, int64_t n, float largest)
{
    ef_f32x16 sum = ef_f32x16_zero();
    for (int64_t i = 0; i < n; i += 16) {
        ef_f32x16 e = EF_NAME(exp16)(ef_f32x16_sub(EF_NAME(load_row)(input + i, n - i), ef_f32x16_set1(largest)));
        if (n - i < 16)
            e = ef_f32x16_select_part(e, (int)(n - i), 0.0f);
        sum = ef_f32x16_add(sum, e);
        if (output)
            EF_NAME(store_row)(output + i, e, n - i);
    }
    return ef_f32x16_reduce_add(sum);
}

/* exp(x' - max) / sum of exp(x' - max) of x' = x * factor; n >= 1; weight and bias are not used. */
static void EF_NAME(softmax)(float *output, const float *input, const float *weight, const float *bias, int64_t n,
                             float factor)
{
    EF_NAME(affine)(output, input, NULL, NULL, n, factor);
    (void)weight;
    (void)bias;
    const ef_f32x16 sum = ef_f32x16_set1(EF_NAME(sum_exp_row)(output, output, n, EF_NAME(max_row)(output, n)));
    for (int64_t i = 0; i < n; i += 16)
        EF_NAME(store_row)(output + i, ef_f32x16_div(EF_NAME(load_row)(output + i, n - i), sum), n - i);
}

/* log(sum of exp(x - max)), and the max; n >= 1. */
static float EF_NAME(log_sum_exp)(float *largest, const float *input, int64_t n)
{
    *largest = EF_NAME(max_row)(input, n);
    return EF_NAME(log1)(EF_NAME(sum_exp_row)(NULL, input, n, *largest));
}

/* One row of n from rows [0, num_rows), num_rows >= 1, input_stride bytes apart: their mean (rows added in order, then
 * divided), the first or the last. kind: enum ef_pooling. output may not overlap the rows. */
static void EF_NAME(pool)(float *output, const float *input, int64_t input_stride, int32_t num_rows, int64_t n,
                          int32_t kind)
{
    const char *rows = (const char *)input;
    if (kind != EF_POOL_MEAN) {
        memcpy(output, rows + (kind == EF_POOL_LAST ? (num_rows - 1) * input_stride : 0), (size_t)n * sizeof(float));
        return;
    }
    const ef_f32x16 count = ef_f32x16_set1((float)num_rows);
    for (int64_t i = 0; i < n; i += 16) {
        ef_f32x16 sum = ef_f32x16_zero();
        for (int32_t row = 0; row < num_rows; row++) {
            const float *values = (const float *)(const void *)(rows + row * input_stride);
            sum = ef_f32x16_add(sum, EF_NAME(load_row)(values + i, n - i));
        }
        EF_NAME(store_row)(output + i, ef_f32x16_div(sum, count), n - i);
    }
}
