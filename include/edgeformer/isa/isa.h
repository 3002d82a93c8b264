/* Every kernel, compiled for one instruction set, and the table of them: EF_NAME(kernels).
 *
 * isa/<name>.c includes this file inside a region that the compiler translates for that instruction set, with
 *     EF_ISA       its name, the suffix of every symbol
 *     EF_SIMD      the family of its vectors (simd.h)
 *     EF_PRODUCT   how it multiplies eight-bit integers (kernels/products.h)
 * and these are undefined again at the end. Neither this file nor the kernels have include guards.
 */
#include "edgeformer/kernels/kernels.h"
#include "edgeformer/simd/simd.h"

#include "edgeformer/types/types.h"
#include "edgeformer/types/types_row.h"
#include "edgeformer/types/pack.h"
#include "edgeformer/kernels/rows/math.h"
#include "edgeformer/kernels/products/matmul.h"
#include "edgeformer/kernels/rows/rows.h"
#include "edgeformer/kernels/rows/select.h"
#include "edgeformer/kernels/attention/attention.h"
#include "edgeformer/kernels/peaks.h"

#define EF_STRING_(x) #x
#define EF_STRING(x) EF_STRING_(x)

const ef_kernels EF_NAME(kernels) = {
    .name = EF_STRING(EF_ISA),
    .pack = EF_NAME(pack),
    .embed = EF_NAME(embed),
    .matmul = EF_NAME(matmul),
    .quantize = EF_NAME(quantize),
    .quantize_row = EF_NAME(quantize_row),
    .activate = EF_NAME(activate),
    .gate = EF_NAME(gate),
    .add = EF_NAME(add),
    .layer_norm = EF_NAME(layer_norm),
    .rms_norm = EF_NAME(rms_norm),
    .l2_norm = EF_NAME(l2_norm),
    .rotary = EF_NAME(rotary),
    .rope = EF_NAME(rope),
    .softmax = EF_NAME(softmax),
    .log_softmax = EF_NAME(log_softmax),
    .log_sum_exp = EF_NAME(log_sum_exp),
    .is_finite = EF_NAME(is_finite),
    .top = EF_NAME(top),
    .weigh = EF_NAME(weigh),
    .pool = EF_NAME(pool),
    .store_kv = EF_NAME(store_kv),
    .attention = EF_NAME(attention),
    .attention_split = EF_NAME(attention_split),
    .attention_join = EF_NAME(attention_join),
    .count_int8 = EF_NAME(count_int8),
    .count_int4 = EF_NAME(count_int4),
    .count_float = EF_NAME(count_float),
    .checksum = EF_NAME(checksum),
};

#undef EF_STRING
#undef EF_STRING_
#undef EF_ISA
#undef EF_SIMD
#undef EF_PRODUCT
