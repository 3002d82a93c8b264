/* Integer products with vpmaddubsw (AVX2), which multiplies unsigned by signed bytes and saturates the sum of a pair at
 * 16 bits.
 *     Codes of b < 8 bits stay unsigned, and several groups are summed in 16 bits: 2 * 127 * (2^b - 1) each, so that
 *     eight fit for b = 4 (30480 < 2^15), four for 5, two for 6. What their offset adds is taken away at the end, with
 *     the activations' sum.
 *     Codes of eight bits become signed and give their sign to the activation. A pair is at most 2 * 128 * 127 = 32512
 *     < 2^15 (-128 occurs only in odd files), so pairs are widened at once. */

/* Sixteen registers: eight hold the integer sums of four rows, two a group of weights; six rows left none to spare, and
 * gained nothing by reading a group once for more of them. The float sums wait in memory. */
#define EF_TILE_ROWS 6
#define EF_UNPACKED_ROWS 4
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_UNPACK_ROWS 24
#define EF_CHUNK_BYTES (384 * 1024)
#define EF_WIDTH(bits) (bits)
#define EF_UNPACKED_FORMS(form) \
    form(4, 1, 0) form(4, 1, 1) form(5, 1, 0) form(5, 1, 1) form(8, 1, 0) form(4, 2, 0) form(4, 2, 1) form(6, 2, 0)

EF_INLINE ef_i32x16 EF_NAME(operand)(ef_i32x16 codes, const int bits, int offset)
{
    (void)offset;
    return bits == 8 ? ef_i32x16_xor(codes, ef_i32x16_set1((int32_t)0x80808080)) : codes;
}

typedef struct { EF_NAME(source) source; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, EF_NAME(source) source)
{
    (void)type;
    weights->source = source;
}

EF_INLINE __m256i EF_NAME(broadcast_four)(const uint8_t *input, int64_t offset, const int g)
{
    int32_t four;
    memcpy(&four, ((const ef_block_activation *)(const void *)(input + offset))->q + 4 * g, 4);
    return _mm256_set1_epi32(four);
}

/* No instruction: the compiler may not move this sum's additions apart. It would multiply first and add in pairs later,
 * with a store and a load for every product. */
#define EF_KEEP_ORDER(sum) __asm__("" : "+x"((sum).lo), "+x"((sum).hi))

/* Adds groups of eight-bit codes to the sums. */
EF_INLINE void EF_NAME(add_signed)(ef_i32x16 *sum, const int type, EF_NAME(source) source, const uint8_t *input,
                                   int64_t input_stride, const int rows, const int first_group, const int num_groups)
{
    const __m256i ones = _mm256_set1_epi16(1);
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g++) {
        const ef_i32x16 w = EF_NAME(group)(type, source, g);
        const ef_i32x16 magnitude = {_mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi)};
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const __m256i x = EF_NAME(broadcast_four)(input, r * input_stride, g);
            const __m256i lo = _mm256_maddubs_epi16(magnitude.lo, _mm256_sign_epi8(x, w.lo));
            const __m256i hi = _mm256_maddubs_epi16(magnitude.hi, _mm256_sign_epi8(x, w.hi));
            sum[r].lo = _mm256_add_epi32(sum[r].lo, _mm256_madd_epi16(lo, ones));
            sum[r].hi = _mm256_add_epi32(sum[r].hi, _mm256_madd_epi16(hi, ones));
            EF_KEEP_ORDER(sum[r]);
        }
    }
}

/* sum + (widened: the groups so far are the first) what `words`, sixteen-bit sums, hold. */
EF_INLINE ef_i32x16 EF_NAME(widened)(ef_i32x16 words, ef_i32x16 sum, const int first)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const ef_i32x16 wide = {_mm256_madd_epi16(words.lo, ones), _mm256_madd_epi16(words.hi, ones)};
    return first ? wide : ef_i32x16_add(sum, wide);
}

EF_INLINE void EF_NAME(product_unsigned)(ef_i32x16 *sum, const int type, const int bits,
                                         const EF_NAME(weights) *weights, const uint8_t *input, int64_t input_stride,
                                         const int rows, const int first_group, const int num_groups)
{
    const int together = bits <= 4 ? 8 : bits == 5 ? 4 : 2, run = together < num_groups ? together : num_groups;
    EF_UNROLL
    for (int begin = first_group; begin < first_group + num_groups; begin += run) {
        ef_i32x16 words[EF_TILE_ROWS];
        EF_UNROLL
        for (int g = begin; g < begin + run; g++) {
            const ef_i32x16 w = EF_NAME(group)(type, weights->source, g);
            EF_UNROLL
            for (int r = 0; r < rows; r++) {
                const __m256i x = EF_NAME(broadcast_four)(input, r * input_stride, g);
                const ef_i32x16 pairs = {_mm256_maddubs_epi16(w.lo, x), _mm256_maddubs_epi16(w.hi, x)};
                words[r] = g == begin ? pairs : (ef_i32x16){_mm256_add_epi16(words[r].lo, pairs.lo),
                                                            _mm256_add_epi16(words[r].hi, pairs.hi)};
                EF_KEEP_ORDER(words[r]);
            }
        }
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            sum[r] = EF_NAME(widened)(words[r], sum[r], begin == first_group);
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset,
                                const EF_NAME(weights) *weights, const uint8_t *input, int64_t input_stride,
                                const int rows, const int panels, const int first_group, const int num_groups)
{
    (void)panels;
    if (bits == 8) {
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            sum[r] = ef_i32x16_set1(0);
        EF_NAME(add_signed)(sum, type, weights->source, input, input_stride, rows, first_group, num_groups);
        return;
    }
    EF_NAME(product_unsigned)(sum, type, bits, weights, input, input_stride, rows, first_group, num_groups);
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
        const int32_t sum_of_part = ef_activation_sum(block, 8 / num_groups, first_group / 4);
        sum[r] = ef_i32x16_sub(sum[r], ef_i32x16_set1(offset * sum_of_part));
    }
}

#define EF_BYTES_OFFSET 0
#define EF_BYTES_ROWS EF_TILE_ROWS
EF_INLINE void EF_NAME(add_bytes)(ef_i32x16 *sum, const uint8_t *codes, int64_t panel_bytes, const uint8_t *input,
                                  int64_t input_stride, const int rows, const int panels)
{
    (void)panel_bytes, (void)panels;
    EF_NAME(add_signed)(sum, EF_I8_ROW, (EF_NAME(source)){codes, 0}, input, input_stride, rows, 0, 8);
}

#undef EF_KEEP_ORDER
