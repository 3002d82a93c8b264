/* x86 with AVX2, FMA and F16C. */
#include "edgeformer/isa/targets.h"

#ifdef EF_TARGETS_X86
EF_REGION_BEGIN("avx2,fma,f16c")
#define EF_ISA avx2
#define EF_SIMD EF_SIMD_AVX2
#define EF_PRODUCT EF_PRODUCT_MADDUBS
#include "edgeformer/isa/isa.h"
EF_REGION_END
#endif
