"""Products of rows with packed matrices."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from kernel_inputs import extreme_rows, matrix, rows, same_bits
from numpy.typing import NDArray

TYPES = sorted(core.WEIGHT_TYPES)
QUANTIZED = (core.EF_Q8_0, core.EF_Q4_0)
COLUMNS = {True: [32, 64, 96, 416], False: [1, 2, 3, 15, 16, 17, 33, 100]}


def product(
    kind: int, values: NDArray[np.float64], x: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The product in float64, of the quantized rows where the kernel takes them, and the sum of magnitudes."""
    exact = x.astype(np.float64)
    if kind in QUANTIZED:
        q, scale, _ = core.kernel_quantize("scalar", x)
        exact = (q.reshape(*scale.shape, 32) * scale[..., None].astype(np.float64)).reshape(x.shape)
    return exact @ values.T, np.abs(exact) @ np.abs(values.T)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@pytest.mark.parametrize("num_rows", [1, 17, 48])
def test_scalar_is_close_to_float64(kind: int, num_rows: int) -> None:
    for num_columns in COLUMNS[kind in QUANTIZED]:
        packed, values = matrix(kind, num_rows, num_columns)
        x = rows(num_columns, 5, num_columns)
        wanted, magnitude = product(kind, values, x)
        error = np.abs(core.kernel_matmul("scalar", packed, x) - wanted)
        assert np.all(error <= magnitude * (num_columns + 2) * 2.0**-24 + 1e-30)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_same_bits_for_every_height_and_width(isa: str, kind: int) -> None:
    for num_columns in COLUMNS[kind in QUANTIZED]:
        for num_rows in (1, 16, 33, 70):
            packed, _ = matrix(kind, num_rows, num_columns)
            for n in (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 26):
                x = rows(n, n, num_columns)
                assert same_bits(core.kernel_matmul(isa, packed, x), core.kernel_matmul("scalar", packed, x))


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_same_bits_for_extremes(isa: str, kind: int) -> None:
    packed, _ = matrix(kind, 20, 64)
    for seed in range(20):
        x = extreme_rows(seed, 7, 64, finite=True)
        assert same_bits(core.kernel_matmul(isa, packed, x), core.kernel_matmul("scalar", packed, x))


@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_sum_of_eight_bit_products_saturates(isa: str, weight: int, sign: int) -> None:
    block = np.concatenate([np.array([1], np.float16).view(np.uint8), np.full(32, weight, np.int8).view(np.uint8)])
    packed = core.Matrix(core.EF_Q8_0, 16, 128)
    packed.pack(np.tile(block, 16 * 4).tobytes(), 0, 16)
    result = core.kernel_matmul(isa, packed, np.full((3, 128), sign * 127, np.float32))
    assert np.all(result == sign * weight * 127 * 128)


def test_no_sum_of_four_bit_products_saturates(isa: str) -> None:
    for byte, value in ((0x00, -8), (0xFF, 7)):
        block = np.concatenate([np.array([1], np.float16).view(np.uint8), np.full(16, byte, np.uint8)])
        packed = core.Matrix(core.EF_Q4_0, 16, 128)
        packed.pack(np.tile(block, 16 * 4).tobytes(), 0, 16)
        for sign in (-1, 1):
            result = core.kernel_matmul(isa, packed, np.full((3, 128), sign * 127, np.float32))
            assert np.all(result == sign * value * 127 * 128)


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
@pytest.mark.parametrize("activation", core.ACTIVATIONS)
def test_epilogue_is_bias_then_activation_then_residual(isa: str, kind: int, activation: str) -> None:
    packed, _ = matrix(kind, 40, 64)
    x, bias, residual = rows(0, 9, 64), rows(1, 40), rows(2, 9, 40)
    fused = core.kernel_matmul(isa, packed, x, bias, residual, activation)
    plain = core.kernel_matmul(isa, packed, x) + bias
    assert same_bits(fused, residual + core.kernel_unary("scalar", activation, plain))


@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_ranges_compute_their_part_and_no_other(isa: str, kind: int) -> None:
    packed, _ = matrix(kind, 70, 64)
    x = rows(0, 20, 64)
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
