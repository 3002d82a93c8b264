/* How keys and values lie in the pages of a cache (kernels.h), and the store into them. */

/* n numbers as blocks of 32, the last one filled up with zeros. */
static inline void EF_NAME(quantize_padded)(ef_block_activation *output, const float *input, int64_t n)
{
    const int64_t whole = n / EF_BLOCK * EF_BLOCK;
    EF_NAME(quantize)(output, input, whole);
    if (whole < n) {
        float block[EF_BLOCK] = {0};
        memcpy(block, input + whole, (size_t)(n - whole) * sizeof(float));
        EF_NAME(quantize)(output + whole / EF_BLOCK, block, EF_BLOCK);
    }
}

/* One head's key and value at `slot` of a page, in eight bits. A position's bytes depend on nothing else: every 32
 * columns have a scale of their own. */
static void EF_NAME(store_q8_0)(const ef_cache *cache, uint8_t *keys, uint8_t *values, int32_t slot, const float *key,
                                const float *value)
{
    const int64_t width = ef_pad16(cache->value_dim);
    ef_tile_q8_0 *tiles = (ef_tile_q8_0 *)(void *)keys;
    uint16_t *scales = (uint16_t *)(void *)(values + EF_TILE * width);
    ef_block_activation block;
    for (int64_t d = 0; d < cache->key_dim; d += EF_BLOCK) {
        EF_NAME(quantize_padded)(&block, key + d, cache->key_dim - d < EF_BLOCK ? cache->key_dim - d : EF_BLOCK);
        for (int g = 0; g < EF_BLOCK / 4; g++)
            memcpy(tiles[d / EF_BLOCK].q[g][slot], block.q + 4 * g, 4);
        tiles[d / EF_BLOCK].scale[slot] = ef_half_from_float(block.scale);
    }
    for (int64_t d = 0; d < cache->value_dim; d += EF_BLOCK) {
        EF_NAME(quantize_padded)(&block, value + d, cache->value_dim - d < EF_BLOCK ? cache->value_dim - d : EF_BLOCK);
        memcpy(values + slot * width + d, block.q, (size_t)(width - d < EF_BLOCK ? width - d : EF_BLOCK));
        scales[d / EF_BLOCK * EF_TILE + slot] = ef_half_from_float(block.scale);
    }
}

/* One head's key at `slot` of a page, as floats or halves. */
static void EF_NAME(store_key)(const ef_cache *cache, uint8_t *keys, int32_t slot, const float *key)
{
    for (int64_t d = 0; d < cache->key_dim; d += EF_TILE) {
        const int64_t count = cache->key_dim - d < EF_TILE ? cache->key_dim - d : EF_TILE;
        if (cache->type == EF_F16) {
            uint16_t halves[EF_TILE], *column = (uint16_t *)(void *)keys + d * EF_TILE + slot;
            ef_f32x16_store_f16(halves, EF_NAME(load_row)(key + d, count));
            for (int64_t i = 0; i < count; i++)
                column[i * EF_TILE] = halves[i];
        } else {
            float *column = (float *)(void *)keys + d * EF_TILE + slot;
            for (int64_t i = 0; i < count; i++)
                column[i * EF_TILE] = key[d + i];
        }
    }
}

/* One head's value alike. */
static void EF_NAME(store_value)(const ef_cache *cache, uint8_t *values, int32_t slot, const float *value)
{
    const int64_t width = ef_pad16(cache->value_dim), value_dim = cache->value_dim;
    for (int64_t d = 0; d < value_dim; d += EF_TILE) {
        const ef_f32x16 x = EF_NAME(load_row)(value + d, value_dim - d);
        if (cache->type == EF_F16)
            ef_f32x16_store_f16((uint16_t *)(void *)values + slot * width + d, x);
        else
            ef_f32x16_store((float *)(void *)values + slot * width + d, x);
    }
}

/* Sixteen vectors become what were their lanes: lane j of vector i goes to lane i of vector j. */
EF_INLINE void EF_NAME(transpose)(ef_f32x16 *v)
{
    for (int round = 0; round < 4; round++) {
        ef_f32x16 zipped[EF_TILE];
        EF_UNROLL
        for (int i = 0; i < EF_TILE / 2; i++)
            ef_f32x16_zip(v[i], v[i + EF_TILE / 2], &zipped[2 * i], &zipped[2 * i + 1]);
        EF_UNROLL
        for (int i = 0; i < EF_TILE; i++)
            v[i] = zipped[i];
    }
}

/* One head's keys of all sixteen positions of a page, as floats or halves; stride: bytes from key to key. */
static void EF_NAME(store_page_keys)(const ef_cache *cache, uint8_t *keys, const float *key, int64_t stride)
{
    for (int64_t d = 0; d < cache->key_dim; d += EF_TILE) {
        const int64_t count = cache->key_dim - d < EF_TILE ? cache->key_dim - d : EF_TILE;
        ef_f32x16 columns[EF_TILE];
        for (int i = 0; i < EF_TILE; i++)
            columns[i] = EF_NAME(load_row)((const float *)(const void *)((const uint8_t *)key + i * stride) + d, count);
        EF_NAME(transpose)(columns);
        for (int64_t i = 0; i < count; i++)
            if (cache->type == EF_F16)
                ef_f32x16_store_f16((uint16_t *)(void *)keys + (d + i) * EF_TILE, columns[i]);
            else
                ef_f32x16_store((float *)(void *)keys + (d + i) * EF_TILE, columns[i]);
    }
}

/* See kernels.h. */
static void EF_NAME(store_kv)(const ef_cache *cache, int32_t page, int32_t layer, int32_t slot, int32_t count,
                              const float *key, int64_t key_stride, const float *value, int64_t value_stride)
{
    const int whole = count == EF_TILE && cache->type != EF_Q8_0;
    for (int32_t head = 0; head < cache->num_heads; head++, key += cache->key_dim, value += cache->value_dim) {
        uint8_t *keys = ef_cache_key(cache, page, layer, head), *values = ef_cache_value(cache, page, layer, head);
        const uint8_t *k = (const uint8_t *)key, *v = (const uint8_t *)value;
        if (whole)
            EF_NAME(store_page_keys)(cache, keys, key, key_stride);
        for (int32_t i = 0; i < count; i++, k += key_stride, v += value_stride) {
            const float *one_key = (const float *)(const void *)k, *one_value = (const float *)(const void *)v;
            if (cache->type == EF_Q8_0)
                EF_NAME(store_q8_0)(cache, keys, values, slot + i, one_key, one_value);
            else
                EF_NAME(store_value)(cache, values, slot + i, one_value);
            if (cache->type != EF_Q8_0 && !whole)
                EF_NAME(store_key)(cache, keys, slot + i, one_key);
        }
    }
}
