/* Integer products on NEON: smmla (i8mm) for unpacked panels, sdot by lane, or smull and smlal into 16 bits (no dotprod).
 *     Unpacked operands are signed: code - offset, -128 .. 127 for codes of eight bits, else -32 .. 31. Straight from a
 *     tile, codes below eight bits stay as they are, 0 .. 63, and the sums start with -offset times the activations' sum:
 *     a few instructions instead of one for each register of codes. */

/* Thirty-two registers: eight hold the float sums of two rows, eight the integer ones, four a group of operands. A third
 * row spills as much as it saves. Floats have no integer sums. */
#define EF_TILE_ROWS 4
#define EF_UNPACKED_ROWS 2
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS 2
#define EF_UNPACK_ROWS 4
#define EF_CHUNK_BYTES (256 * 1024)
#define EF_WIDTH(bits) ((bits) == 8 ? 8 : 6) /* codes below eight bits are summed alike: see smull_pairs */
#define EF_UNPACKED_FORMS(form) form(6, 1) form(8, 1) form(6, 2)

EF_INLINE ef_i32x16 EF_NAME(operand)(ef_i32x16 codes, const int bits, const int offset)
{
    if (bits == 8)
        return ef_i32x16_xor(codes, ef_i32x16_set1((int32_t)0x80808080));
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        codes.v[j] = vreinterpretq_s32_s8(vsubq_s8(vreinterpretq_s8_s32(codes.v[j]), vdupq_n_s8((int8_t)offset)));
    return codes;
}

typedef struct { EF_NAME(source) source; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, EF_NAME(source) source)
{
    (void)type;
    weights->source = source;
}

/* Sixty-four bytes of unpacked operands; the pointer moves past them. The compiler is kept from turning it into offsets,
 * which a load of four registers does not take. */
EF_INLINE ef_i32x16 EF_NAME(next_operands)(const uint8_t **unpacked)
{
    const ef_i32x16 operands = ef_i32x16_load_once((const int32_t *)(const void *)*unpacked);
    *unpacked += 64;
    __asm__("" : "+r"(*unpacked));
    return operands;
}

/* Group g of a part's columns, from `unpacked` or the tile. */
EF_INLINE ef_i32x16 EF_NAME(signed_group)(const uint8_t **unpacked, const int type, const int bits, EF_NAME(source) source,
                                          const int g)
{
    if (type == EF_NAME(UNPACKED))
        return EF_NAME(next_operands)(unpacked);
    const ef_i32x16 codes = EF_NAME(codes)(type, source.tile, source.b, g);
    return bits == 8 ? EF_NAME(operand)(codes, bits, 0) : codes;
}

/* What the sums of a row start with. */
EF_INLINE ef_i32x16 EF_NAME(start)(const int type, const int bits, const int offset, const ef_block_activation *block,
                                   const int first_group, const int num_groups)
{
    if (type == EF_NAME(UNPACKED) || bits == 8 || offset == 0)
        return ef_i32x16_set1(0);
    if (num_groups < 8)
        return ef_i32x16_set1(-offset * ef_activation_sum(block, 2, first_group / 4));
    const int32x4_t sum = vmull_n_s16(vld1_dup_s16(&block->sum), (int16_t)-offset);
    return (ef_i32x16){{sum, sum, sum, sum}};
}

#if EF_PRODUCT == EF_PRODUCT_SMULL

/* One group times four activations of a row into 16 bits: pairs[j][i] of columns side by side, i = 0 for the first two
 * rows of quarter j. Sixteen bits hold eight groups of operands in -32 .. 31 (8 * 32 * 127 = 32512), four of codes in
 * 0 .. 63 (the only ones that large have parts of four groups) and two of -128 .. 127. */
EF_INLINE void EF_NAME(smull_pairs)(int16x8_t pairs[4][2], ef_i32x16 group, const int8_t *activations, const int first)
{
    int32_t four;
    memcpy(&four, activations, 4);
    const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
    EF_UNROLL
    for (int j = 0; j < 4; j++) {
        const int8x16_t w = vreinterpretq_s8_s32(group.v[j]);
        pairs[j][0] = first ? vmull_s8(vget_low_s8(w), vget_low_s8(x)) : vmlal_s8(pairs[j][0], vget_low_s8(w), vget_low_s8(x));
        pairs[j][1] = first ? vmull_high_s8(w, x) : vmlal_high_s8(pairs[j][1], w, x);
    }
}

/* Codes of eight bits, one row: two groups in 16 bits, the rest in 32. */
EF_INLINE void EF_NAME(smull_row)(ef_i32x16 *sum, const int type, EF_NAME(source) source, const int8_t *activations,
                                  const int first_group, const int num_groups)
{
    const uint8_t *unpacked = source.tile + 64 * first_group;
    int32x4_t wide[4][2];
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g += 2) {
        int16x8_t pairs[4][2];
        EF_UNROLL
        for (int i = 0; i < 2; i++)
            EF_NAME(smull_pairs)(pairs, EF_NAME(signed_group)(&unpacked, type, 8, source, g + i), activations + 4 * (g + i), i == 0);
        EF_UNROLL
        for (int j = 0; j < 4; j++)
            EF_UNROLL
            for (int i = 0; i < 2; i++)
                wide[j][i] = g == first_group ? vpaddlq_s16(pairs[j][i]) : vpadalq_s16(wide[j][i], pairs[j][i]);
    }
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        sum->v[j] = vpaddq_s32(wide[j][0], wide[j][1]);
}

/* Codes below eight bits, all rows: every group in 16 bits. */
EF_INLINE void EF_NAME(smull_rows)(ef_i32x16 *sum, const int type, const int bits, int offset, EF_NAME(source) source,
                                   const ef_block_activation *const *block, const int rows, const int first_group,
                                   const int num_groups)
{
    const uint8_t *unpacked = source.tile + 64 * first_group;
    int16x8_t pairs[EF_PRODUCT_ROWS][4][2];
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g++) {
        const ef_i32x16 group = EF_NAME(signed_group)(&unpacked, type, bits, source, g);
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            EF_NAME(smull_pairs)(pairs[r], group, block[r]->q + 4 * g, g == first_group);
    }
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        EF_UNROLL
        for (int j = 0; j < 4; j++)
            sum[r].v[j] = vpaddq_s32(vpaddlq_s16(pairs[r][j][0]), vpaddlq_s16(pairs[r][j][1]));
        sum[r] = ef_i32x16_add(sum[r], EF_NAME(start)(type, bits, offset, block[r], first_group, num_groups));
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset, const EF_NAME(weights) *weights,
                                const uint8_t *input, int64_t input_stride, const int rows, const int panels,
                                const int first_group, const int num_groups)
{
    (void)panels;
    const ef_block_activation *block[EF_PRODUCT_ROWS];
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        block[r] = (const ef_block_activation *)(const void *)(input + r * input_stride);
        if (bits == 8)
            EF_NAME(smull_row)(&sum[r], type, weights->source, block[r]->q, first_group, num_groups);
    }
    if (bits < 8)
        EF_NAME(smull_rows)(sum, type, bits, offset, weights->source, block, rows, first_group, num_groups);
}

#else

/* sum + the four products of each row with group g of the activations; `half` holds groups 4 * (g / 4) .. + 3. */
EF_INLINE int32x4_t EF_NAME(sdot)(int32x4_t sum, int32x4_t weights, int8x16_t half, const int g)
{
    const int8x16_t w = vreinterpretq_s8_s32(weights);
    switch (g % 4) {
    case 0: return vdotq_laneq_s32(sum, w, half, 0);
    case 1: return vdotq_laneq_s32(sum, w, half, 1);
    case 2: return vdotq_laneq_s32(sum, w, half, 2);
    default: return vdotq_laneq_s32(sum, w, half, 3);
    }
}

EF_INLINE void EF_NAME(product_sdot)(ef_i32x16 *sum, const int type, const int bits, int offset, EF_NAME(source) source,
                                     const uint8_t *input, int64_t input_stride, const int rows, const int first_group,
                                     const int num_groups)
{
    const uint8_t *unpacked = source.tile + 64 * first_group;
    int8x16_t half[EF_PRODUCT_ROWS];
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g++) {
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
            if (g == first_group)
                sum[r] = EF_NAME(start)(type, bits, offset, block, first_group, num_groups);
            if (g % 4 == 0)
                half[r] = vld1q_s8(block->q + 4 * g);
        }
        const ef_i32x16 group = EF_NAME(signed_group)(&unpacked, type, bits, source, g);
        EF_UNROLL
        for (int j = 0; j < 4; j++)
            EF_UNROLL
            for (int r = 0; r < rows; r++)
                sum[r].v[j] = EF_NAME(sdot)(sum[r].v[j], group.v[j], half[r], g);
    }
}

#if EF_PRODUCT == EF_PRODUCT_SMMLA

/* Operands in smmla's order: eight columns (two groups) of two rows a register, rows 2i, 2i + 1 in register i of eight. */
EF_INLINE void EF_NAME(store_operands)(uint8_t *output, const int type, EF_NAME(source) source)
{
    EF_UNROLL
    for (int g = 0; g < 8; g += 2) {
        const ef_i32x16 even = EF_NAME(group)(type, source, g), odd = EF_NAME(group)(type, source, g + 1);
        EF_UNROLL
        for (int j = 0; j < 4; j++) {
            int32_t *pair = (int32_t *)(void *)(output + 64 * g + 32 * j);
            vst1q_s32(pair, vzip1q_s32(even.v[j], odd.v[j]));
            vst1q_s32(pair + 4, vzip2q_s32(even.v[j], odd.v[j]));
        }
    }
}

/* Two rows (or one twice) times unpacked operands. A register of sums is [row 0: weights 2i, 2i + 1; row 1: the same]. */
EF_INLINE void EF_NAME(product_smmla)(ef_i32x16 *sum, const uint8_t *unpacked, const int8_t *activations,
                                      int64_t input_stride, const int rows, const int first_group, const int num_groups)
{
    int32x4_t sums[8];
    unpacked += 64 * first_group;
    EF_UNROLL
    for (int i = 0; i < 8; i++)
        sums[i] = vdupq_n_s32(0);
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g += 2) {
        const int8x8_t row0 = vld1_s8(activations + 4 * g), row1 = vld1_s8(activations + (rows - 1) * input_stride + 4 * g);
        const int8x16_t both = vcombine_s8(row0, row1);
        EF_UNROLL
        for (int i = 0; i < 8; i += 4) {
            const ef_i32x16 operands = EF_NAME(next_operands)(&unpacked);
            EF_UNROLL
            for (int j = 0; j < 4; j++)
                sums[i + j] = vmmlaq_s32(sums[i + j], both, vreinterpretq_s8_s32(operands.v[j]));
        }
    }
    EF_UNROLL
    for (int j = 0; j < 4; j++) {
        const int64x2_t low = vreinterpretq_s64_s32(sums[2 * j]), high = vreinterpretq_s64_s32(sums[2 * j + 1]);
        sum[0].v[j] = vreinterpretq_s32_s64(vzip1q_s64(low, high));
        if (rows == 2)
            sum[1].v[j] = vreinterpretq_s32_s64(vzip2q_s64(low, high));
    }
}

#endif

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset, const EF_NAME(weights) *weights,
                                const uint8_t *input, int64_t input_stride, const int rows, const int panels,
                                const int first_group, const int num_groups)
{
    (void)panels;
#if EF_PRODUCT == EF_PRODUCT_SMMLA
    if (type == EF_NAME(UNPACKED)) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)input;
        EF_NAME(product_smmla)(sum, weights->source.tile, block->q, input_stride, rows, first_group, num_groups);
        return;
    }
#endif
    EF_NAME(product_sdot)(sum, type, bits, offset, weights->source, input, input_stride, rows, first_group, num_groups);
}

#endif
