/* The integer product of one block on NEON: sdot by lane where the CPU has it, else smull and smlal into 16 bits.
 * Signed by signed, so no offset is left over: nibbles become -8 .. 7 on loading. */

#define EF_TILE_ROWS 4
#define EF_TILE_PANELS 1
#define EF_PRODUCT_ROWS EF_TILE_ROWS
#define EF_STREAM_ROWS EF_TILE_ROWS
#define EF_CHUNK_BYTES (256 * 1024)

typedef struct { const uint8_t *tile; } EF_NAME(weights);

EF_INLINE void EF_NAME(load_weights)(EF_NAME(weights) *weights, const int type, const void *tile)
{
    (void)type;
    weights->tile = tile;
}

/* Group g of a block's weights, rows 4j .. 4j + 3, as signed bytes [4 rows][4 columns]. */
EF_INLINE int8x16_t EF_NAME(signed_group)(const int type, const uint8_t *tile, const int g, const int j)
{
    if (type == EF_Q8_0)
        return vld1q_s8((const int8_t *)tile + 64 * g + 16 * j);
    const uint8x16_t nibbles = vld1q_u8(tile + 64 * (g % 4) + 16 * j);
    const uint8x16_t nibble = g < 4 ? vandq_u8(nibbles, vdupq_n_u8(15)) : vshrq_n_u8(nibbles, 4);
    return vsubq_s8(vreinterpretq_s8_u8(nibble), vdupq_n_s8(8));
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

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const EF_NAME(weights) *weights, const uint8_t *input,
                                int64_t input_stride, const int rows, const int panels)
{
    (void)panels;
    int8x16_t halves[2][EF_TILE_ROWS];
    EF_UNROLL
    for (int r = 0; r < rows; r++) {
        const int8_t *activations = ((const ef_block_activation *)(input + r * input_stride))->q;
        halves[0][r] = vld1q_s8(activations);
        halves[1][r] = vld1q_s8(activations + 16);
        sum[r] = ef_i32x16_set1(0);
    }
    EF_UNROLL
    for (int g = 0; g < 8; g++) {
        EF_UNROLL
        for (int j = 0; j < 4; j++) {
            const int8x16_t w = EF_NAME(signed_group)(type, weights->tile, g, j);
            EF_UNROLL
            for (int r = 0; r < rows; r++)
                sum[r].v[j] = EF_NAME(sdot)(sum[r].v[j], w, halves[g / 4][r], g);
        }
    }
}

#else

/* Four rows of weights at a time: [4 rows][4 columns] bytes times the four activations of a group, twice. Products of
 * two columns land side by side and are added pair by pair when they are widened, and once more at the end.
 * Sixteen bits hold two groups of eight-bit weights (2 * 128 * 127 = 32512) and a whole block of nibbles (8 * 8 *
 * 127). */
EF_INLINE int32x4_t EF_NAME(smull_quarter)(const int type, const uint8_t *tile, const int j, const int8_t *activations)
{
    const int groups_in_16_bits = type == EF_Q8_0 ? 2 : 8;
    int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);
    int16x8_t low16 = vdupq_n_s16(0), high16 = vdupq_n_s16(0);
    EF_UNROLL
    for (int g = 0; g < 8; g++) {
        int32_t four;
        memcpy(&four, activations + 4 * g, 4);
        const int8x8_t x = vreinterpret_s8_s32(vdup_n_s32(four));
        const int8x16_t w = EF_NAME(signed_group)(type, tile, g, j);
        const int first = g % groups_in_16_bits == 0;
        low16 = first ? vmull_s8(vget_low_s8(w), x) : vmlal_s8(low16, vget_low_s8(w), x);
        high16 = first ? vmull_s8(vget_high_s8(w), x) : vmlal_s8(high16, vget_high_s8(w), x);
        if (g % groups_in_16_bits == groups_in_16_bits - 1) {
            low = vpadalq_s16(low, low16);
            high = vpadalq_s16(high, high16);
        }
    }
    return vpaddq_s32(low, high);
}

EF_INLINE void EF_NAME(product)(ef_i32x16 *sum, const int type, const EF_NAME(weights) *weights, const uint8_t *input,
                                int64_t input_stride, const int rows, const int panels)
{
    (void)panels;
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        EF_UNROLL
        for (int r = 0; r < rows; r++) {
            const ef_block_activation *block = (const ef_block_activation *)(input + r * input_stride);
            sum[r].v[j] = EF_NAME(smull_quarter)(type, weights->tile, j, block->q);
        }
}

#endif
