"""IQ4_NL, IQ4_XS, MXFP4: four bits that choose one of sixteen fixed values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .parts import NIBBLES, single
from .types import Bytes, Float32

IQ4_NL = np.dtype([("scale", "<f2"), ("q", "u1", (1, 16))])
IQ4_XS = np.dtype([("scale", "<f2"), ("upper", "<u2"), ("lower", "u1", (4, 1)), ("q", "u1", (8, 1, 16))])
MXFP4 = np.dtype([("exponent", "u1"), ("q", "u1", (1, 16))])

IQ4_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
"""llama.cpp's ``kvalues_iq4nl``: closer together near zero, where most weights are."""

MXFP4_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
"""Twice the values of the E2M1 numbers of the OCP Microscaling specification 1.0."""

_TWO_BITS = np.arange(0, 16, 2, dtype=np.uint16)


def _chosen(values: NDArray[np.int8], q: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The value of every code: from [..., 1, 16] bytes to [..., 32]."""
    codes = (q >> NIBBLES) & np.uint8(15)
    return values[codes.reshape(*q.shape[:-2], 32)]


def decode_iq4_nl(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(IQ4_NL)
    weights: Float32 = single(stored["scale"]) * _chosen(IQ4_VALUES, stored["q"])
    return weights


def decode_iq4_xs(blocks: Bytes) -> Float32:
    """Parts of 32: weight = scale * (the part's six bits - 32) * value."""
    stored = blocks.reshape(-1).view(IQ4_XS)
    lower = (stored["lower"] >> NIBBLES[:, 0]) & np.uint8(15)
    upper = ((stored["upper"][:, None] >> _TWO_BITS) & np.uint16(3)).astype(np.uint8)
    scales = (lower.reshape(-1, 8) | (upper << np.uint8(4))).view(np.int8) - np.int8(32)
    parts = (single(stored["scale"]) * scales)[:, :, None]
    return (parts * _chosen(IQ4_VALUES, stored["q"])).reshape(-1, 256)


def _half_power_of_two(exponents: NDArray[np.uint8]) -> Float32:
    """2 ** (e - 128), the half of the E8M0 number e, to go with doubled values; its first two are denormal."""
    e = exponents.astype(np.uint32)
    bits = np.where(e < 2, np.uint32(0x00200000) << np.minimum(e, 1), (e - np.uint32(1)) << np.uint32(23))
    return bits.astype(np.uint32).view(np.float32)


def decode_mxfp4(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(MXFP4)
    weights: Float32 = _half_power_of_two(stored["exponent"])[:, None] * _chosen(MXFP4_VALUES, stored["q"])
    return weights
