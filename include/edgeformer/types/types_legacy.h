/* Types with blocks of 32 columns: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4. See types.h for what each function is. */

EF_INLINE uint32_t EF_NAME(word)(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, 4);
    return value;
}

/* Sixteen bytes of nibbles, elements i and i + 16, into row r of a tile. */
EF_INLINE void EF_NAME(pack_nibbles)(uint8_t nibbles[4][16][4], const uint8_t *source, int r)
{
    for (int g = 0; g < 4; g++)
        memcpy(nibbles[g][r], source + 4 * g, 4);
}

/* Thirty-two bits, bit k of column k, as bits 8i + g of column 4g + i: the four columns of each group are spread over four
 * bytes by a multiplication that adds the nibble shifted by 0, 7, 14 and 21. */
EF_INLINE uint32_t EF_NAME(spread_bits)(uint32_t columns)
{
    uint32_t spread = 0;
    for (int g = 0; g < 8; g++)
        spread |= ((columns >> 4 * g & 15) * 0x00204081u & 0x01010101) << g;
    return spread;
}

/* Group g of thirty-two columns kept as nibbles. */
EF_INLINE ef_i32x16 EF_NAME(nibble_group)(const uint8_t nibbles[4][16][4], const int g)
{
    const ef_i32x16 bytes = ef_i32x16_load((const int32_t *)(const void *)nibbles[g % 4]);
    return g < 4 ? ef_i32x16_and(bytes, ef_i32x16_set1(0x0f0f0f0f)) : ef_i32x16_high_nibbles(bytes);
}

/* Group g of thirty-two columns kept as one bit each, at the bytes' bit `position`. */
EF_INLINE ef_i32x16 EF_NAME(bit_group)(const uint32_t *bits, const int g, const int position)
{
    const ef_i32x16 all = ef_i32x16_load((const int32_t *)bits);
    const ef_i32x16 moved = g < position ? ef_i32x16_shift_left(all, position - g)
                                         : ef_i32x16_shift_right_logical(all, g - position);
    return ef_i32x16_and(moved, ef_i32x16_set1(0x01010101 << position));
}

/* Five bits of group g: a nibble and bit 4. */
EF_INLINE ef_i32x16 EF_NAME(five_bit_group)(const uint8_t nibbles[4][16][4], const uint32_t *bits, const int g)
{
    return ef_i32x16_or(EF_NAME(nibble_group)(nibbles, g), EF_NAME(bit_group)(bits, g, 4));
}

/* For types with one scale, one minimum for all columns of a block. */
#define EF_ONE_SCALE(name) \
    EF_INLINE ef_f32x16 EF_NAME(scale_##name)(const ef_tile_##name *tile, int part) \
    { \
        (void)part; \
        return ef_f32x16_load_f16(tile->scale); \
    }
#define EF_ONE_MINIMUM(name) \
    EF_INLINE ef_f32x16 EF_NAME(min_##name)(const ef_tile_##name *tile, int part) \
    { \
        (void)part; \
        return ef_f32x16_load_f16(tile->minimum); \
    }

static void EF_NAME(pack_row_q4_0)(ef_tile_q4_0 *tile, const ef_block_q4_0 *block, int r)
{
    EF_NAME(pack_nibbles)(tile->nibbles, block->nibbles, r);
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q4_0)(const ef_tile_q4_0 *tile, int b, const int g)
{
    (void)b;
    return EF_NAME(nibble_group)(tile->nibbles, g);
}
EF_ONE_SCALE(q4_0)

static void EF_NAME(pack_row_q4_1)(ef_tile_q4_1 *tile, const ef_block_q4_1 *block, int r)
{
    EF_NAME(pack_nibbles)(tile->nibbles, block->nibbles, r);
    tile->scale[r] = block->scale;
    tile->minimum[r] = block->minimum;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q4_1)(const ef_tile_q4_1 *tile, int b, const int g)
{
    (void)b;
    return EF_NAME(nibble_group)(tile->nibbles, g);
}
EF_ONE_SCALE(q4_1)
EF_ONE_MINIMUM(q4_1)

static void EF_NAME(pack_row_q5_0)(ef_tile_q5_0 *tile, const ef_block_q5_0 *block, int r)
{
    EF_NAME(pack_nibbles)(tile->nibbles, block->nibbles, r);
    tile->bits[r] = EF_NAME(spread_bits)(EF_NAME(word)(block->high_bits));
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q5_0)(const ef_tile_q5_0 *tile, int b, const int g)
{
    (void)b;
    return EF_NAME(five_bit_group)(tile->nibbles, tile->bits, g);
}
EF_ONE_SCALE(q5_0)

static void EF_NAME(pack_row_q5_1)(ef_tile_q5_1 *tile, const ef_block_q5_1 *block, int r)
{
    EF_NAME(pack_nibbles)(tile->nibbles, block->nibbles, r);
    tile->bits[r] = EF_NAME(spread_bits)(EF_NAME(word)(block->high_bits));
    tile->scale[r] = block->scale;
    tile->minimum[r] = block->minimum;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q5_1)(const ef_tile_q5_1 *tile, int b, const int g)
{
    (void)b;
    return EF_NAME(five_bit_group)(tile->nibbles, tile->bits, g);
}
EF_ONE_SCALE(q5_1)
EF_ONE_MINIMUM(q5_1)

static void EF_NAME(pack_row_q8_0)(ef_tile_q8_0 *tile, const ef_block_q8_0 *block, int r)
{
    for (int g = 0; g < 8; g++)
        memcpy(tile->q[g][r], block->q + 4 * g, 4);
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q8_0)(const ef_tile_q8_0 *tile, int b, const int g)
{
    (void)b;
    const ef_i32x16 bytes = ef_i32x16_load_once((const int32_t *)(const void *)tile->q[g]);
    return ef_i32x16_xor(bytes, ef_i32x16_set1((int32_t)0x80808080));
}
EF_ONE_SCALE(q8_0)

/* IQ4_NL's sixteen values, -127 .. 113, plus 128; IQ4_XS has the same. */
static const uint8_t EF_NAME(iq4_values)[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

static void EF_NAME(pack_row_iq4_nl)(ef_tile_iq4_nl *tile, const ef_block_iq4_nl *block, int r)
{
    EF_NAME(pack_row_q4_0)(tile, block, r);
}
EF_INLINE ef_i32x16 EF_NAME(codes_iq4_nl)(const ef_tile_iq4_nl *tile, int b, const int g)
{
    return ef_i32x16_lookup(EF_NAME(iq4_values), EF_NAME(codes_q4_0)(tile, b, g));
}
EF_ONE_SCALE(iq4_nl)

/* MXFP4's sixteen values, doubled (0, 1, 2, 3, 4, 6, 8, 12 and their negatives), plus 12. */
static const uint8_t EF_NAME(mxfp4_values)[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

static void EF_NAME(pack_row_mxfp4)(ef_tile_mxfp4 *tile, const ef_block_mxfp4 *block, int r)
{
    EF_NAME(pack_nibbles)(tile->nibbles, block->nibbles, r);
    tile->exponent[r] = block->exponent;
}
EF_INLINE ef_i32x16 EF_NAME(codes_mxfp4)(const ef_tile_mxfp4 *tile, int b, const int g)
{
    (void)b;
    return ef_i32x16_lookup(EF_NAME(mxfp4_values), EF_NAME(nibble_group)(tile->nibbles, g));
}
/* 2^(e - 128): the exponent's bits of a float are e - 1. The two least, denormals, are 0, as flushing makes them. */
EF_INLINE ef_f32x16 EF_NAME(scale_mxfp4)(const ef_tile_mxfp4 *tile, int part)
{
    (void)part;
    const ef_f32x16 exponent = ef_f32x16_from_i32(ef_i32x16_load_u8(tile->exponent));
    const ef_i32x16 bits = ef_f32x16_to_i32(ef_f32x16_max(ef_f32x16_sub(exponent, ef_f32x16_set1(1.0f)), ef_f32x16_zero()));
    return ef_f32x16_from_bits(ef_i32x16_shift_left(bits, 23));
}
