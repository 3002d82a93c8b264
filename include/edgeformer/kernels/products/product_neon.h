/* Integer products on NEON: smmla (i8mm) for unpacked panels, sdot by lane, or smull and smlal into 16 bits (no dotprod).
 *     Unpacked operands are signed: code - offset, -128 .. 127 for codes of eight bits, else -32 .. 31. Straight from a
 *     tile, codes below eight bits stay as they are, 0 .. 63, and the sums start with -offset times the activations' sum:
 *     a few instructions instead of one for each register of codes. */

/* Thirty-two registers: eight hold the float sums of two rows, eight the integer ones, four a group of operands. A third
 * row spills as much as it saves, where operands do not come in quarters (add_products). Floats have no integer sums. */
#define EF_TILE_ROWS 4
#define EF_UNPACKED_ROWS (EF_PRODUCT == EF_PRODUCT_SDOT ? 3 : 2)
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS 2
#define EF_UNPACK_ROWS 4
#define EF_CHUNK_BYTES (256 * 1024)
#define EF_WIDTH(bits) ((bits) == 8 ? 8 : 6) /* codes below eight bits are summed alike: see smull_pairs */
#define EF_UNPACKED_FORMS(form) form(6, 1, 0) form(6, 1, 1) form(8, 1, 0) form(6, 2, 0) form(6, 2, 1)

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

/* Sixty-four bytes of operands; the pointer moves past them. The compiler is kept from turning it into offsets,
 * which a load of four registers does not take. */
EF_INLINE ef_i32x16 EF_NAME(next_operands)(const uint8_t **stored)
{
    const ef_i32x16 operands = ef_i32x16_load_once((const int32_t *)(const void *)*stored);
    *stored += 64;
    __asm__("" : "+r"(*stored));
    return operands;
}

/* Where the next operands lie that a tile holds as they are, or as nibbles and nothing else; the nibbles loaded last. */
typedef struct { const uint8_t *next; ef_i32x16 nibbles; } EF_NAME(stored);

EF_INLINE EF_NAME(stored) EF_NAME(stored_from)(EF_NAME(source) source, const int first_group)
{
    EF_NAME(stored) stored = {.next = source.tile + EF_UNPACKED_CODES / 2 * source.b + 64 * first_group};
    return stored;
}

/* Group g of a part's columns, from where the tile has it or from its codes. Groups g and g + 4 are in the same bytes where
 * the tile holds nibbles: they are asked for one after the other (see nth_group). */
EF_INLINE ef_i32x16 EF_NAME(signed_group)(EF_NAME(stored) *stored, const int type, const int bits, EF_NAME(source) source,
                                          const int g)
{
    switch (type) {
    case EF_NAME(UNPACKED): case EF_Q8_0: case EF_I8_ROW: return EF_NAME(next_operands)(&stored->next);
    case EF_Q4_0: case EF_Q4_1: case EF_Q4_K:
        if (g >= 4)
            return ef_i32x16_high_nibbles(stored->nibbles);
        stored->nibbles = EF_NAME(next_operands)(&stored->next);
        return ef_i32x16_and(stored->nibbles, ef_i32x16_set1(0x0f0f0f0f));
    }
    const ef_i32x16 codes = EF_NAME(codes)(type, source.tile, source.b, g);
    return bits == 8 ? EF_NAME(operand)(codes, bits, 0) : codes;
}

/* The group whose turn is nth among the num_groups from first_group on. */
EF_INLINE int EF_NAME(nth_group)(const int type, const int bits, const int nth, const int first_group, const int num_groups)
{
    return type == EF_NAME(UNPACKED) || bits == 8 || num_groups < 8 ? first_group + nth : nth / 2 + nth % 2 * 4;
}

/* What the sums of a row start with. */
EF_INLINE ef_i32x16 EF_NAME(start)(const int type, const int bits, const int offset, const ef_block_activation *block,
                                   const int first_group, const int num_groups)
{
    if (type == EF_NAME(UNPACKED) || bits == 8 || offset == 0)
        return ef_i32x16_set1(0);
    if (num_groups < 8)
        return ef_i32x16_set1(-offset * ef_activation_sum(block, 2, first_group / 4));
    const int16x8_t header = vreinterpretq_s16_u8(vld1q_u8((const uint8_t *)block)); /* one load, then a lane of it */
    const int32x4_t sum = vmull_laneq_s16(vdup_n_s16((int16_t)-offset), header, offsetof(ef_block_activation, sum) / 2);
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
    EF_NAME(stored) stored = EF_NAME(stored_from)(source, first_group);
    int32x4_t wide[4][2];
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g += 2) {
        int16x8_t pairs[4][2];
        EF_UNROLL
        for (int i = 0; i < 2; i++)
            EF_NAME(smull_pairs)(pairs, EF_NAME(signed_group)(&stored, type, 8, source, g + i), activations + 4 * (g + i), i == 0);
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
    EF_NAME(stored) stored = EF_NAME(stored_from)(source, first_group);
    int16x8_t pairs[EF_PRODUCT_ROWS][4][2];
    EF_UNROLL
    for (int i = 0; i < num_groups; i++) {
        const int g = EF_NAME(nth_group)(type, bits, i, first_group, num_groups);
        const ef_i32x16 group = EF_NAME(signed_group)(&stored, type, bits, source, g);
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            EF_NAME(smull_pairs)(pairs[r], group, block[r]->q + 4 * g, i == 0);
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

/* sum += the products of a quarter's operands of group `lane` with four activations of `half`. In assembly, as are the
 * rest of the loop's volatile statements, so that they stay in this order: GCC begins many sums at once and spills them. */
EF_INLINE void EF_NAME(sdot_ordered)(int32x4_t *sum, int32x4_t operands, int8x16_t half, const int lane)
{
#define EF_SDOT(lane) __asm__ volatile("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(*sum) : "w"(operands), "w"(half))
    switch (lane) {
    case 0: EF_SDOT(0); return;
    case 1: EF_SDOT(1); return;
    case 2: EF_SDOT(2); return;
    default: EF_SDOT(3); return;
    }
#undef EF_SDOT
}

EF_INLINE void EF_NAME(product_sdot)(ef_i32x16 *sum, const int type, const int bits, int offset, EF_NAME(source) source,
                                     const uint8_t *input, int64_t input_stride, const int rows, const int first_group,
                                     const int num_groups)
{
    EF_NAME(stored) stored = EF_NAME(stored_from)(source, first_group);
    int8x16_t half[EF_PRODUCT_ROWS][2];
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
        sum[r] = EF_NAME(start)(type, bits, offset, block, first_group, num_groups);
        EF_UNROLL
        for (int g = first_group; g < first_group + num_groups; g += 4)
            half[r][g / 4] = vld1q_s8(block->q + 4 * g);
    }
    EF_UNROLL
    for (int i = 0; i < num_groups; i++) {
        const int g = EF_NAME(nth_group)(type, bits, i, first_group, num_groups);
        const ef_i32x16 group = EF_NAME(signed_group)(&stored, type, bits, source, g);
        EF_UNROLL
        for (int j = 0; j < 4; j++)
            EF_UNROLL
            for (int r = 0; r < rows; r++)
                EF_NAME(sdot_ordered)(&sum[r].v[j], group.v[j], half[r][g / 4], g % 4);
    }
}

#if EF_PRODUCT == EF_PRODUCT_SDOT

#define EF_OWN_ADD_PRODUCTS 1

/* Operands in the order in which add_products takes them: [part][quarter: four rows][group of the part][row][column]. */
EF_INLINE void EF_NAME(store_operands)(uint8_t *output, const int type, EF_NAME(source) source)
{
    const int groups = ef_traits(type).scale_columns / 4;
    EF_UNROLL
    for (int g = 0; g < 8; g += 2) {
        const ef_i32x16 even = EF_NAME(group)(type, source, g), odd = EF_NAME(group)(type, source, g + 1);
        EF_UNROLL
        for (int j = 0; j < 4; j++) {
            uint8_t *pair = output + 64 * (g / groups * groups) + 16 * (groups * j + g % groups);
            vst1q_s32((int32_t *)(void *)pair, even.v[j]);
            vst1q_s32((int32_t *)(void *)(pair + 16), odd.v[j]);
        }
    }
}

/* A block of a row: its scale in every lane, its halves. */
typedef struct { float32x4_t scale; int8x16_t half[2]; } EF_NAME(activation);

/* The next block of a row; the pointer moves past it, by the loads themselves. */
EF_INLINE EF_NAME(activation) EF_NAME(next_activation)(const uint8_t **input)
{
    const ef_block_activation *block = (const ef_block_activation *)(const void *)*input;
    const int64_t header = offsetof(ef_block_activation, q);
    EF_NAME(activation) x;
    __asm__ volatile("ld1r {%0.4s}, [%3], %4\n\tldp %q1, %q2, [%3], #32"
                     : "=w"(x.scale), "=w"(x.half[0]), "=w"(x.half[1]), "+r"(*input) : "r"(header), "m"(*block));
    return x;
}

/* Thirty-two columns of A, quarter by quarter: integer sums take a register a row, and four operands are loaded at once. */
EF_INLINE void EF_NAME(add_block)(ef_f32x16 *sums, const uint8_t **codes, const EF_NAME(activation) *x, const int parts,
                                  const int rows)
{
    ef_f32x16 scales[2];
    EF_UNROLL
    for (int h = 0; h < parts; h++)
        scales[h] = ef_f32x16_load((const float *)(const void *)(*codes + EF_UNPACKED_CODES + h * EF_UNPACKED_PART));
    EF_UNROLL
    for (int i = 0; i < 4 * parts; i++) {
        const int h = i / 4, j = i % 4;
        int32x4_t integers[EF_TILE_ROWS];
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            __asm__ volatile("movi %0.4s, #0" : "=w"(integers[r])); /* and no register kept zero, to be copied */
        EF_UNROLL
        for (int half = h; half < h + 2 / parts; half++) {
            const ef_i32x16 operands = EF_NAME(next_operands)(codes);
            EF_UNROLL
            for (int g = 0; g < 4; g++)
                EF_UNROLL
                for (int r = 0; r < rows; r++)
                    EF_NAME(sdot_ordered)(&integers[r], operands.v[g], x[r].half[half], g);
        }
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const float32x4_t scale = vmulq_f32(scales[h].v[j], x[r].scale);
            sums[r].v[j] = vfmaq_f32(sums[r].v[j], vcvtq_f32_s32(integers[r]), scale);
            __asm__ volatile("" : "+w"(sums[r].v[j]));
        }
    }
    *codes += parts * EF_UNPACKED_PART;
}

/* See matmul_quantized.h. */
EF_INLINE void EF_NAME(add_products)(ef_f32x16 *sums, const uint8_t *codes, int64_t codes_bytes, int64_t num_columns,
                                     const int bits, const int parts, const int offset, const uint8_t *input,
                                     int64_t stride, const int rows, const int panels)
{
    (void)codes_bytes, (void)bits, (void)offset, (void)panels;
    const uint8_t *end = codes + num_columns / EF_BLOCK * (EF_UNPACKED_CODES + parts * EF_UNPACKED_PART);
    const uint8_t *blocks[EF_TILE_ROWS];
    EF_UNROLL
    for (int r = 0; r < rows; r++)
        blocks[r] = input + r * stride;
    while (codes != end) {
        EF_NAME(activation) x[EF_TILE_ROWS];
        EF_UNROLL
        for (int r = 0; r < rows; r++)
            x[r] = EF_NAME(next_activation)(&blocks[r]);
        EF_NAME(add_block)(sums, &codes, x, parts, rows);
    }
}

#elif EF_PRODUCT == EF_PRODUCT_SMMLA

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

#define EF_BYTES_OFFSET 0
#define EF_BYTES_ROWS EF_PRODUCT_ROWS
EF_INLINE void EF_NAME(add_bytes)(ef_i32x16 *sum, const uint8_t *codes, int64_t panel_bytes, const uint8_t *input,
                                  int64_t input_stride, const int rows, const int panels)
{
    const EF_NAME(weights) weights = {{codes, 0}};
    (void)panel_bytes;
    EF_UNROLL
    for (int first = 0; first < rows; first += EF_PRODUCT_ROWS) {
        ef_i32x16 integers[EF_PRODUCT_ROWS];
        const int count = rows - first < EF_PRODUCT_ROWS ? rows - first : EF_PRODUCT_ROWS;
        EF_NAME(product)(integers, EF_I8_ROW, 8, 0, &weights, input + first * input_stride, input_stride, count, panels, 0, 8);
        EF_UNROLL
        for (int r = 0; r < count; r++)
            sum[first + r] = ef_i32x16_add(sum[first + r], integers[r]);
    }
}
