/* The vocabulary of simd.h in plain C, for any CPU. This is the definition that every other section equals bit for bit;
 * fmaf comes from the C library, so no fused instruction runs on a CPU without one. */

typedef struct { float v[16]; } ef_f32x16;
typedef struct { int32_t v[16]; } ef_i32x16;

/* `r` with r.v[i] = expression for every lane i. */
#define EF_LANES(type, expression)    \
    type r;                           \
    for (int i = 0; i < 16; i++)      \
        r.v[i] = (expression);        \
    return r

static inline ef_f32x16 ef_f32x16_load(const float *p) { EF_LANES(ef_f32x16, p[i]); }
static inline ef_f32x16 ef_f32x16_load_part(const float *p, int n) { EF_LANES(ef_f32x16, i < n ? p[i] : 0.0f); }
static inline ef_f32x16 ef_f32x16_set1(float x) { EF_LANES(ef_f32x16, x); }
static inline ef_f32x16 ef_f32x16_zero(void) { EF_LANES(ef_f32x16, 0.0f); }

static inline void ef_f32x16_store(float *p, ef_f32x16 a) { memcpy(p, a.v, sizeof a.v); }
static inline void ef_f32x16_store_part(float *p, ef_f32x16 a, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = a.v[i];
}

static inline ef_f32x16 ef_f32x16_add(ef_f32x16 a, ef_f32x16 b) { EF_LANES(ef_f32x16, a.v[i] + b.v[i]); }
static inline ef_f32x16 ef_f32x16_sub(ef_f32x16 a, ef_f32x16 b) { EF_LANES(ef_f32x16, a.v[i] - b.v[i]); }
static inline ef_f32x16 ef_f32x16_mul(ef_f32x16 a, ef_f32x16 b) { EF_LANES(ef_f32x16, a.v[i] * b.v[i]); }
static inline ef_f32x16 ef_f32x16_div(ef_f32x16 a, ef_f32x16 b) { EF_LANES(ef_f32x16, a.v[i] / b.v[i]); }
static inline ef_f32x16 ef_f32x16_sqrt(ef_f32x16 a) { EF_LANES(ef_f32x16, sqrtf(a.v[i])); }
static inline ef_f32x16 ef_f32x16_fma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c)
{
    EF_LANES(ef_f32x16, fmaf(a.v[i], b.v[i], c.v[i]));
}
static inline ef_f32x16 ef_f32x16_fnma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c)
{
    EF_LANES(ef_f32x16, fmaf(-a.v[i], b.v[i], c.v[i]));
}
static inline ef_f32x16 ef_f32x16_max(ef_f32x16 a, ef_f32x16 b)
{
    EF_LANES(ef_f32x16, a.v[i] > b.v[i] ? a.v[i] : b.v[i]);
}
static inline ef_f32x16 ef_f32x16_min(ef_f32x16 a, ef_f32x16 b)
{
    EF_LANES(ef_f32x16, a.v[i] < b.v[i] ? a.v[i] : b.v[i]);
}
static inline ef_f32x16 ef_f32x16_abs(ef_f32x16 a) { EF_LANES(ef_f32x16, fabsf(a.v[i])); }
static inline ef_f32x16 ef_f32x16_neg(ef_f32x16 a) { EF_LANES(ef_f32x16, -a.v[i]); }
static inline ef_f32x16 ef_f32x16_round(ef_f32x16 a) { EF_LANES(ef_f32x16, rintf(a.v[i])); }

static inline ef_f32x16 ef_f32x16_select_lt(ef_f32x16 a, ef_f32x16 b, ef_f32x16 x, ef_f32x16 y)
{
    EF_LANES(ef_f32x16, a.v[i] < b.v[i] ? x.v[i] : y.v[i]);
}

static inline ef_f32x16 ef_f32x16_select_part(ef_f32x16 a, int n, float fill)
{
    EF_LANES(ef_f32x16, i < n ? a.v[i] : fill);
}

static inline ef_f32x16 ef_f32x16_from_i32(ef_i32x16 a) { EF_LANES(ef_f32x16, (float)a.v[i]); }
/* llrintf, because a cast of a value out of range is undefined. */
static inline ef_i32x16 ef_f32x16_to_i32(ef_f32x16 a) { EF_LANES(ef_i32x16, (int32_t)llrintf(a.v[i])); }

static inline ef_i32x16 ef_f32x16_to_bits(ef_f32x16 a)
{
    ef_i32x16 r;
    memcpy(r.v, a.v, sizeof r.v);
    return r;
}

static inline ef_f32x16 ef_f32x16_from_bits(ef_i32x16 a)
{
    ef_f32x16 r;
    memcpy(r.v, a.v, sizeof r.v);
    return r;
}

static inline ef_f32x16 ef_f32x16_load_f16(const uint16_t *p) { EF_LANES(ef_f32x16, ef_float_from_half(p[i])); }
static inline ef_f32x16 ef_f32x16_load_f16_part(const uint16_t *p, int n)
{
    EF_LANES(ef_f32x16, i < n ? ef_float_from_half(p[i]) : 0.0f);
}
static inline ef_f32x16 ef_f32x16_load_bf16(const uint16_t *p) { EF_LANES(ef_f32x16, ef_float_from_bfloat16(p[i])); }

static inline void ef_f32x16_store_f16_part(uint16_t *p, ef_f32x16 a, int n)
{
    for (int i = 0; i < n; i++)
        p[i] = ef_half_from_float(a.v[i]);
}
static inline void ef_f32x16_store_f16(uint16_t *p, ef_f32x16 a) { ef_f32x16_store_f16_part(p, a, 16); }

static inline void ef_f32x16_zip(ef_f32x16 a, ef_f32x16 b, ef_f32x16 *low, ef_f32x16 *high)
{
    for (int i = 0; i < 8; i++) {
        low->v[2 * i] = a.v[i];
        low->v[2 * i + 1] = b.v[i];
        high->v[2 * i] = a.v[8 + i];
        high->v[2 * i + 1] = b.v[8 + i];
    }
}

static inline float ef_f32x16_reduce_add(ef_f32x16 a)
{
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a.v[i] = a.v[i] + a.v[i + half];
    return a.v[0];
}

static inline float ef_f32x16_reduce_max(ef_f32x16 a)
{
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
    return a.v[0];
}

/* Integer arithmetic goes through uint32_t: overflow wraps instead of being undefined. */
static inline ef_i32x16 ef_i32x16_load(const int32_t *p) { EF_LANES(ef_i32x16, p[i]); }
static inline void ef_i32x16_store(int32_t *p, ef_i32x16 a) { memcpy(p, a.v, sizeof a.v); }
static inline ef_i32x16 ef_i32x16_load_u8(const uint8_t *p) { EF_LANES(ef_i32x16, p[i]); }
static inline ef_i32x16 ef_i32x16_load_i8(const int8_t *p) { EF_LANES(ef_i32x16, p[i]); }
static inline ef_i32x16 ef_i32x16_load_u16(const uint16_t *p) { EF_LANES(ef_i32x16, p[i]); }
static inline void ef_i32x16_store_i8(int8_t *p, ef_i32x16 a)
{
    for (int i = 0; i < 16; i++)
        p[i] = (int8_t)a.v[i];
}
static inline ef_i32x16 ef_i32x16_set1(int32_t x) { EF_LANES(ef_i32x16, x); }
static inline ef_i32x16 ef_i32x16_add(ef_i32x16 a, ef_i32x16 b)
{
    EF_LANES(ef_i32x16, (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i]));
}
static inline ef_i32x16 ef_i32x16_sub(ef_i32x16 a, ef_i32x16 b)
{
    EF_LANES(ef_i32x16, (int32_t)((uint32_t)a.v[i] - (uint32_t)b.v[i]));
}
static inline ef_i32x16 ef_i32x16_mul(ef_i32x16 a, ef_i32x16 b)
{
    EF_LANES(ef_i32x16, (int32_t)((uint32_t)a.v[i] * (uint32_t)b.v[i]));
}
static inline ef_i32x16 ef_i32x16_shift_left(ef_i32x16 a, int n)
{
    EF_LANES(ef_i32x16, (int32_t)((uint32_t)a.v[i] << n));
}
static inline ef_i32x16 ef_i32x16_shift_right(ef_i32x16 a, int n) { EF_LANES(ef_i32x16, a.v[i] >> n); }
static inline ef_i32x16 ef_i32x16_shift_right_logical(ef_i32x16 a, int n)
{
    EF_LANES(ef_i32x16, (int32_t)((uint32_t)a.v[i] >> n));
}
static inline ef_i32x16 ef_i32x16_max(ef_i32x16 a, ef_i32x16 b) { EF_LANES(ef_i32x16, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
static inline int32_t ef_i32x16_reduce_max(ef_i32x16 a)
{
    int32_t largest = a.v[0];
    for (int i = 1; i < 16; i++)
        largest = a.v[i] > largest ? a.v[i] : largest;
    return largest;
}
static inline ef_i32x16 ef_i32x16_and(ef_i32x16 a, ef_i32x16 b) { EF_LANES(ef_i32x16, a.v[i] & b.v[i]); }
static inline ef_i32x16 ef_i32x16_or(ef_i32x16 a, ef_i32x16 b) { EF_LANES(ef_i32x16, a.v[i] | b.v[i]); }
static inline ef_i32x16 ef_i32x16_xor(ef_i32x16 a, ef_i32x16 b) { EF_LANES(ef_i32x16, a.v[i] ^ b.v[i]); }
static inline ef_i32x16 ef_i32x16_load_once(const int32_t *p) { return ef_i32x16_load(p); }
static inline ef_i32x16 ef_i32x16_high_nibbles(ef_i32x16 a)
{
    return ef_i32x16_and(ef_i32x16_shift_right_logical(a, 4), ef_i32x16_set1(0x0f0f0f0f));
}
static inline ef_i32x16 ef_i32x16_lookup(const uint8_t *table, ef_i32x16 a)
{
    uint8_t bytes[64];
    memcpy(bytes, a.v, sizeof bytes);
    for (int i = 0; i < 64; i++)
        bytes[i] = table[bytes[i] & 15];
    memcpy(a.v, bytes, sizeof bytes);
    return a;
}

#undef EF_LANES
