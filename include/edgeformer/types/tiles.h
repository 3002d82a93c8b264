/* The blocks of every quantized type as GGUF stores one row's, and the tiles that they are packed into: sixteen rows'
 * blocks, in as many bytes.
 *
 * A tile keeps what its block keeps, arranged so that a vector holds the same thing for sixteen rows. Of each thirty-two
 * columns b, `[g][r][i]` is row r, column 32b + 4g + i ("group" g). Where codes are cut into parts:
 *     nibbles[b][g][r][i]   low half: group g, high half: group g + 4
 *     pairs[b][h][r]        two bits of four groups: bits 8i + 2j are those of group 4h + j, column i
 *     bits[b][r]            one bit of eight groups: bit 8i + g is that of group g, column i
 * Numbers of more than a byte are little-endian, here and in GGUF. `scale`, `minimum` are IEEE halves.
 */
#ifndef EDGEFORMER_TILES_H
#define EDGEFORMER_TILES_H

#include "edgeformer/types/blocks.h"

/* -- blocks of 32 columns; element i in nibbles[i] (low), element i + 16 in nibbles[i] (high); high_bits: bit i -- */

typedef struct { uint16_t scale; uint8_t nibbles[16]; } ef_block_q4_0;
typedef struct { uint8_t nibbles[4][16][4]; uint16_t scale[16]; } ef_tile_q4_0;

typedef struct { uint16_t scale, minimum; uint8_t nibbles[16]; } ef_block_q4_1;
typedef struct { uint8_t nibbles[4][16][4]; uint16_t scale[16], minimum[16]; } ef_tile_q4_1;

typedef struct { uint16_t scale; uint8_t high_bits[4], nibbles[16]; } ef_block_q5_0;
typedef struct { uint8_t nibbles[4][16][4]; uint32_t bits[16]; uint16_t scale[16]; } ef_tile_q5_0;

typedef struct { uint16_t scale, minimum; uint8_t high_bits[4], nibbles[16]; } ef_block_q5_1;
typedef struct { uint8_t nibbles[4][16][4]; uint32_t bits[16]; uint16_t scale[16], minimum[16]; } ef_tile_q5_1;

typedef struct { uint16_t scale; int8_t q[32]; } ef_block_q8_0;
typedef struct { int8_t q[8][16][4]; uint16_t scale[16]; } ef_tile_q8_0;

typedef ef_block_q4_0 ef_block_iq4_nl; /* nibbles are places in a table */
typedef ef_tile_q4_0 ef_tile_iq4_nl;

typedef struct { uint8_t exponent, nibbles[16]; } ef_block_mxfp4; /* of the scale: 2^(exponent - 128) */
typedef struct { uint8_t nibbles[4][16][4], exponent[16]; } ef_tile_mxfp4;

/* -- blocks of 256 columns, with scales for parts of 32 or 16 -- */

/* Q4_K and Q5_K: eight scales and eight minima of six bits, times a half each. scales_low and minima_low hold their low
 * nibbles, part b's at bit 4b; high their two high bits, of scales at bit 2b, of minima at bit 16 + 2b. */
typedef struct { uint16_t scale, minimum; uint8_t six_bits[12]; } ef_block_parts;
typedef struct { uint32_t scales_low[16], minima_low[16], high[16]; uint16_t scale[16], minimum[16]; } ef_tile_parts;

typedef struct { ef_block_parts parts; uint8_t nibbles[128]; } ef_block_q4_k;
typedef struct { uint8_t nibbles[8][4][16][4]; ef_tile_parts parts; } ef_tile_q4_k;

typedef struct { ef_block_parts parts; uint8_t high_bits[32], nibbles[128]; } ef_block_q5_k;
typedef struct { uint8_t nibbles[8][4][16][4]; uint32_t bits[8][16]; ef_tile_parts parts; } ef_tile_q5_k;

typedef struct { uint8_t nibbles[128], high_pairs[64]; int8_t scales[16]; uint16_t scale; } ef_block_q6_k;
typedef struct {
    uint8_t nibbles[8][4][16][4];
    uint32_t pairs[8][2][16];
    int8_t scales[16][16]; /* [part of 16 columns][row] */
    uint16_t scale[16];
} ef_tile_q6_k;

/* Sixteen scales of six bits, 32 too large: low[p / 8] holds the low nibbles, part p's at bit 4(p % 8); high the two high
 * bits, part p's at bit 2p. */
typedef struct { uint8_t high_bits[32], pairs[64], six_bits[12]; uint16_t scale; } ef_block_q3_k;
typedef struct { uint32_t pairs[8][2][16], bits[8][16], low[2][16], high[16]; uint16_t scale[16]; } ef_tile_q3_k;

typedef struct { uint8_t parts[16], pairs[64]; uint16_t scale, minimum; } ef_block_q2_k; /* part: scale low, minimum high */
typedef struct { uint32_t pairs[8][2][16]; uint8_t parts[16][16]; uint16_t scale[16], minimum[16]; } ef_tile_q2_k;

/* Eight scales of six bits, 32 too large: low nibbles at bit 4b, two high bits at bit 2b. */
typedef struct { uint16_t scale, high; uint8_t low[4], nibbles[128]; } ef_block_iq4_xs;
typedef struct { uint8_t nibbles[8][4][16][4]; uint32_t low[16]; uint16_t high[16], scale[16]; } ef_tile_iq4_xs;

typedef struct { uint8_t pairs[64]; uint16_t scale; } ef_block_tq2_0;
typedef struct { uint32_t pairs[8][2][16]; uint16_t scale[16]; } ef_tile_tq2_0;

/* Digits of base 3, five a byte (four in the last four bytes), as fractions of 256, the first the highest. Digit n of byte
 * j: column 32n + j of bytes 0-31; 160 + 16n + j - 32 of bytes 32-47; 240 + 4n + j - 48 of bytes 48-51. */
typedef struct { uint8_t digits[52]; uint16_t scale; } ef_block_tq1_0;
typedef struct { uint8_t digits[13][16][4]; uint16_t scale[16]; } ef_tile_tq1_0;

#define EF_SIZES(name, id, columns, bytes, shared, bits, offset, minimum) \
    _Static_assert(sizeof(ef_block_##name) == (bytes), "GGUF block of " #name); \
    _Static_assert(sizeof(ef_tile_##name) == (bytes) * 16, "tile of " #name);
EF_QUANTIZED_TYPES(EF_SIZES)
#undef EF_SIZES

#endif
