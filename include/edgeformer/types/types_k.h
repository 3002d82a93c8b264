/* Types with blocks of 256 columns and scales of their parts: Q2_K to Q6_K, IQ4_XS. See types.h for what each function is. */

/* Number b of those whose low nibbles are at bit 4b of `low` and whose two high bits at bit `first` + 2b of `high`. */
EF_INLINE ef_i32x16 EF_NAME(six_bits)(ef_i32x16 low, ef_i32x16 high, int b, int first)
{
    low = ef_i32x16_and(ef_i32x16_shift_right_logical(low, 4 * b), ef_i32x16_set1(15));
    high = ef_i32x16_and(ef_i32x16_shift_right_logical(high, first + 2 * b), ef_i32x16_set1(3));
    return ef_i32x16_or(low, ef_i32x16_shift_left(high, 4));
}

/* Halves times integers. */
EF_INLINE ef_f32x16 EF_NAME(scaled)(const uint16_t *halves, ef_i32x16 integers)
{
    return ef_f32x16_mul(ef_f32x16_load_f16(halves), ef_f32x16_from_i32(integers));
}

/* Six bits in twelve bytes: 0-3 and 4-7 hold the first four scales and minima and, in their high bits, the high bits of the
 * last four, whose low nibbles are bytes 8-11, scale low, minimum high. */
EF_INLINE void EF_NAME(pack_parts)(ef_tile_parts *parts, const ef_block_parts *block, int r)
{
    uint32_t scales = 0, minima = 0, high = 0;
    for (int b = 0; b < 4; b++) {
        const uint32_t scale = block->six_bits[b], minimum = block->six_bits[b + 4], last = block->six_bits[b + 8];
        scales |= (scale & 15) << 4 * b | (last & 15) << 4 * (b + 4);
        minima |= (minimum & 15) << 4 * b | (last >> 4) << 4 * (b + 4);
        high |= (scale >> 4 & 3) << 2 * b | (scale >> 6) << 2 * (b + 4);
        high |= (minimum >> 4 & 3) << (16 + 2 * b) | (minimum >> 6) << (16 + 2 * (b + 4));
    }
    parts->scales_low[r] = scales;
    parts->minima_low[r] = minima;
    parts->high[r] = high;
    parts->scale[r] = block->scale;
    parts->minimum[r] = block->minimum;
}
EF_INLINE ef_f32x16 EF_NAME(part_scale)(const ef_tile_parts *parts, int part)
{
    const ef_i32x16 low = ef_i32x16_load((const int32_t *)parts->scales_low);
    const ef_i32x16 high = ef_i32x16_load((const int32_t *)parts->high);
    return EF_NAME(scaled)(parts->scale, EF_NAME(six_bits)(low, high, part, 0));
}
EF_INLINE ef_f32x16 EF_NAME(part_minimum)(const ef_tile_parts *parts, int part)
{
    const ef_i32x16 low = ef_i32x16_load((const int32_t *)parts->minima_low);
    const ef_i32x16 high = ef_i32x16_load((const int32_t *)parts->high);
    return ef_f32x16_neg(EF_NAME(scaled)(parts->minimum, EF_NAME(six_bits)(low, high, part, 16)));
}

/* 128 bytes whose low halves are columns 64i + j and high halves columns 64i + 32 + j (byte 32i + j). */
EF_INLINE void EF_NAME(pack_k_nibbles)(uint8_t nibbles[8][4][16][4], const uint8_t *source, int r)
{
    for (int i = 0; i < 4; i++)
        for (int g = 0; g < 4; g++) {
            const uint32_t first = EF_NAME(word)(source + 32 * i + 4 * g), second = EF_NAME(word)(source + 32 * i + 4 * g + 16);
            const uint32_t even = (first & 0x0f0f0f0f) | (second & 0x0f0f0f0f) << 4;
            const uint32_t odd = (first >> 4 & 0x0f0f0f0f) | (second & 0xf0f0f0f0);
            memcpy(nibbles[2 * i][g][r], &even, 4);
            memcpy(nibbles[2 * i + 1][g][r], &odd, 4);
        }
}

/* 64 bytes of two bits: bits 2j of byte 32n + l are column 128n + 32j + l. */
EF_INLINE void EF_NAME(pack_pairs)(uint32_t pairs[8][2][16], const uint8_t *source, int r)
{
    for (int b = 0; b < 8; b++)
        for (int h = 0; h < 2; h++) {
            uint32_t packed = 0;
            for (int j = 0; j < 4; j++)
                packed |= (EF_NAME(word)(source + b / 4 * 32 + 16 * h + 4 * j) >> 2 * (b % 4) & 0x03030303) << 2 * j;
            pairs[b][h][r] = packed;
        }
}

/* 32 bytes of one bit: bit b of byte l is column 32b + l. */
EF_INLINE void EF_NAME(pack_bits)(uint32_t bits[8][16], const uint8_t *source, int r)
{
    for (int b = 0; b < 8; b++) {
        uint32_t packed = 0;
        for (int g = 0; g < 8; g++)
            packed |= (EF_NAME(word)(source + 4 * g) >> b & 0x01010101) << g;
        bits[b][r] = packed;
    }
}

/* Group g of thirty-two columns kept as two bits each, at the bytes' bits `position`, 0 or 4. */
EF_INLINE ef_i32x16 EF_NAME(pair_group)(const uint32_t pairs[2][16], const int g, const int position)
{
    const ef_i32x16 all = ef_i32x16_load((const int32_t *)pairs[g / 4]);
    const int shift = 2 * (g % 4) - position;
    const ef_i32x16 moved = shift < 0 ? ef_i32x16_shift_left(all, -shift) : ef_i32x16_shift_right_logical(all, shift);
    return ef_i32x16_and(moved, ef_i32x16_set1(0x03030303 << position));
}

static void EF_NAME(pack_row_q4_k)(ef_tile_q4_k *tile, const ef_block_q4_k *block, int r)
{
    EF_NAME(pack_k_nibbles)(tile->nibbles, block->nibbles, r);
    EF_NAME(pack_parts)(&tile->parts, &block->parts, r);
}
EF_INLINE ef_i32x16 EF_NAME(codes_q4_k)(const ef_tile_q4_k *tile, int b, const int g)
{
    return EF_NAME(nibble_group)(tile->nibbles[b], g);
}
EF_INLINE ef_f32x16 EF_NAME(scale_q4_k)(const ef_tile_q4_k *tile, int part)
{
    return EF_NAME(part_scale)(&tile->parts, part);
}
EF_INLINE ef_f32x16 EF_NAME(min_q4_k)(const ef_tile_q4_k *tile, int part)
{
    return EF_NAME(part_minimum)(&tile->parts, part);
}

static void EF_NAME(pack_row_q5_k)(ef_tile_q5_k *tile, const ef_block_q5_k *block, int r)
{
    EF_NAME(pack_k_nibbles)(tile->nibbles, block->nibbles, r);
    EF_NAME(pack_bits)(tile->bits, block->high_bits, r);
    EF_NAME(pack_parts)(&tile->parts, &block->parts, r);
}
EF_INLINE ef_i32x16 EF_NAME(codes_q5_k)(const ef_tile_q5_k *tile, int b, const int g)
{
    return EF_NAME(five_bit_group)(tile->nibbles[b], tile->bits[b], g);
}
EF_INLINE ef_f32x16 EF_NAME(scale_q5_k)(const ef_tile_q5_k *tile, int part)
{
    return EF_NAME(part_scale)(&tile->parts, part);
}
EF_INLINE ef_f32x16 EF_NAME(min_q5_k)(const ef_tile_q5_k *tile, int part)
{
    return EF_NAME(part_minimum)(&tile->parts, part);
}

/* Byte 64n + 32(j % 2) + l holds the low bits of column 128n + 32j + l, in its low half for j < 2; bits 2j of byte 32n + l
 * of the pairs are that column's high ones. */
static void EF_NAME(pack_row_q6_k)(ef_tile_q6_k *tile, const ef_block_q6_k *block, int r)
{
    for (int b = 0; b < 8; b++) {
        const uint8_t *low = block->nibbles + b / 4 * 64 + b % 2 * 32;
        const int shift = b % 4 < 2 ? 0 : 4;
        for (int g = 0; g < 4; g++) {
            const uint32_t first = EF_NAME(word)(low + 4 * g) >> shift & 0x0f0f0f0f;
            const uint32_t both = first | (EF_NAME(word)(low + 4 * g + 16) >> shift & 0x0f0f0f0f) << 4;
            memcpy(tile->nibbles[b][g][r], &both, 4);
        }
    }
    EF_NAME(pack_pairs)(tile->pairs, block->high_pairs, r);
    for (int part = 0; part < 16; part++)
        tile->scales[part][r] = block->scales[part];
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q6_k)(const ef_tile_q6_k *tile, int b, const int g)
{
    return ef_i32x16_or(EF_NAME(nibble_group)(tile->nibbles[b], g), EF_NAME(pair_group)(tile->pairs[b], g, 4));
}
EF_INLINE ef_f32x16 EF_NAME(scale_q6_k)(const ef_tile_q6_k *tile, int part)
{
    return EF_NAME(scaled)(tile->scale, ef_i32x16_load_i8(tile->scales[part]));
}

/* Part p's scale: its low nibble in byte p % 8, low half for p < 8; its high bits 2(p / 4) of byte 8 + p % 4. */
static void EF_NAME(pack_row_q3_k)(ef_tile_q3_k *tile, const ef_block_q3_k *block, int r)
{
    uint32_t low[2] = {0, 0}, high = 0;
    for (int p = 0; p < 16; p++) {
        low[p / 8] |= (uint32_t)(block->six_bits[p % 8] >> p / 8 * 4 & 15) << p % 8 * 4;
        high |= (uint32_t)(block->six_bits[8 + p % 4] >> p / 4 * 2 & 3) << 2 * p;
    }
    tile->low[0][r] = low[0];
    tile->low[1][r] = low[1];
    tile->high[r] = high;
    EF_NAME(pack_pairs)(tile->pairs, block->pairs, r);
    EF_NAME(pack_bits)(tile->bits, block->high_bits, r);
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q3_k)(const ef_tile_q3_k *tile, int b, const int g)
{
    return ef_i32x16_or(EF_NAME(pair_group)(tile->pairs[b], g, 0), EF_NAME(bit_group)(tile->bits[b], g, 2));
}
EF_INLINE ef_f32x16 EF_NAME(scale_q3_k)(const ef_tile_q3_k *tile, int part)
{
    const ef_i32x16 low = ef_i32x16_load((const int32_t *)tile->low[part / 8]);
    const ef_i32x16 high = ef_i32x16_load((const int32_t *)tile->high);
    const ef_i32x16 six_bits = EF_NAME(six_bits)(low, high, part % 8, part / 8 * 16);
    return EF_NAME(scaled)(tile->scale, ef_i32x16_sub(six_bits, ef_i32x16_set1(32)));
}

static void EF_NAME(pack_row_q2_k)(ef_tile_q2_k *tile, const ef_block_q2_k *block, int r)
{
    EF_NAME(pack_pairs)(tile->pairs, block->pairs, r);
    for (int part = 0; part < 16; part++)
        tile->parts[part][r] = block->parts[part];
    tile->scale[r] = block->scale;
    tile->minimum[r] = block->minimum;
}
EF_INLINE ef_i32x16 EF_NAME(codes_q2_k)(const ef_tile_q2_k *tile, int b, const int g)
{
    return EF_NAME(pair_group)(tile->pairs[b], g, 0);
}
EF_INLINE ef_f32x16 EF_NAME(scale_q2_k)(const ef_tile_q2_k *tile, int part)
{
    return EF_NAME(scaled)(tile->scale, ef_i32x16_and(ef_i32x16_load_u8(tile->parts[part]), ef_i32x16_set1(15)));
}
EF_INLINE ef_f32x16 EF_NAME(min_q2_k)(const ef_tile_q2_k *tile, int part)
{
    const ef_i32x16 minima = ef_i32x16_shift_right_logical(ef_i32x16_load_u8(tile->parts[part]), 4);
    return ef_f32x16_neg(EF_NAME(scaled)(tile->minimum, minima));
}

static void EF_NAME(pack_row_iq4_xs)(ef_tile_iq4_xs *tile, const ef_block_iq4_xs *block, int r)
{
    for (int b = 0; b < 8; b++)
        EF_NAME(pack_nibbles)(tile->nibbles[b], block->nibbles + 16 * b, r);
    tile->low[r] = EF_NAME(word)(block->low);
    tile->high[r] = block->high;
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_iq4_xs)(const ef_tile_iq4_xs *tile, int b, const int g)
{
    return ef_i32x16_lookup(EF_NAME(iq4_values), EF_NAME(nibble_group)(tile->nibbles[b], g));
}
EF_INLINE ef_f32x16 EF_NAME(scale_iq4_xs)(const ef_tile_iq4_xs *tile, int part)
{
    const ef_i32x16 low = ef_i32x16_load((const int32_t *)tile->low), high = ef_i32x16_load_u16(tile->high);
    return EF_NAME(scaled)(tile->scale, ef_i32x16_sub(EF_NAME(six_bits)(low, high, part, 0), ef_i32x16_set1(32)));
}
