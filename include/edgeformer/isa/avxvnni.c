/* x86 with AVX2 and AVX-VNNI. */
#include "edgeformer/isa/targets.h"

#ifdef EF_TARGETS_X86
EF_REGION_BEGIN("avx2,fma,f16c,avxvnni")
#define EF_ISA avxvnni
#define EF_SIMD EF_SIMD_AVX2
#define EF_PRODUCT EF_PRODUCT_DPBUSD
#include "edgeformer/isa/isa.h"
EF_REGION_END
#endif
