"""I8_ROW, a type of edgeformer's own: a row is one float32 scale, then one int8 a weight."""

from __future__ import annotations

import numpy as np

from .parts import inverse
from .types import Bytes, Float32

HEADER = 4


def encode_i8_row(rows: Float32, importance: Float32 | None) -> Bytes:
    """scale = max|x| / 127, q = x / scale to the nearest integer, ties to even."""
    scale = np.abs(rows).max(axis=1, initial=0.0) / np.float32(127.0)
    inverted = inverse(scale)
    encoded = np.empty((len(rows), HEADER + rows.shape[1]), np.uint8)
    encoded[:, :HEADER] = np.where(inverted == 0, np.float32(0), scale).astype("<f4")[:, None].view(np.uint8)
    encoded[:, HEADER:] = np.rint(rows * inverted[:, None]).astype(np.int8).view(np.uint8)
    return encoded


def decode_i8_row(rows: Bytes) -> Float32:
    scale = np.ascontiguousarray(rows[:, :HEADER]).view("<f4")
    weights: Float32 = scale * rows[:, HEADER:].view(np.int8)
    return weights
