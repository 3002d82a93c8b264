"""Sixteen float32 as one value: an LLVM vector where Numba compiles a function, a NumPy array where Python runs it.

Functions written with these operations add, compare and round lane by lane, so they give the same bits compiled or
not, whatever the CPU's vectors. Uncompiled, a value may have any number of lanes.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .compiler import signature

__all__ = [
    "LANES",
    "SOURCE",
    "callback",
    "greater",
    "load",
    "lower_access",
    "lower_operation",
    "register",
    "splat",
    "store",
]

LANES = 16
SOURCE = Path(__file__)


def splat(value: Any) -> Any:
    """A float32 in every lane."""
    return value


def greater(a: Any, b: Any, if_greater: Any, otherwise: Any) -> Any:
    """Lane by lane ``if_greater`` where a > b, else ``otherwise`` (where one is NaN, too)."""
    return np.where(np.greater(a, b), if_greater, otherwise)


def load(rows: Any, index: Any) -> Any:
    """Row `index` of float32 [rows, lanes]; a pointer's rows have sixteen lanes."""
    return rows[index]


def store(rows: Any, index: Any, lanes: Any) -> None:
    """Writes row `index` of float32 [rows, lanes]; a pointer's rows have sixteen lanes."""
    rows[index] = lanes


def lower_operation(function: Any, result: Any, *arguments: Any) -> Any:
    """A decorator: what it decorates generates Numba's code of `function`, whose types these are."""
    from numba.extending import lower_builtin, type_callable

    def typer(*given: Any) -> Any:
        return result

    typer.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    type_callable(function)(lambda context: typer)
    return lower_builtin(function, *arguments)


def lower_access(loading: Any, storing: Any, lanes: Any, step: int) -> None:
    """Generates Numba's code of two functions that load and store sixteen lanes.

    Parameters
    ----------
    loading, storing : function
        Of (pointer, index) and (pointer, index, lanes).
    lanes : numba type
    step : int
        Elements from one index to the next.
    """
    from llvmlite import ir
    from numba import types

    pointer, vector = types.CPointer(types.float32), ir.VectorType(ir.FloatType(), LANES)

    def address(builder: Any, elements: Any, index: Any) -> Any:
        start = builder.mul(index, ir.Constant(index.type, step))
        return builder.bitcast(builder.gep(elements, [start]), vector.as_pointer())

    @lower_operation(loading, lanes, pointer, types.Integer)
    def lower_load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(address(builder, *args), align=4)

    @lower_operation(storing, types.none, pointer, types.Integer, lanes)
    def lower_store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], address(builder, *args[:2]), align=4)
        return context.get_dummy_value()


def _register_arithmetic() -> Any:
    """Numba's type of sixteen lanes, an LLVM vector of floats, with +, -, * and /."""
    from llvmlite import ir
    from numba import types
    from numba.extending import lower_builtin, models, register_model, type_callable

    class Lanes(types.Type):
        def __init__(self) -> None:
            super().__init__(name="edgeformer_lanes")

    @register_model(Lanes)
    class LanesModel(models.PrimitiveModel):
        def __init__(self, manager: Any, lanes_type: Any) -> None:
            super().__init__(manager, lanes_type, ir.VectorType(ir.FloatType(), LANES))

    lanes = Lanes()
    instructions = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}
    for function, instruction in instructions.items():
        type_callable(function)(lambda context: lambda a, b: lanes if a == b == lanes else None)

        def lower(context: Any, builder: Any, signature: Any, args: Any, instruction: str = instruction) -> Any:
            return getattr(builder, instruction)(*args)

        lower_builtin(function, lanes, lanes)(lower)
    return lanes


@functools.cache
def register() -> Any:
    """Teaches Numba this module's operations; gives its type of sixteen lanes."""
    from llvmlite import ir
    from numba import types

    lanes, number = _register_arithmetic(), types.float32
    vector, index_type = ir.VectorType(ir.FloatType(), LANES), ir.IntType(32)

    @lower_operation(splat, lanes, number)
    def lower_splat(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), args[0], ir.Constant(index_type, 0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(index_type, LANES), [0] * LANES))

    @lower_operation(greater, lanes, lanes, lanes, lanes, lanes)
    def lower_greater(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    lower_access(load, store, lanes, LANES)
    return lanes


@functools.cache
def _register_helper(function: Any) -> None:
    """Lets functions that Numba compiles call this one."""
    from numba.extending import register_jitable

    register_jitable(function)


def callback(function: Any, arguments: str, helpers: Iterable[Any]) -> Any:
    """The Numba C callback (``numba.cfunc``) of a function on lanes, compiled in this process.

    Parameters
    ----------
    function : function
        Written with this module's operations; it returns nothing.
    arguments : str
        Types of its arguments, as `compiler.signature` spells them.
    helpers : iterable of function
        What it calls, each before who calls it.

    Raises
    ------
    ImportError
        Numba cannot be imported.
    """
    import numba

    register()
    for helper in helpers:
        _register_helper(helper)
    return numba.cfunc(signature(arguments), error_model="numpy")(function)
