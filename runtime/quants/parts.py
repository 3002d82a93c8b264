"""What encoders and decoders of several families share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError
from .types import Bytes, Float32

NIBBLES = np.array([[0], [4]], np.uint8)
"""Shifts that part bytes [..., 1, n] into [..., 2, n] halves: a block's first weights lie in the low ones."""

PAIRS = np.array([[0], [2], [4], [6]], np.uint8)
"""Shifts that part bytes [..., 1, n] into [..., 4, n] numbers of two bits."""

BITS = np.arange(8, dtype=np.uint8)[:, None]
"""Shifts that part bytes [..., 1, n] into [..., 8, n] bits."""


def half(values: Float32, what: str) -> NDArray[np.float16]:
    """To half precision, round to nearest even. Raises ConversionError where a finite value becomes infinite."""
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if np.isinf(halves).any():
        largest = float(np.abs(values).max())
        raise ConversionError(f"{what} {largest:g} does not fit half precision (65504): use bf16 or f32")
    return halves


def inverse(scales: Float32) -> Float32:
    """1 / scale, and 0 where the scale is 0 or so small that its inverse overflows: its half is then 0 as well."""
    with np.errstate(divide="ignore", over="ignore"):
        inverted = np.float32(1.0) / scales
    inverted[np.isinf(inverted)] = 0.0
    return inverted


def single(halves: NDArray[np.float16]) -> Float32:
    """Half to single precision, as a column."""
    return halves.astype(np.float32)[:, None]


def in_fields(values: NDArray[np.uint8], fields: int, bits: int) -> NDArray[np.uint8]:
    """Packs numbers [..., fields, m] of that many bits into bytes [..., 1, m], the first in the lowest bits."""
    packed = values[..., :1, :].copy()
    for i in range(1, fields):
        packed |= values[..., i : i + 1, :] << np.uint8(bits * i)
    return packed


def as_bytes(blocks: NDArray[np.void]) -> Bytes:
    """Blocks [n] as uint8 [n, bytes of a block]."""
    return blocks.view(np.uint8).reshape(-1, blocks.dtype.itemsize)
