/* How an instruction set multiplies eight-bit integers: what EF_PRODUCT may be. */
#ifndef EDGEFORMER_KERNELS_PRODUCTS_H
#define EDGEFORMER_KERNELS_PRODUCTS_H

#define EF_PRODUCT_SCALAR 0
#define EF_PRODUCT_MADDUBS 1 /* AVX2: u8 * s8 pairs into 16 bits, saturating */
#define EF_PRODUCT_DPBUSD 2  /* VNNI: u8 * s8 quadruples into 32 bits */
#define EF_PRODUCT_SMULL 3   /* NEON: s8 * s8 into 16 bits */
#define EF_PRODUCT_SDOT 4    /* NEON dotprod: s8 * s8 quadruples into 32 bits */
#define EF_PRODUCT_SMMLA 5   /* NEON i8mm: two rows of s8 by two of s8, eight columns, into 32 bits; sdot beside it */

#endif
