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

#define EF_KERNEL(kernel, result, arguments) .kernel = EF_NAME(kernel),
const ef_kernels EF_NAME(kernels) = {.isa = EF_STRING(EF_ISA), EF_KERNELS(EF_KERNEL)};
#undef EF_KERNEL

#undef EF_STRING
#undef EF_STRING_
#undef EF_ISA
#undef EF_SIMD
#undef EF_PRODUCT
