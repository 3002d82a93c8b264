/* Where a product's weights come from: straight from a tile, or from a panel that was unpacked (ef_unpacked_bytes). */

enum { EF_NAME(UNPACKED) = -1 }; /* in place of a type id */

/* Thirty-two columns of a panel: columns b of a tile, or, unpacked, what `tile` points to. */
typedef struct { const uint8_t *tile; int b; } EF_NAME(source);

/* Codes of `bits` bits as this instruction set multiplies them; each product_*.h has its own. */
EF_INLINE ef_i32x16 EF_NAME(operand)(ef_i32x16 codes, const int bits, const int offset);

/* Group g of the columns: [16 rows][4 columns] operands. */
EF_INLINE ef_i32x16 EF_NAME(group)(const int type, EF_NAME(source) source, const int g)
{
    if (type == EF_NAME(UNPACKED))
        return ef_i32x16_load((const int32_t *)(const void *)(source.tile + 64 * g));
    const ef_type_traits traits = ef_traits(type);
    return EF_NAME(operand)(EF_NAME(codes)(type, source.tile, source.b, g), traits.bits, traits.offset);
}

#if EF_PRODUCT != EF_PRODUCT_SDOT && EF_PRODUCT != EF_PRODUCT_SMMLA
/* Thirty-two columns as `group` finds them again where they are UNPACKED; sdot and smmla have orders of their own. */
EF_INLINE void EF_NAME(store_operands)(uint8_t *output, const int type, EF_NAME(source) source)
{
    EF_UNROLL
    for (int g = 0; g < 8; g++)
        ef_i32x16_store((int32_t *)(void *)(output + 64 * g), EF_NAME(group)(type, source, g));
}
#endif
