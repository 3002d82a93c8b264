"""F32, F16 and BF16: a block is one number."""

from __future__ import annotations

import numpy as np

from ..errors import ConversionError
from .parts import half
from .types import Bytes, Float32


def encode_f32(weights: Float32, importance: Float32 | None) -> Bytes:
    return weights.astype("<f4", copy=False).view(np.uint8)


def decode_f32(raw: Bytes) -> Float32:
    return raw.view("<f4")


def encode_f16(weights: Float32, importance: Float32 | None) -> Bytes:
    return half(weights, "weight").view(np.uint8)


def decode_f16(raw: Bytes) -> Float32:
    return raw.view("<f2").astype(np.float32)


def encode_bf16(weights: Float32, importance: Float32 | None) -> Bytes:
    """The upper half of the float's bits, to nearest even."""
    bits = weights.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    if ((rounded & 0x7F80) == 0x7F80).any():
        raise ConversionError(f"weight {float(np.abs(weights).max()):g} rounds to infinity in bfloat16: use f32")
    return rounded.astype("<u2").view(np.uint8)


def decode_bf16(raw: Bytes) -> Float32:
    return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
