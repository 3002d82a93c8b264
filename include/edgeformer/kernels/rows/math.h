/* Elementary functions over sixteen lanes, and two over one number. Own polynomials, fitted by weighted least squares
 * to float64 values; every step is one rounded operation, so all instruction sets give the same bits. The bounds are
 * the largest errors found over the floats of the domain (every 53rd of them) against float64, in ulp of the result.
 */

/* 2^(n + r) for |r| <= 0.5 and -126 <= n <= 128, where the low bits of `shifted` = 1.5 * 2^23 + n hold n.
 * The exponent is added as an integer, so other n give any value. Error of the polynomial itself: 2^-28. */
EF_INLINE ef_f32x16 EF_NAME(exp2_split)(ef_f32x16 shifted, ef_f32x16 r)
{
    ef_f32x16 p = ef_f32x16_set1(0x1.41fb66p-13f);
    p = ef_f32x16_fma(p, r, ef_f32x16_set1(0x1.5f3ed8p-10f));
    p = ef_f32x16_fma(p, r, ef_f32x16_set1(0x1.3b2d4ep-7f));
    p = ef_f32x16_fma(p, r, ef_f32x16_set1(0x1.c6aee8p-5f));
    p = ef_f32x16_fma(p, r, ef_f32x16_set1(0x1.ebfbdcp-3f));
    p = ef_f32x16_fma(p, r, ef_f32x16_set1(0x1.62e430p-1f));
    p = ef_f32x16_fma(p, r, ef_f32x16_set1(1.0f));
    const ef_i32x16 exponent = ef_i32x16_shift_left(ef_f32x16_to_bits(shifted), 23);
    return ef_f32x16_from_bits(ef_i32x16_add(ef_f32x16_to_bits(p), exponent));
}

/* exp(x), error <= 1.2 ulp. Results below the smallest normal float are 0, above the largest infinity; NaN stays. */
static inline ef_f32x16 EF_NAME(exp16)(ef_f32x16 x)
{
    const ef_f32x16 shift = ef_f32x16_set1(0x1.8p23f);
    const ef_f32x16 log2_e = ef_f32x16_set1(0x1.715476p+0f), log2_e_rest = ef_f32x16_set1(0x1.4ae0cp-26f);
    const ef_f32x16 overflow = ef_f32x16_set1(0x1.62e43p+6f), underflow = ef_f32x16_set1(-0x1.5d589ep+6f);
    const ef_f32x16 shifted = ef_f32x16_fma(x, log2_e, shift);
    const ef_f32x16 minus_n = ef_f32x16_sub(shift, shifted);
    const ef_f32x16 r = ef_f32x16_fma(x, log2_e_rest, ef_f32x16_fma(x, log2_e, minus_n));
    const ef_f32x16 y = EF_NAME(exp2_split)(shifted, r);
    const ef_f32x16 finite = ef_f32x16_select_lt(x, overflow, y, ef_f32x16_add(x, ef_f32x16_set1(INFINITY)));
    return ef_f32x16_select_lt(x, underflow, ef_f32x16_zero(), finite);
}

/* x < 0 ? 0 : x. Not `max`, which on x86 flushes denormals and elsewhere passes them on. */
static inline ef_f32x16 EF_NAME(relu)(ef_f32x16 x)
{
    return ef_f32x16_select_lt(x, ef_f32x16_zero(), ef_f32x16_zero(), x);
}

/* x / (1 + exp(-u)). x is kept from -infinity, where the quotient would be infinity / infinity, not its limit 0. */
static inline ef_f32x16 EF_NAME(times_sigmoid)(ef_f32x16 x, ef_f32x16 u)
{
    const ef_f32x16 e = EF_NAME(exp16)(ef_f32x16_neg(u));
    return ef_f32x16_div(ef_f32x16_max(ef_f32x16_set1(-0x1p100f), x), ef_f32x16_add(ef_f32x16_set1(1.0f), e));
}

/* x * sigmoid(x), error <= 2.4 ulp for x > -87; below that (results under 2e-36) 0 at the latest from -88.8 on. */
static inline ef_f32x16 EF_NAME(silu)(ef_f32x16 x) { return EF_NAME(times_sigmoid)(x, x); }

/* x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) = x * sigmoid(2 sqrt(2/pi) * (x + 0.044715 x^3)).
 * Error <= 2 ulp for x > 0; for x < 0 3 ulp down to -1, 13 ulp to -3, and everywhere less than 5e-8. */
static inline ef_f32x16 EF_NAME(gelu_tanh)(ef_f32x16 x)
{
    const ef_f32x16 linear = ef_f32x16_set1(0x1.988454p+0f), cubic = ef_f32x16_set1(0x1.2444f2p-4f);
    return EF_NAME(times_sigmoid)(x, ef_f32x16_mul(x, ef_f32x16_fma(ef_f32x16_mul(x, x), cubic, linear)));
}

/* x * P(X <= x) for a standard normal X (GELU with erf), as relu(x) - |x| q(|x|) with q(a) = P(X > a) = 2^(a s(a) - 1):
 * one polynomial for both signs and no difference of close numbers. Past |x| = 8 the second term is below 1e-14, and
 * left out. Error <= 2 ulp for x > 0; for x < 0 3 ulp down to -1, 15 ulp to -3, and everywhere less than 5e-8. */
static inline ef_f32x16 EF_NAME(gelu)(ef_f32x16 x)
{
    const ef_f32x16 a = ef_f32x16_abs(x);
    ef_f32x16 s = ef_f32x16_set1(-0x1.ca73c0p-26f);
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(0x1.a42a1cp-21f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(-0x1.4d7b78p-17f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(0x1.22bb7ep-14f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(-0x1.07a490p-12f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(-0x1.1270d8p-14f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(0x1.ccff0ep-8f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(-0x1.ae1d92p-5f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(-0x1.d63866p-2f));
    s = ef_f32x16_fma(s, a, ef_f32x16_set1(-0x1.26aeecp+0f));
    const ef_f32x16 shift = ef_f32x16_set1(0x1.8p23f - 1.0f);
    const ef_f32x16 shifted = ef_f32x16_fma(s, a, shift);
    const ef_f32x16 r = ef_f32x16_fma(s, a, ef_f32x16_sub(shift, shifted));
    const ef_f32x16 q = EF_NAME(exp2_split)(shifted, r);
    const ef_f32x16 positive = EF_NAME(relu)(x);
    return ef_f32x16_select_lt(a, ef_f32x16_set1(8.0f), ef_f32x16_fnma(a, q, positive), positive);
}

/* x * sigmoid(1.702 x) (Hendrycks and Gimpel 2016), CLIP's GELU. */
static inline ef_f32x16 EF_NAME(quick_gelu)(ef_f32x16 x)
{
    return EF_NAME(times_sigmoid)(x, ef_f32x16_mul(x, ef_f32x16_set1(0x1.b3b646p+0f)));
}

/* relu(x)^2 (So et al. 2021) */
static inline ef_f32x16 EF_NAME(relu_squared)(ef_f32x16 x)
{
    const ef_f32x16 positive = EF_NAME(relu)(x);
    return ef_f32x16_mul(positive, positive);
}

/* 1 / (1 + exp(-x)), error <= 2.5 ulp */
static inline ef_f32x16 EF_NAME(sigmoid)(ef_f32x16 x)
{
    const ef_f32x16 one = ef_f32x16_set1(1.0f);
    return ef_f32x16_div(one, ef_f32x16_add(one, EF_NAME(exp16)(ef_f32x16_neg(x))));
}

/* tanh(x), error <= 1.4 ulp: x + x z P(z) with z = x^2 below 0.625, 1 - 2 / (exp(2 |x|) + 1) with x's sign from there. */
static inline ef_f32x16 EF_NAME(tanh)(ef_f32x16 x)
{
    const ef_f32x16 zero = ef_f32x16_zero(), one = ef_f32x16_set1(1.0f), two = ef_f32x16_set1(2.0f);
    const ef_f32x16 a = ef_f32x16_abs(x), z = ef_f32x16_mul(x, x);
    ef_f32x16 p = ef_f32x16_set1(-0x1.75e04ap-8f);
    p = ef_f32x16_fma(p, z, ef_f32x16_set1(0x1.52263cp-6f));
    p = ef_f32x16_fma(p, z, ef_f32x16_set1(-0x1.b83c4ap-5f));
    p = ef_f32x16_fma(p, z, ef_f32x16_set1(0x1.110726p-3f));
    p = ef_f32x16_fma(p, z, ef_f32x16_set1(-0x1.555532p-2f));
    const ef_f32x16 near = ef_f32x16_fma(ef_f32x16_mul(z, x), p, x);
    const ef_f32x16 e = EF_NAME(exp16)(ef_f32x16_add(a, a));
    const ef_f32x16 far = ef_f32x16_sub(one, ef_f32x16_div(two, ef_f32x16_add(e, one)));
    const ef_f32x16 signed_far = ef_f32x16_select_lt(x, zero, ef_f32x16_neg(far), far);
    return ef_f32x16_select_lt(a, ef_f32x16_set1(0.625f), near, signed_far);
}

static inline ef_f32x16 EF_NAME(none)(ef_f32x16 x) { return x; }

#define EF_ROW(upper, lower) case EF_ACT_##upper: return EF_NAME(lower)(x);
/* activation: enum ef_activation. NaN gives NaN, an infinity the limit: of all but SIGMOID and TANH 0 and infinity. */
static inline ef_f32x16 EF_NAME(activate_vector)(ef_f32x16 x, int32_t activation)
{
    switch (activation) {
    EF_ACTIVATIONS(EF_ROW)
    default: return x;
    }
}
#undef EF_ROW

/* Sixteen values at a time, in place; activation is a constant. */
EF_INLINE void EF_NAME(activate_each)(float *values, int count, const int32_t activation)
{
    for (int i = 0; i < count; i++, values += EF_TILE)
        ef_f32x16_store(values, EF_NAME(activate_vector)(ef_f32x16_load(values), activation));
}

#define EF_ROW(upper, lower) case EF_ACT_##upper: EF_NAME(activate_each)(values, count, EF_ACT_##upper); break;
/* `count` vectors in place. */
static void EF_NAME(activate_vectors)(float *values, int count, int32_t activation)
{
    switch (activation) {
    EF_ACTIVATIONS(EF_ROW)
    }
}
#undef EF_ROW

/* log(x) of a positive normal number, error <= 0.51 ulp; infinity and NaN give themselves. In double precision:
 * x = 2^e m, sqrt(1/2) <= m < sqrt(2), log m = 2 atanh(f) with f = (m - 1) / (m + 1), by the series of atanh. */
static inline float EF_NAME(log1)(float x)
{
    if (!(x < INFINITY))
        return x;
    const double value = x;
    uint64_t bits;
    memcpy(&bits, &value, 8);
    const uint64_t half = 0x3fe6a09e667f3bcd; /* sqrt(1/2) */
    const int64_t exponent = (int64_t)(bits - half) >> 52;
    bits -= (uint64_t)exponent << 52;
    double m;
    memcpy(&m, &bits, 8);
    const double f = (m - 1.0) / (m + 1.0), z = f * f;
    double series = 1.0 / 19.0;
    for (int k = 17; k >= 1; k -= 2)
        series = series * z + 1.0 / k;
    return (float)(2.0 * f * series + (double)exponent * 0x1.62e42fefa39efp-1);
}

/* Cosine and sine of a float angle, each within 0.51 ulp for |angle| <= 2^31; beyond that any value, no fault.
 * Double precision: angle - k pi/2 with pi/2 in three parts, the first two of 22 bits so that k times them is exact for
 * k < 2^31 (Cody and Waite), then Taylor's series to x^16 on |x| <= pi/4, whose rest is below 2^-53. */
static inline void EF_NAME(cos_sin)(float angle, float *cosine, float *sine)
{
    const double shifted = (double)angle * 0x1.45f306dc9c883p-1 + 0x1.8p52;
    const double k = shifted - 0x1.8p52;
    uint64_t quadrant;
    memcpy(&quadrant, &shifted, 8);
    double x = (double)angle - k * 0x1.921fb8p+0;
    x = x + k * 0x1.5dde98p-23;
    x = x - k * 0x1.8469898cc517p-48;
    const double z = x * x;
    double c = 1.0, s = 1.0;
    for (int i = 16; i >= 2; i -= 2) {
        c = 1.0 - c * z * (1.0 / (i * (i - 1)));
        s = 1.0 - s * z * (1.0 / (i * (i + 1)));
    }
    s = s * x;
    const double swapped_cosine = quadrant & 1 ? s : c, swapped_sine = quadrant & 1 ? c : s;
    *cosine = (float)((quadrant + 1) & 2 ? -swapped_cosine : swapped_cosine);
    *sine = (float)(quadrant & 2 ? -swapped_sine : swapped_sine);
}
