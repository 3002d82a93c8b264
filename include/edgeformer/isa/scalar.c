/* Plain C, for any CPU; the definition of what every other instruction set computes. */
#include "edgeformer/isa/targets.h"

#define EF_ISA scalar
#define EF_SIMD EF_SIMD_SCALAR
#define EF_PRODUCT EF_PRODUCT_SCALAR
#include "edgeformer/isa/isa.h"
