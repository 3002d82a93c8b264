"""Products of rows with packed matrices."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from numpy.typing import NDArray
from support.kernel_inputs import (
    BLOCKED,
    FLOATS,
    QUANTIZED,
    block_bytes,
    columns,
    decoded,
    extreme_rows,
    halves,
    matrix,
    rows,
    same_bits,
    walks,
)

TYPES = sorted(core.WEIGHT_TYPES)
HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 11, 13, 24, 32, 37, 45)  # of every tile, with and without unpacking


def widths(kind: int) -> list[int]:
    """Numbers of columns across the tails of the type's kernels."""
    return [1, 2, 3, 15, 16, 17, 33, 100] if kind in FLOATS else columns(kind, 1, 2, 3)


def product(
    kind: int, values: NDArray[np.float64], x: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The product in float64, of the quantized rows where the kernel takes them, and the sum of magnitudes."""
    exact = x.astype(np.float64)
    if kind in QUANTIZED:
        by_row = kind == core.EF_I8_ROW
        blocks = core.kernel_quantize_row("scalar", x)[0] if by_row else core.kernel_quantize("scalar", x)
        exact = (blocks["q"] * blocks["scale"][..., None].astype(np.float64)).reshape(x.shape)
    return exact @ values.T, np.abs(exact) @ np.abs(values.T)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@pytest.mark.parametrize("num_rows", [1, 17, 48])
def test_scalar_is_close_to_float64(kind: int, num_rows: int) -> None:
    for num_columns in widths(kind):
        packed, values = matrix(kind, num_rows, num_columns)
        x = rows(num_columns, 5, num_columns)
        wanted, magnitude = product(kind, values, x)
        error = np.abs(core.kernel_matmul("scalar", packed, x) - wanted)
        # Codes and minima are summed apart, so where they cancel the error is that of the larger parts.
        cancelled = np.abs(x).sum(axis=-1, keepdims=True) * np.abs(values).max() if kind in QUANTIZED else 0
        assert np.all(error <= (magnitude + cancelled) * (num_columns + 2) * 2.0**-24 + 1e-30)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@walks("matmul")
def test_same_bits_for_every_height_and_width(other_isa: str, kind: int) -> None:
    for num_columns in widths(kind):
        for num_rows in (1, 16, 33, 70):
            packed, _ = matrix(kind, num_rows, num_columns)
            for n in HEIGHTS:
                x = rows(n, n, num_columns)
                assert same_bits(core.kernel_matmul(other_isa, packed, x), core.kernel_matmul("scalar", packed, x))


@pytest.mark.parametrize("kind", QUANTIZED, ids=core.WEIGHT_TYPES.get)
def test_same_bits_for_many_columns_and_rows(isa: str, kind: int) -> None:
    """More than the kernels unpack, or keep sums of, at a time."""
    packed, _ = matrix(kind, 33, 1280)
    x = rows(0, 600, 1280)
    whole = core.kernel_matmul(isa, packed, x)
    for first in (0, 300, 599):
        assert same_bits(core.kernel_matmul("scalar", packed, x[first : first + 1]), whole[first : first + 1])


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_same_bits_for_extremes(other_isa: str, kind: int) -> None:
    packed, _ = matrix(kind, 20, 256)
    for seed in range(20):
        x = extreme_rows(seed, 7 + seed, 256, finite=True)
        assert same_bits(core.kernel_matmul(other_isa, packed, x), core.kernel_matmul("scalar", packed, x))


@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_sum_of_eight_bit_products_saturates(isa: str, weight: int, sign: int) -> None:
    block = np.concatenate([np.array([1], np.float16).view(np.uint8), np.full(32, weight, np.int8).view(np.uint8)])
    packed = core.Matrix(core.EF_Q8_0, 16, 128)
    packed.pack(np.tile(block, 16 * 4).tobytes(), 0, 16)
    result = core.kernel_matmul(isa, packed, np.full((3, 128), sign * 127, np.float32))
    assert np.all(result == sign * weight * 127 * 128)


@pytest.mark.parametrize("kind", BLOCKED, ids=core.WEIGHT_TYPES.get)
@pytest.mark.parametrize("byte", [0x00, 0x0F, 0x7F, 0xF0, 0xFF])
def test_no_sum_of_products_saturates(isa: str, kind: int, byte: int) -> None:
    raw = np.full((16, 2, block_bytes(kind)), byte, np.uint8)
    if core.WEIGHT_TYPES[kind] == "mxfp4":
        raw[..., 0] = 128  # the exponent of 1
    for offset in halves(kind):
        raw[..., offset : offset + 2] = np.array([1], np.float16).view(np.uint8)
    values = decoded(kind, raw.reshape(16, -1))
    packed = core.Matrix(kind, 16, values.shape[1])
    packed.pack(raw.tobytes(), 0, 16)
    for sign in (-1, 1):
        x = np.full((13, values.shape[1]), sign * 127, np.float32)
        for n in (1, 2, 4, 13):
            assert same_bits(core.kernel_matmul(isa, packed, x[:n]), core.kernel_matmul("scalar", packed, x[:n]))
        wanted = x.astype(np.float64) @ values.T
        assert np.allclose(core.kernel_matmul("scalar", packed, x), wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@pytest.mark.parametrize("activation", core.ACTIVATIONS)
def test_epilogue_is_bias_then_activation_then_residual(isa: str, kind: int, activation: str) -> None:
    packed, _ = matrix(kind, 40, 256)
    x, bias, residual = rows(0, 9, 256), rows(1, 40), rows(2, 9, 40)
    fused = core.kernel_matmul(isa, packed, x, bias, residual, activation)
    plain = core.kernel_matmul(isa, packed, x) + bias
    assert same_bits(fused, residual + core.kernel_unary("scalar", activation, plain))


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_ranges_compute_their_part_and_no_other(isa: str, kind: int) -> None:
    packed, _ = matrix(kind, 70, 256)
    x = rows(0, 20, 256)
    whole = core.kernel_matmul(isa, packed, x)
    for row_range in ((0, 1), (3, 16), (19, 20)):
        for panel_range in ((0, 1), (1, 4), (4, 5)):
            part = core.kernel_matmul(isa, packed, x, rows=row_range, panels=panel_range)
            wanted = np.zeros_like(whole)
            where = np.s_[row_range[0] : row_range[1], panel_range[0] * 16 : panel_range[1] * 16]
            wanted[where] = whole[where]
            assert same_bits(part, wanted)


def test_a_row_does_not_depend_on_its_neighbours(isa: str) -> None:
    packed, _ = matrix(core.EF_Q4_0, 33, 96)
    x = rows(0, 13, 96)
    whole = core.kernel_matmul(isa, packed, x)
    for i in range(13):
        assert same_bits(core.kernel_matmul(isa, packed, x[i : i + 1]), whole[i : i + 1])


def test_wrong_operands_are_refused() -> None:
    packed, _ = matrix(core.EF_F32, 20, 8)
    x = rows(0, 3, 8)
    for wrong in (
        {"x": rows(0, 3, 9)},
        {"x": x.astype(np.float64)},
        {"x": rows(0, 3, 16)[:, ::2]},
        {"bias": rows(0, 19)},
        {"residual": rows(0, 2, 20)},
        {"activation": "swish"},
        {"rows": (0, 4)},
        {"panels": (2, 1)},
    ):
        with pytest.raises(InvalidInputError):
            core.kernel_matmul("scalar", packed, **{"x": x, **wrong})
