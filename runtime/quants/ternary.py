"""TQ1_0 and TQ2_0: blocks of 256 weights that are -1, 0 or 1 times the block's scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .parts import PAIRS, single
from .types import Bytes, Float32

BLOCK = 256

TQ1_0 = np.dtype([("first", "u1", (1, 32)), ("second", "u1", (1, 16)), ("last", "u1", (1, 4)), ("scale", "<f2")])
TQ2_0 = np.dtype([("q", "u1", (2, 1, 32)), ("scale", "<f2")])

_POWERS = np.array([[1], [3], [9], [27], [81]], np.uint8)


def _digits(packed: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """The first `count` base-three digits of bytes [n, 1, m], as [n, count * m].

    A byte is the fraction 0.ddddd in base three, times 256, rounded up. Times 3**i modulo 256 leaves digit i in
    front; times 3, its whole part is the digit.
    """
    fractions = packed * _POWERS[:count]
    digits = (fractions.astype(np.uint16) * np.uint16(3)) >> np.uint16(8)
    return digits.astype(np.uint8).reshape(len(packed), -1)


def decode_tq1_0(blocks: Bytes) -> Float32:
    """Five weights in each of the first 48 bytes, four in each of the last 4: 5 * 32 + 5 * 16 + 4 * 4 = 256."""
    stored = blocks.reshape(-1).view(TQ1_0)
    parts = [_digits(stored["first"], 5), _digits(stored["second"], 5), _digits(stored["last"], 4)]
    q = np.concatenate(parts, axis=1).view(np.int8) - np.int8(1)
    return single(stored["scale"]) * q


def decode_tq2_0(blocks: Bytes) -> Float32:
    """Two bits a weight, less 1; the fourth code, which no encoder writes, is 2."""
    stored = blocks.reshape(-1).view(TQ2_0)
    q = ((stored["q"] >> PAIRS) & np.uint8(3)).reshape(-1, BLOCK).view(np.int8) - np.int8(1)
    weights: Float32 = single(stored["scale"]) * q
    return weights
