"""Inputs and comparisons that the kernel tests share."""

from __future__ import annotations

import numpy as np
from edgeformer._kernels import core
from numpy.typing import NDArray

Floats = NDArray[np.float32]

EXTREMES = np.array(
    [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-45,
        -1e-40,
        1.2e-38,
        3.4e38,
        -3.4e38,
        88.7,
        -88.7,
        104.0,
        -104.0,
        0.5,
        -0.5,
        1e-8,
        65504.0,
        7.0,
    ],
    np.float32,
)
NOT_FINITE = np.array([np.inf, -np.inf, np.nan], np.float32)


def same_bits(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    """Whether two arrays are equal to the bit; any NaN equals any other."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype != np.float32:
        return bool(np.array_equal(a, b))
    equal = a.view(np.int32) == b.view(np.int32)
    return bool(np.all(equal | (np.isnan(a) & np.isnan(b))))


def rows(seed: int, *shape: int, scale: float = 1.0) -> Floats:
    """Normally distributed float32 values."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def extreme_rows(seed: int, *shape: int, finite: bool = False) -> Floats:
    """Values drawn from the extremes, among some ordinary ones."""
    rng = np.random.default_rng(seed)
    choices = np.concatenate([EXTREMES, EXTREMES * np.float32(0.37), [] if finite else NOT_FINITE]).astype(np.float32)
    return np.ascontiguousarray(
        np.where(rng.random(shape) < 0.3, rng.standard_normal(shape), rng.choice(choices, shape)), np.float32
    )


def raw_weights(kind: int, num_rows: int, num_columns: int, seed: int = 0) -> tuple[bytes, NDArray[np.float64]]:
    """Random rows as GGUF stores them, over the whole range of the format, and the values they stand for."""
    rng = np.random.default_rng(seed)
    if kind == core.EF_F32:
        values = rng.standard_normal((num_rows, num_columns)).astype(np.float32)
        return values.tobytes(), values.astype(np.float64)
    if kind == core.EF_F16:
        halves = rng.standard_normal((num_rows, num_columns)).astype(np.float16)
        halves.flat[:: max(1, halves.size // 7)] = np.float16(6e-8)  # the least half, a denormal
        return halves.tobytes(), halves.astype(np.float64)
    if kind == core.EF_BF16:
        words = (rng.standard_normal((num_rows, num_columns)).astype(np.float32).view(np.uint32) >> 16).astype(
            np.uint16
        )
        return words.tobytes(), (words.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    blocks = (num_rows, num_columns // 32)
    scales = (rng.standard_normal(blocks) * 0.02).astype(np.float16)
    scale_bytes = scales[..., None].view(np.uint8)
    if kind == core.EF_Q8_0:
        q = rng.integers(-128, 128, (*blocks, 32), dtype=np.int8)
        raw = np.concatenate([scale_bytes, q.view(np.uint8)], axis=-1)
    else:
        nibbles = rng.integers(0, 256, (*blocks, 16), dtype=np.uint8)
        q = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.int8) - 8
        raw = np.concatenate([scale_bytes, nibbles], axis=-1)
    return raw.tobytes(), (q * scales[..., None].astype(np.float64)).reshape(num_rows, num_columns)


def matrix(kind: int, num_rows: int, num_columns: int, seed: int = 0) -> tuple[core.Matrix, NDArray[np.float64]]:
    """A packed random matrix and its values."""
    raw, values = raw_weights(kind, num_rows, num_columns, seed)
    packed = core.Matrix(kind, num_rows, num_columns)
    packed.pack(raw, 0, num_rows)
    return packed, values
