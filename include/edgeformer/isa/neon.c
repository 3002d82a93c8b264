/* Every AArch64 CPU. */
#include "edgeformer/isa/targets.h"

#ifdef EF_TARGETS_NEON
#define EF_ISA neon
#define EF_SIMD EF_SIMD_NEON
#define EF_PRODUCT EF_PRODUCT_SMULL
#include "edgeformer/isa/isa.h"
#endif
