"""Q2_K to Q6_K: blocks of 256 weights in parts of 16 or 32, each with a small integer scale under the block's own.

Layouts are those of ggml-common.h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .parts import BITS, NIBBLES, PAIRS, single
from .types import Bytes, Float32

BLOCK = 256

Q2_K = np.dtype([("scales", "u1", (16,)), ("q", "u1", (2, 1, 32)), ("scale", "<f2"), ("minimum", "<f2")])
Q3_K = np.dtype([("high", "u1", (1, 1, 32)), ("low", "u1", (2, 1, 32)), ("scales", "u1", (12,)), ("scale", "<f2")])
Q4_K = np.dtype([("scale", "<f2"), ("minimum", "<f2"), ("scales", "u1", (3, 4)), ("q", "u1", (4, 1, 32))])
Q5_K = np.dtype(
    [
        ("scale", "<f2"),
        ("minimum", "<f2"),
        ("scales", "u1", (3, 4)),
        ("high", "u1", (1, 1, 32)),
        ("low", "u1", (4, 1, 32)),
    ]
)
Q6_K = np.dtype([("low", "u1", (2, 1, 64)), ("high", "u1", (2, 1, 32)), ("scales", "i1", (16,)), ("scale", "<f2")])


def decode_q2_k(blocks: Bytes) -> Float32:
    """Parts of 16: weight = scale * (low four bits) * (two bits) - minimum * (high four bits)."""
    stored = blocks.reshape(-1).view(Q2_K)
    q = ((stored["q"] >> PAIRS) & np.uint8(3)).reshape(-1, 16, 16)
    scales = single(stored["scale"]) * (stored["scales"] & np.uint8(15))
    minima = single(stored["minimum"]) * (stored["scales"] >> np.uint8(4))
    return (scales[:, :, None] * q - minima[:, :, None]).reshape(-1, BLOCK)


def decode_q3_k(blocks: Bytes) -> Float32:
    """Parts of 16: weight = scale * (the part's six bits - 32) * (two bits, less 4 where the third bit is 0)."""
    stored = blocks.reshape(-1).view(Q3_K)
    low = ((stored["low"] >> PAIRS) & np.uint8(3)).reshape(-1, 16, 16)
    high = ((stored["high"] >> BITS) & np.uint8(1)).reshape(-1, 16, 16)
    q = (low | (high << np.uint8(2))).view(np.int8) - np.int8(4)
    lower = ((stored["scales"][:, None, :8] >> NIBBLES) & np.uint8(15)).reshape(-1, 16)
    upper = ((stored["scales"][:, None, 8:] >> PAIRS) & np.uint8(3)).reshape(-1, 16)
    scales = single(stored["scale"]) * ((lower | (upper << np.uint8(4))).view(np.int8) - np.int8(32))
    return (scales[:, :, None] * q).reshape(-1, BLOCK)


def _scales_and_minima(packed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The eight scales and eight minima of six bits that Q4_K and Q5_K keep in 3 x 4 bytes.

    The first four of each lie in the low six bits of rows 0 and 1; the last four have their low nibbles in row 2,
    scales below minima, and their two upper bits on top of rows 0 and 1.
    """
    first, last = packed[:, :2] & np.uint8(63), (packed[:, :2] >> np.uint8(2)) & np.uint8(48)
    last |= (packed[:, 2:] >> NIBBLES) & np.uint8(15)
    both = np.concatenate([first, last], axis=2)
    return both[:, 0], both[:, 1]


def _weights_of_parts(stored: NDArray[np.void], q: NDArray[np.uint8]) -> Float32:
    """Parts of 32: weight = scale * (the part's scale) * q - minimum * (the part's minimum)."""
    scales, minima = _scales_and_minima(stored["scales"])
    scale = (single(stored["scale"]) * scales)[:, :, None]
    minimum = (single(stored["minimum"]) * minima)[:, :, None]
    weights: Float32 = (scale * q.reshape(-1, 8, 32) - minimum).reshape(-1, BLOCK)
    return weights


def decode_q4_k(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q4_K)
    return _weights_of_parts(stored, (stored["q"] >> NIBBLES) & np.uint8(15))


def decode_q5_k(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(Q5_K)
    low = ((stored["low"] >> NIBBLES) & np.uint8(15)).reshape(-1, 8, 32)
    high = ((stored["high"] >> BITS) & np.uint8(1)).reshape(-1, 8, 32)
    return _weights_of_parts(stored, low | (high << np.uint8(4)))


def decode_q6_k(blocks: Bytes) -> Float32:
    """Parts of 16: weight = scale * (the part's scale) * (six bits - 32)."""
    stored = blocks.reshape(-1).view(Q6_K)
    low = ((stored["low"] >> NIBBLES) & np.uint8(15)).reshape(-1, 16, 16)
    high = ((stored["high"] >> PAIRS) & np.uint8(3)).reshape(-1, 16, 16)
    q = (low | (high << np.uint8(4))).view(np.int8) - np.int8(32)
    scales = single(stored["scale"]) * stored["scales"]
    return (scales[:, :, None] * q).reshape(-1, BLOCK)
