"""Normalisations of one row, written in Python and compiled by Numba to C functions that the plan calls.

The functions add sixteen lanes, one per element modulo sixteen, and reduce them by a fixed tree, in float32, every
operation rounded by itself. The C functions of the same names (include/edgeformer/kernels/rows/rows.h) do the same in
the same order, so both give the same bits, and a machine without Numba runs the C ones.

Sixteen lanes are one value here (`lanes.py`): `_zero`, `_load`, `_store`, `_replace_lane` and `_sum_lanes` are further
operations on them. In Python they work on NumPy arrays, so each norm also runs uncompiled; `_register` teaches Numba
the same on a vector.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from .._kernels import core
from ..errors import InvalidOptionError
from .functions import NativeFunctions
from .lanes import LANES, SOURCE, callback, lower_access, lower_operation, register, splat

__all__ = ["ROW_FUNCTIONS", "row_function"]

ROW_ARGUMENTS = "ppppif"
SOURCES = (Path(__file__), SOURCE)
ONE = np.float32(1)


def _zero() -> Any:
    return np.zeros(LANES, np.float32)


def _load(row: Any, start: int) -> Any:
    return row[start : start + LANES].copy()


def _store(row: Any, start: int, lanes: Any) -> None:
    row[start : start + LANES] = lanes


def _replace_lane(lanes: Any, index: int, value: Any) -> Any:
    replaced = lanes.copy()
    replaced[index] = value
    return replaced


def _sum_lanes(lanes: Any) -> Any:
    """The fixed tree: lanes 8 apart, then 4, 2, 1."""
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    return lanes[0]


def _is_null(pointer: Any) -> bool:
    return pointer is None


def _load_rest(row: Any, start: int, n: int) -> Any:
    """The last n - start < 16 elements of a row; the other lanes are 0."""
    lanes = _zero()
    for i in range(start, n):
        lanes = _replace_lane(lanes, i - start, row[i])
    return lanes


def _sum(row: Any, n: int) -> Any:
    """Sum of a row."""
    whole = n - n % 16
    lanes = _zero()
    for i in range(0, whole, 16):
        lanes = lanes + _load(row, i)
    return _sum_lanes(lanes + _load_rest(row, whole, n))


def _sum_of_squares(row: Any, n: int) -> Any:
    """Sum of the squares of a row."""
    whole = n - n % 16
    lanes = _zero()
    for i in range(0, whole, 16):
        x = _load(row, i)
        lanes = lanes + x * x
    rest = _load_rest(row, whole, n)
    return _sum_lanes(lanes + rest * rest)


def _sum_of_squared_differences(row: Any, n: int, mean: Any) -> Any:
    """Sum of (x - mean)^2 over a row."""
    whole = n - n % 16
    lanes = _zero()
    for i in range(0, whole, 16):
        difference = _load(row, i) - splat(mean)
        lanes = lanes + difference * difference
    rest = _zero()
    for i in range(whole, n):
        rest = _replace_lane(rest, i - whole, row[i] - mean)
    return _sum_lanes(lanes + rest * rest)


def layer_norm(output: Any, row: Any, weight: Any, bias: Any, n: int, epsilon: Any) -> None:
    """LayerNorm (Ba, Kiros, Hinton 2016): ``(x - mean) / sqrt(variance + epsilon) * weight + bias``.

    Parameters
    ----------
    output, row, weight, bias : pointer to float32, or array [n]
        `output` may be `row`; `weight` and `bias` may be NULL (None), for ones and zeros.
    n : int
        At least 1.
    epsilon : float32
    """
    mean = _sum(row, n) / np.float32(n)
    scale = ONE / np.sqrt(_sum_of_squared_differences(row, n, mean) / np.float32(n) + epsilon)
    whole = n - n % 16
    without_weight, without_bias = _is_null(weight), _is_null(bias)
    for i in range(0, whole, 16):
        y = (_load(row, i) - splat(mean)) * splat(scale)
        if not without_weight:
            y = y * _load(weight, i)
        if not without_bias:
            y = y + _load(bias, i)
        _store(output, i, y)
    for i in range(whole, n):
        value = (row[i] - mean) * scale
        if not without_weight:
            value = value * weight[i]
        if not without_bias:
            value = value + bias[i]
        output[i] = value


def rms_norm(output: Any, row: Any, weight: Any, bias: Any, n: int, epsilon: Any) -> None:
    """RMSNorm (Zhang, Sennrich 2019): ``x / sqrt(mean(x^2) + epsilon) * weight``; `bias` is not used.

    Parameters
    ----------
    output, row, weight, bias, n, epsilon
        See `layer_norm`.
    """
    scale = ONE / np.sqrt(_sum_of_squares(row, n) / np.float32(n) + epsilon)
    whole = n - n % 16
    without_weight = _is_null(weight)
    for i in range(0, whole, 16):
        y = _load(row, i) * splat(scale)
        if not without_weight:
            y = y * _load(weight, i)
        _store(output, i, y)
    for i in range(whole, n):
        value = row[i] * scale
        if not without_weight:
            value = value * weight[i]
        output[i] = value


def l2_norm(output: Any, row: Any, weight: Any, bias: Any, n: int, epsilon: Any) -> None:
    """``x / max(|x|, epsilon)`` with the Euclidean length; `weight` and `bias` are not used.

    Parameters
    ----------
    output, row, weight, bias, n, epsilon
        See `layer_norm`.
    """
    length = np.sqrt(_sum_of_squares(row, n))
    scale = ONE / (length if length > epsilon else epsilon)
    whole = n - n % 16
    for i in range(0, whole, 16):
        _store(output, i, _load(row, i) * splat(scale))
    for i in range(whole, n):
        output[i] = row[i] * scale


ROW_FUNCTIONS = {"layer_norm": layer_norm, "rms_norm": rms_norm, "l2_norm": l2_norm}


def _register_operations(lanes: Any) -> None:
    """Teaches Numba the operations on lanes and pointers that this module spells for NumPy."""
    from llvmlite import ir
    from numba import types

    index_type = ir.IntType(32)
    vector = ir.VectorType(ir.FloatType(), LANES)
    pointer, number = types.CPointer(types.float32), types.float32

    def shuffled(builder: Any, value: Any, order: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(index_type, len(order)), order)
        return builder.shuffle_vector(value, value, mask)

    @lower_operation(_zero, lanes)
    def zero(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(vector, [0.0] * LANES)

    lower_access(_load, _store, lanes, 1)

    @lower_operation(_replace_lane, lanes, lanes, types.Integer, number)
    def replace_lane(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.insert_element(args[0], args[2], args[1])

    @lower_operation(_sum_lanes, number, lanes)
    def sum_lanes(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (total,) = args
        for half in (8, 4, 2, 1):
            low, high = shuffled(builder, total, [*range(half)]), shuffled(builder, total, [*range(half, 2 * half)])
            total = builder.fadd(low, high)
        return builder.extract_element(total, ir.Constant(index_type, 0))

    @lower_operation(_is_null, types.boolean, pointer)
    def is_null(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.icmp_unsigned("==", args[0], ir.Constant(args[0].type, None))


@functools.cache
def _register() -> None:
    """Teaches Numba this module."""
    _register_operations(register())


@functools.cache
def _compiled(name: str) -> Any:
    """The Numba C callback of a row function, compiled in this process."""
    _register()
    helpers = (_load_rest, _sum, _sum_of_squares, _sum_of_squared_differences)
    return callback(ROW_FUNCTIONS[name], ROW_ARGUMENTS, helpers)


_jitted = NativeFunctions(ROW_FUNCTIONS, ROW_ARGUMENTS, _compiled, SOURCES)


def row_function(name: str, use_numba: bool | None = None) -> int:
    """Address of a C function of one row (`ef_row_function` in include/edgeformer/kernels/list.h).

    Parameters
    ----------
    name : str
        One of `core.ROW_FUNCTIONS`.
    use_numba : bool, optional
        True: compiled by Numba; False: the C function of this CPU's best instruction set. Default: Numba where it can
        be had, unless the environment says EDGEFORMER_NUMBA=0. Both give the same bits. Those that are no norms are
        always C's.

    Returns
    -------
    int
        The address; it stays valid for the life of the process.

    Raises
    ------
    InvalidOptionError
        There is no such function, or Numba is asked for and cannot run here.
    MissingDependencyError
        Numba is asked for and not installed.
    """
    if name not in core.ROW_FUNCTIONS:
        raise InvalidOptionError(f"no row function is called {name!r}; there are: {', '.join(core.ROW_FUNCTIONS)}")
    address = _jitted.address(name, use_numba) if name in ROW_FUNCTIONS else None
    return core.row_function_pointer(None, name) if address is None else address
