/* Integer products on NEON: sdot by lane where the CPU has it, else smull and smlal into 16 bits. Signed by signed, so no
 * offset is left over. */

#define EF_TILE_ROWS 4
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_UNPACK_ROWS 8
#define EF_CHUNK_BYTES (256 * 1024)
#define EF_WIDTH(bits) ((bits) == 8 ? 8 : 4) /* codes below eight bits are summed alike: see smull_quarter */
#define EF_UNPACKED_FORMS(form) form(4, 1) form(8, 1) form(4, 2)

/* Codes as signed bytes. */
EF_INLINE ef_i32x16 EF_NAME(operand)(ef_i32x16 codes, const int bits, const int offset)
{
    (void)bits;
    ef_i32x16 operands;
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        operands.v[j] = vreinterpretq_s32_u8(vsubq_u8(vreinterpretq_u8_s32(codes.v[j]), vdupq_n_u8((uint8_t)offset)));
    return operands;
}

typedef struct { EF_NAME(source) source; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, EF_NAME(source) source)
{
    (void)type;
    weights->source = source;
}

#if EF_PRODUCT == EF_PRODUCT_SDOT

/* sum + the four products of each row with group g of the activations; `half` holds groups 4 * (g / 4) .. + 3. */
EF_INLINE int32x4_t EF_NAME(sdot)(int32x4_t sum, int8x16_t weights, int8x16_t half, const int g)
{
    switch (g % 4) {
    case 0: return vdotq_laneq_s32(sum, weights, half, 0);
    case 1: return vdotq_laneq_s32(sum, weights, half, 1);
    case 2: return vdotq_laneq_s32(sum, weights, half, 2);
    default: return vdotq_laneq_s32(sum, weights, half, 3);
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset, const EF_NAME(weights) *weights,
                                const uint8_t *input, int64_t input_stride, const int rows, const int panels,
                                const int first_group, const int num_groups)
{
    (void)bits, (void)offset, (void)panels;
    int8x16_t halves[2][EF_TILE_ROWS];
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const int8_t *activations = ((const ef_block_activation *)(const void *)(input + r * input_stride))->q;
        halves[0][r] = vld1q_s8(activations);
        halves[1][r] = vld1q_s8(activations + 16);
        sum[r] = ef_i32x16_set1(0);
    }
    EF_UNROLL
    for (int g = first_group; g < first_group + num_groups; g++) {
        const ef_i32x16 group = EF_NAME(group)(type, weights->source, g);
        EF_UNROLL
        for (int j = 0; j < 4; j++)
            EF_UNROLL
            for (int r = 0; r < rows; r++)
                sum[r].v[j] = EF_NAME(sdot)(sum[r].v[j], vreinterpretq_s8_s32(group.v[j]), halves[g / 4][r], g);
    }
}

#else

/* The sums of one row's groups; `group` holds their operands. Products of two columns land side by side and are added pair
 * by pair when they are widened, and once more at the end. Sixteen bits hold two groups of eight-bit operands (2 * 128 *
 * 127 = 32512) and eight of operands in -31 .. 31 (8 * 31 * 127 = 31496) or four in -63 .. 63. */
EF_INLINE void EF_NAME(smull_row)(ef_i32x16 *sum, const int bits, const ef_i32x16 *group, const int8_t *activations,
                                  const int first_group, const int num_groups)
{
    const int together = bits == 8 ? 2 : num_groups;
    EF_UNROLL
    for (int j = 0; j < 4; j++) {
        int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);
        int16x8_t low16 = vdupq_n_s16(0), high16 = vdupq_n_s16(0);
        EF_UNROLL
        for (int i = 0; i < num_groups; i++) {
            int32_t four;
            memcpy(&four, activations + 4 * (first_group + i), 4);
            const int8x8_t x = vreinterpret_s8_s32(vdup_n_s32(four));
            const int8x16_t w = vreinterpretq_s8_s32(group[i].v[j]);
            low16 = i % together == 0 ? vmull_s8(vget_low_s8(w), x) : vmlal_s8(low16, vget_low_s8(w), x);
            high16 = i % together == 0 ? vmull_s8(vget_high_s8(w), x) : vmlal_s8(high16, vget_high_s8(w), x);
            if (i % together == together - 1) {
                low = vpadalq_s16(low, low16);
                high = vpadalq_s16(high, high16);
            }
        }
        sum->v[j] = vpaddq_s32(low, high);
    }
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const int bits, int offset, const EF_NAME(weights) *weights,
                                const uint8_t *input, int64_t input_stride, const int rows, const int panels,
                                const int first_group, const int num_groups)
{
    (void)offset, (void)panels;
    ef_i32x16 group[8];
    EF_UNROLL
    for (int i = 0; i < num_groups; i++)
        group[i] = EF_NAME(group)(type, weights->source, first_group + i);
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const ef_block_activation *block = (const ef_block_activation *)(const void *)(input + r * input_stride);
        EF_NAME(smull_row)(&sum[r], bits, group, block->q, first_group, num_groups);
    }
}

#endif
