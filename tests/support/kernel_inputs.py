"""Inputs and comparisons that the kernel tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TypeVar

import numpy as np
from edgeformer._kernels import core
from edgeformer.quants import TYPES
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Test = TypeVar("Test", bound=Callable[..., None])

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
FLOATS = (core.EF_F32, core.EF_F16, core.EF_BF16)
QUANTIZED = tuple(sorted(set(core.WEIGHT_TYPES) - set(FLOATS)))
BLOCKED = tuple(kind for kind in QUANTIZED if kind != core.EF_I8_ROW)
NOT_FINITE = np.array([np.inf, -np.inf, np.nan], np.float32)


def walks(*kernels: str) -> Callable[[Test], Test]:
    """Says which kernels of the list (kernels/list.h) a test holds on every instruction set; test_list.py wants all."""
    unknown = set(kernels) - set(core.KERNELS)
    assert not unknown, f"there are no kernels called {unknown}"
    return lambda test: test


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


def decoded(kind: int, raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What rows of bytes stand for: gguf's numbers, ours of a type that is edgeformer's own."""
    quantization = TYPES[kind]
    if not quantization.is_own:
        return dequantize(raw, GGMLQuantizationType(kind)).astype(np.float64)
    columns = raw.shape[1] // quantization.type_size * quantization.block_size
    return quantization.dequantize(raw, (len(raw), columns)).astype(np.float64)


@cache
def halves(kind: int) -> tuple[int, ...]:
    """Where the half-precision numbers of a block are, in bytes: a NaN there becomes a weight's."""
    places = range(block_bytes(kind) - 1)
    blocks = np.zeros((len(places), block_bytes(kind)), np.uint8)
    for place in places:
        blocks[place, place : place + 2] = np.array([np.nan], np.float16).view(np.uint8)
    with np.errstate(all="ignore"):
        return tuple(place for place in places if np.isnan(decoded(kind, blocks[place : place + 1])).any())


def raw_weights(kind: int, num_rows: int, num_columns: int, seed: int = 0) -> tuple[bytes, NDArray[np.float64]]:
    """Random rows as GGUF stores them, over the whole range of the format, and the values they stand for."""
    rng = np.random.default_rng(seed)
    if kind == core.EF_F32:
        values = rng.standard_normal((num_rows, num_columns)).astype(np.float32)
        return values.tobytes(), values.astype(np.float64)
    if kind == core.EF_F16:
        numbers = rng.standard_normal((num_rows, num_columns)).astype(np.float16)
        numbers.flat[:: max(1, numbers.size // 7)] = np.float16(6e-8)  # the least half, a denormal
        return numbers.tobytes(), numbers.astype(np.float64)
    if kind == core.EF_BF16:
        words = (rng.standard_normal((num_rows, num_columns)).astype(np.float32).view(np.uint32) >> 16).astype(
            np.uint16
        )
        return words.tobytes(), (words.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if kind == core.EF_I8_ROW:
        q = rng.integers(-128, 128, (num_rows, num_columns), dtype=np.int8)
        scale = (rng.standard_normal((num_rows, 1)) * 0.02).astype(np.float32)
        return np.concatenate([scale.view(np.uint8), q.view(np.uint8)], axis=1).tobytes(), scale * q.astype(np.float64)
    blocks = rng.integers(0, 256, (num_rows, num_columns // columns(kind, 1)[0], block_bytes(kind)), dtype=np.uint8)
    if core.WEIGHT_TYPES[kind] == "mxfp4":
        blocks[..., 0] = rng.integers(118, 126, blocks.shape[:-1])  # exponents of usual scales
    for offset in halves(kind):
        numbers = (rng.standard_normal((*blocks.shape[:-1], 1)) * 0.02).astype(np.float16)
        blocks[..., offset : offset + 2] = numbers.view(np.uint8)
    return blocks.tobytes(), decoded(kind, blocks.reshape(num_rows, -1))


def bad_numbers(kind: int, raw: bytes, num_columns: int) -> Iterator[bytes]:
    """Rows with one value, scale or minimum replaced by NaN or an infinity: each number of a block once, somewhere."""
    rng = np.random.default_rng(len(raw))
    row = np.array([np.nan, np.inf, -np.inf], np.float32)
    if kind in FLOATS or kind == core.EF_I8_ROW:
        step = {core.EF_F32: 4, core.EF_I8_ROW: 4 + num_columns}.get(kind, 2)
        places = [0]
        numbers = {core.EF_F16: row.astype(np.float16), core.EF_BF16: row.view(np.uint16)[1::2]}.get(kind, row)
    else:
        step, places = block_bytes(kind), halves(kind) or (0,)
        numbers = row.astype(np.float16) if halves(kind) else np.array([255], np.uint8)
    for place in places:
        for number in numbers:
            bad = bytearray(raw)
            start = int(rng.integers(len(raw) // step)) * step + place
            bad[start : start + number.nbytes] = number.tobytes()
            yield bytes(bad)


def columns(kind: int, *counts: int) -> list[int]:
    """Widths of so many blocks of the type each."""
    return [count * TYPES[kind].block_size for count in counts]


def block_bytes(kind: int) -> int:
    """Bytes of a block of the type."""
    return TYPES[kind].type_size


def matrix(kind: int, num_rows: int, num_columns: int, seed: int = 0) -> tuple[core.Matrix, NDArray[np.float64]]:
    """A packed random matrix and its values."""
    raw, values = raw_weights(kind, num_rows, num_columns, seed)
    packed = core.Matrix(kind, num_rows, num_columns)
    packed.pack(raw, 0, num_rows)
    return packed, values
