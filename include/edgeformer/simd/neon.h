/* The vocabulary of simd.h in four NEON registers (AArch64): register j holds lanes 4j .. 4j + 3.
 * Division, square root, rounding and vmaxvq exist on AArch64 only; a 32-bit section would replace those. */

typedef struct { float32x4_t v[4]; } ef_f32x16;
typedef struct { int32x4_t v[4]; } ef_i32x16;

/* `r` with r.v[j] = expression for every register j. */
#define EF_QUARTERS(type, expression) \
    type r;                           \
    EF_UNROLL                         \
    for (int j = 0; j < 4; j++)       \
        r.v[j] = (expression);        \
    return r

/* All bits set in the lanes of register j that are < n. */
static inline uint32x4_t EF_NAME(simd_first)(int j, int n)
{
    static const int32_t lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return vcltq_s32(vld1q_s32(lane + 4 * j), vdupq_n_s32(n));
}

static inline ef_f32x16 ef_f32x16_load(const float *p) { EF_QUARTERS(ef_f32x16, vld1q_f32(p + 4 * j)); }
static inline void ef_f32x16_store(float *p, ef_f32x16 a)
{
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        vst1q_f32(p + 4 * j, a.v[j]);
}
static inline ef_f32x16 ef_f32x16_load_part(const float *p, int n)
{
    float lanes[16] = {0};
    memcpy(lanes, p, (size_t)n * 4);
    return ef_f32x16_load(lanes);
}
static inline void ef_f32x16_store_part(float *p, ef_f32x16 a, int n)
{
    float lanes[16];
    ef_f32x16_store(lanes, a);
    memcpy(p, lanes, (size_t)n * 4);
}
static inline ef_f32x16 ef_f32x16_set1(float x) { EF_QUARTERS(ef_f32x16, vdupq_n_f32(x)); }
static inline ef_f32x16 ef_f32x16_zero(void) { EF_QUARTERS(ef_f32x16, vdupq_n_f32(0.0f)); }

static inline ef_f32x16 ef_f32x16_add(ef_f32x16 a, ef_f32x16 b) { EF_QUARTERS(ef_f32x16, vaddq_f32(a.v[j], b.v[j])); }
static inline ef_f32x16 ef_f32x16_sub(ef_f32x16 a, ef_f32x16 b) { EF_QUARTERS(ef_f32x16, vsubq_f32(a.v[j], b.v[j])); }
static inline ef_f32x16 ef_f32x16_mul(ef_f32x16 a, ef_f32x16 b) { EF_QUARTERS(ef_f32x16, vmulq_f32(a.v[j], b.v[j])); }
static inline ef_f32x16 ef_f32x16_div(ef_f32x16 a, ef_f32x16 b) { EF_QUARTERS(ef_f32x16, vdivq_f32(a.v[j], b.v[j])); }
static inline ef_f32x16 ef_f32x16_sqrt(ef_f32x16 a) { EF_QUARTERS(ef_f32x16, vsqrtq_f32(a.v[j])); }
static inline ef_f32x16 ef_f32x16_fma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c)
{
    EF_QUARTERS(ef_f32x16, vfmaq_f32(c.v[j], a.v[j], b.v[j]));
}
static inline ef_f32x16 ef_f32x16_fnma(ef_f32x16 a, ef_f32x16 b, ef_f32x16 c)
{
    EF_QUARTERS(ef_f32x16, vfmsq_f32(c.v[j], a.v[j], b.v[j]));
}
/* Compare and select: fmax and fmin would treat a NaN otherwise than the definition in simd.h. */
static inline ef_f32x16 ef_f32x16_max(ef_f32x16 a, ef_f32x16 b)
{
    EF_QUARTERS(ef_f32x16, vbslq_f32(vcgtq_f32(a.v[j], b.v[j]), a.v[j], b.v[j]));
}
static inline ef_f32x16 ef_f32x16_min(ef_f32x16 a, ef_f32x16 b)
{
    EF_QUARTERS(ef_f32x16, vbslq_f32(vcltq_f32(a.v[j], b.v[j]), a.v[j], b.v[j]));
}
static inline ef_f32x16 ef_f32x16_abs(ef_f32x16 a) { EF_QUARTERS(ef_f32x16, vabsq_f32(a.v[j])); }
static inline ef_f32x16 ef_f32x16_neg(ef_f32x16 a) { EF_QUARTERS(ef_f32x16, vnegq_f32(a.v[j])); }
static inline ef_f32x16 ef_f32x16_round(ef_f32x16 a) { EF_QUARTERS(ef_f32x16, vrndnq_f32(a.v[j])); }

static inline ef_f32x16 ef_f32x16_select_lt(ef_f32x16 a, ef_f32x16 b, ef_f32x16 x, ef_f32x16 y)
{
    EF_QUARTERS(ef_f32x16, vbslq_f32(vcltq_f32(a.v[j], b.v[j]), x.v[j], y.v[j]));
}

static inline ef_f32x16 ef_f32x16_select_part(ef_f32x16 a, int n, float fill)
{
    EF_QUARTERS(ef_f32x16, vbslq_f32(EF_NAME(simd_first)(j, n), a.v[j], vdupq_n_f32(fill)));
}

static inline ef_f32x16 ef_f32x16_from_i32(ef_i32x16 a) { EF_QUARTERS(ef_f32x16, vcvtq_f32_s32(a.v[j])); }
static inline ef_i32x16 ef_f32x16_to_i32(ef_f32x16 a) { EF_QUARTERS(ef_i32x16, vcvtnq_s32_f32(a.v[j])); }
static inline ef_i32x16 ef_f32x16_to_bits(ef_f32x16 a) { EF_QUARTERS(ef_i32x16, vreinterpretq_s32_f32(a.v[j])); }
static inline ef_f32x16 ef_f32x16_from_bits(ef_i32x16 a) { EF_QUARTERS(ef_f32x16, vreinterpretq_f32_s32(a.v[j])); }

static inline ef_f32x16 ef_f32x16_load_f16(const uint16_t *p)
{
    const float16x8_t low = vreinterpretq_f16_u16(vld1q_u16(p)), high = vreinterpretq_f16_u16(vld1q_u16(p + 8));
    return (ef_f32x16){{vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low), vcvt_f32_f16(vget_low_f16(high)),
                        vcvt_high_f32_f16(high)}};
}
static inline ef_f32x16 ef_f32x16_load_f16_part(const uint16_t *p, int n)
{
    uint16_t halves[16] = {0};
    memcpy(halves, p, (size_t)n * 2);
    return ef_f32x16_load_f16(halves);
}
static inline void ef_f32x16_store_f16(uint16_t *p, ef_f32x16 a)
{
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        vst1_u16(p + 4 * j, vreinterpret_u16_f16(vcvt_f16_f32(a.v[j])));
}
static inline void ef_f32x16_store_f16_part(uint16_t *p, ef_f32x16 a, int n)
{
    uint16_t halves[16];
    ef_f32x16_store_f16(halves, a);
    memcpy(p, halves, (size_t)n * 2);
}
static inline ef_f32x16 ef_f32x16_load_bf16(const uint16_t *p)
{
    EF_QUARTERS(ef_f32x16, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * j), 16)));
}

static inline void ef_f32x16_zip(ef_f32x16 a, ef_f32x16 b, ef_f32x16 *low, ef_f32x16 *high)
{
    EF_UNROLL
    for (int j = 0; j < 4; j++) {
        ef_f32x16 *half = j < 2 ? low : high;
        half->v[2 * j % 4] = vzip1q_f32(a.v[j], b.v[j]);
        half->v[2 * j % 4 + 1] = vzip2q_f32(a.v[j], b.v[j]);
    }
}

static inline float ef_f32x16_reduce_add(ef_f32x16 a)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline float ef_f32x16_reduce_max(ef_f32x16 a)
{
    const float32x4_t even = vbslq_f32(vcgtq_f32(a.v[0], a.v[2]), a.v[0], a.v[2]);
    const float32x4_t odd = vbslq_f32(vcgtq_f32(a.v[1], a.v[3]), a.v[1], a.v[3]);
    const float32x4_t four = vbslq_f32(vcgtq_f32(even, odd), even, odd);
    const float32x2_t low = vget_low_f32(four), high = vget_high_f32(four);
    const float32x2_t two = vbsl_f32(vcgt_f32(low, high), low, high);
    const float x = vget_lane_f32(two, 0), y = vget_lane_f32(two, 1);
    return x > y ? x : y;
}

static inline ef_i32x16 ef_i32x16_load(const int32_t *p) { EF_QUARTERS(ef_i32x16, vld1q_s32(p + 4 * j)); }
/* One instruction. */
static inline ef_i32x16 ef_i32x16_load_once(const int32_t *p)
{
    const int32x4x4_t all = vld1q_s32_x4(p);
    EF_QUARTERS(ef_i32x16, all.val[j]);
}
static inline void ef_i32x16_store(int32_t *p, ef_i32x16 a)
{
    EF_UNROLL
    for (int j = 0; j < 4; j++)
        vst1q_s32(p + 4 * j, a.v[j]);
}
static inline ef_i32x16 ef_i32x16_load_u16(const uint16_t *p)
{
    EF_QUARTERS(ef_i32x16, vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p + 4 * j))));
}
static inline ef_i32x16 ef_i32x16_load_u8(const uint8_t *p)
{
    const uint8x16_t bytes = vld1q_u8(p);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    const uint16x4_t quarters[4] = {vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)};
    EF_QUARTERS(ef_i32x16, vreinterpretq_s32_u32(vmovl_u16(quarters[j])));
}
static inline ef_i32x16 ef_i32x16_load_i8(const int8_t *p)
{
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (ef_i32x16){{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)),
                        vmovl_s16(vget_high_s16(high))}};
}
static inline void ef_i32x16_store_i8(int8_t *p, ef_i32x16 a)
{
    for (int j = 0; j < 2; j++)
        vst1_s8(p + 8 * j, vmovn_s16(vcombine_s16(vmovn_s32(a.v[2 * j]), vmovn_s32(a.v[2 * j + 1]))));
}
static inline ef_i32x16 ef_i32x16_set1(int32_t x) { EF_QUARTERS(ef_i32x16, vdupq_n_s32(x)); }
static inline ef_i32x16 ef_i32x16_add(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, vaddq_s32(a.v[j], b.v[j])); }
static inline ef_i32x16 ef_i32x16_sub(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, vsubq_s32(a.v[j], b.v[j])); }
static inline ef_i32x16 ef_i32x16_mul(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, vmulq_s32(a.v[j], b.v[j])); }
static inline ef_i32x16 ef_i32x16_max(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, vmaxq_s32(a.v[j], b.v[j])); }
static inline int32_t ef_i32x16_reduce_max(ef_i32x16 a)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.v[0], a.v[1]), vmaxq_s32(a.v[2], a.v[3])));
}
static inline ef_i32x16 ef_i32x16_shift_left(ef_i32x16 a, int n)
{
    EF_QUARTERS(ef_i32x16, vshlq_s32(a.v[j], vdupq_n_s32(n)));
}
/* NEON shifts right by shifting left by a negative count. */
static inline ef_i32x16 ef_i32x16_shift_right(ef_i32x16 a, int n)
{
    EF_QUARTERS(ef_i32x16, vshlq_s32(a.v[j], vdupq_n_s32(-n)));
}
static inline ef_i32x16 ef_i32x16_shift_right_logical(ef_i32x16 a, int n)
{
    EF_QUARTERS(ef_i32x16, vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a.v[j]), vdupq_n_s32(-n))));
}
static inline ef_i32x16 ef_i32x16_and(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, vandq_s32(a.v[j], b.v[j])); }
static inline ef_i32x16 ef_i32x16_or(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, vorrq_s32(a.v[j], b.v[j])); }
static inline ef_i32x16 ef_i32x16_xor(ef_i32x16 a, ef_i32x16 b) { EF_QUARTERS(ef_i32x16, veorq_s32(a.v[j], b.v[j])); }
static inline ef_i32x16 ef_i32x16_high_nibbles(ef_i32x16 a)
{
    EF_QUARTERS(ef_i32x16, vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(a.v[j]), 4)));
}
static inline ef_i32x16 ef_i32x16_lookup(const uint8_t *table, ef_i32x16 a)
{
    const uint8x16_t entries = vld1q_u8(table);
    EF_QUARTERS(ef_i32x16, vreinterpretq_s32_u8(vqtbl1q_u8(entries, vreinterpretq_u8_s32(a.v[j]))));
}

#undef EF_QUARTERS
