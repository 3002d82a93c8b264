/* Types of -1, 0 and 1 in blocks of 256 columns: TQ1_0, TQ2_0. See types.h for what each function is. */

static void EF_NAME(pack_row_tq2_0)(ef_tile_tq2_0 *tile, const ef_block_tq2_0 *block, int r)
{
    EF_NAME(pack_pairs)(tile->pairs, block->pairs, r);
    tile->scale[r] = block->scale;
}
EF_INLINE ef_i32x16 EF_NAME(codes_tq2_0)(const ef_tile_tq2_0 *tile, int b, const int g)
{
    return EF_NAME(pair_group)(tile->pairs[b], g, 0);
}
EF_ONE_SCALE(tq2_0)

static void EF_NAME(pack_row_tq1_0)(ef_tile_tq1_0 *tile, const ef_block_tq1_0 *block, int r)
{
    for (int i = 0; i < 13; i++)
        memcpy(tile->digits[i][r], block->digits + 4 * i, 4);
    tile->scale[r] = block->scale;
}

/* Digit `place` of every byte: the fraction's first `place` digits are multiplied away, then the next is its product with 3
 * over 256. Bytes go in pairs of sixteen bits: 255 * 81 < 2^16. */
EF_INLINE ef_i32x16 EF_NAME(ternary_digit)(ef_i32x16 bytes, int32_t place)
{
    static const int32_t powers[5] = {1, 3, 9, 27, 81};
    const ef_i32x16 mask = ef_i32x16_set1(0x00ff00ff), power = ef_i32x16_set1(powers[place]), three = ef_i32x16_set1(3);
    const ef_i32x16 even = ef_i32x16_and(ef_i32x16_mul(ef_i32x16_and(bytes, mask), power), mask);
    const ef_i32x16 odd = ef_i32x16_and(ef_i32x16_mul(ef_i32x16_and(ef_i32x16_shift_right_logical(bytes, 8), mask), power), mask);
    const ef_i32x16 low = ef_i32x16_shift_right_logical(ef_i32x16_mul(even, three), 8), high = ef_i32x16_mul(odd, three);
    return ef_i32x16_or(ef_i32x16_and(low, ef_i32x16_set1(0x00030003)), ef_i32x16_and(high, ef_i32x16_set1(0x03000300)));
}

EF_INLINE ef_i32x16 EF_NAME(codes_tq1_0)(const ef_tile_tq1_0 *tile, int b, const int g)
{
    const int sixteenth = 2 * (b - 5) + g / 4; /* of the columns from 160 on */
    int32_t word = g, place = b;
    if (b >= 5 && sixteenth < 5) {
        word = 8 + g % 4;
        place = sixteenth;
    } else if (b >= 5) {
        word = 12;
        place = g % 4;
    }
    return EF_NAME(ternary_digit)(ef_i32x16_load((const int32_t *)(const void *)tile->digits[word]), place);
}
EF_ONE_SCALE(tq1_0)
