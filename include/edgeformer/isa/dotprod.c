/* AArch64 with dot products of eight-bit integers. */
#include "edgeformer/isa/targets.h"

#ifdef EF_TARGETS_DOTPROD
#if defined(__clang__)
EF_REGION_BEGIN("dotprod")
#else
EF_REGION_BEGIN("arch=armv8.2-a+dotprod")
#endif
#define EF_ISA dotprod
#define EF_SIMD EF_SIMD_NEON
#define EF_PRODUCT EF_PRODUCT_SDOT
#include "edgeformer/isa/isa.h"
EF_REGION_END
#endif
