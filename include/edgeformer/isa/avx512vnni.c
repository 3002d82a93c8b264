/* x86 with AVX-512 (F, BW, VL, DQ, VNNI). */
#include "edgeformer/isa/targets.h"

#ifdef EF_TARGETS_X86
EF_REGION_BEGIN("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#define EF_ISA avx512vnni
#define EF_SIMD EF_SIMD_AVX512
#define EF_PRODUCT EF_PRODUCT_DPBUSD
#include "edgeformer/isa/isa.h"
EF_REGION_END
#endif
