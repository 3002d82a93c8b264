"""Q8_0, Q4_0, Q4_1, Q5_0, Q5_1: blocks of 32 weights with one scale, and one minimum in the types that end in 1.

Numbers are those of llama.cpp's reference functions (ggml-quants.c), to the bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .parts import NIBBLES, as_bytes, half, inverse, single
from .types import Bytes, Float32

BLOCK = 32

Q8_0 = np.dtype([("scale", "<f2"), ("q", "i1", (BLOCK,))])
Q4_0 = np.dtype([("scale", "<f2"), ("low", "u1", (1, BLOCK // 2))])
Q4_1 = np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("low", "u1", (1, BLOCK // 2))])
Q5_0 = np.dtype([("scale", "<f2"), ("high", "u1", (BLOCK // 8,)), ("low", "u1", (1, BLOCK // 2))])
Q5_1 = np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("high", "u1", (BLOCK // 8,)), ("low", "u1", (1, BLOCK // 2))])

# The largest float32 below one half. Adding it (with x's sign) and truncating rounds half away from zero exactly,
# where adding 0.5 would carry 0.49999997 up to 1.
_ALMOST_HALF = np.nextafter(np.float32(0.5), np.float32(0.0))


def encode_q8_0(blocks: Float32, importance: Float32 | None) -> Bytes:
    """scale = max|x| / 127, q = x / scale rounded half away from zero."""
    scale = np.maximum(blocks.max(axis=1), -blocks.min(axis=1)) / np.float32(127.0)
    scaled = blocks * inverse(scale)[:, None]
    scaled += np.copysign(_ALMOST_HALF, scaled)
    encoded = np.empty(len(blocks), dtype=Q8_0)
    encoded["scale"] = half(np.abs(scale), "scale")
    encoded["q"] = scaled.astype(np.int8)
    return as_bytes(encoded)


def decode_q8_0(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q8_0)
    weights: Float32 = stored["q"] * single(stored["scale"])
    return weights


def _nibbles(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """From [n, 1, 16] bytes to [n, 32] codes."""
    codes: NDArray[np.uint8] = ((low >> NIBBLES) & np.uint8(15)).reshape(-1, BLOCK)
    return codes


def _fives(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes of five bits: the upper bits of all weights, then their lower four."""
    return _nibbles(low) | (np.unpackbits(high, axis=1, bitorder="little") << np.uint8(4))


def decode_q4_0(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q4_0)
    return (_nibbles(stored["low"]).view(np.int8) - np.int8(8)) * single(stored["scale"])


def decode_q4_1(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q4_1)
    return single(stored["scale"]) * _nibbles(stored["low"]) + single(stored["minimum"])


def decode_q5_0(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q5_0)
    return (_fives(stored["high"], stored["low"]).view(np.int8) - np.int8(16)) * single(stored["scale"])


def decode_q5_1(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q5_1)
    return single(stored["scale"]) * _fives(stored["high"], stored["low"]) + single(stored["minimum"])
