"""Calls row functions (`ef_row_function`) at their addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np

EPSILON = np.float32(1e-5)
ROW_FUNCTION = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
)
Row = np.ndarray
Norm = Callable[[Row, "Row | None", "Row | None"], Row]


def at_address(address: int) -> Norm:
    """The row function at an address, writing into a row with a guard behind it."""
    function = ROW_FUNCTION(address)

    def norm(row: Row, weight: Row | None, bias: Row | None) -> Row:
        n = len(row)
        output = np.full(n + 16, np.float32(-77))
        pointers = [None if array is None else array.ctypes.data for array in (output, row, weight, bias)]
        function(*pointers, n, EPSILON)
        assert (output[n:] == -77).all(), "wrote past the row"
        return output[:n]

    return norm
