"""Powers, logarithms, sines, cosines and sums with the same bits on every machine.

A C library's `pow`, `log` and `sin` promise no digits, and NumPy's differ with the vectors of the CPU, as its sums do.
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["logarithm", "ordered_sum", "power", "sines_and_cosines"]

Float64 = NDArray[np.float64]

_LANES = 1024  # of a sum: enough that NumPy's calls take little of its time
# Half of pi in pieces: the first two of 30 bits, so that their products with whole numbers below 2^23 are exact.
_HALF_PI = (float.fromhex("0x1.921fb54p+0"), float.fromhex("0x1.10b46118p-30"), float.fromhex("0x1.313198a2e037p-61"))
# fdlibm's polynomials for angles up to a quarter of pi (k_sin.c and k_cos.c, Sun Microsystems 1993).
_SINE = (
    1.58969099521155010221e-10,
    -2.50507602534068634195e-08,
    2.75573137070700676789e-06,
    -1.98412698298579493134e-04,
    8.33333333332248946124e-03,
    -1.66666666666666324348e-01,
)
_COSINE = (
    -1.13596475577881948265e-11,
    2.08757232129817482790e-09,
    -2.75573143513906633035e-07,
    2.48015872894767294178e-05,
    -1.38888888888741095749e-03,
    4.16666666666666019037e-02,
)


@lru_cache(maxsize=4096)  # lengths and columns repeat, and 40 digits take 0.1 ms
def power(base: float, numerator: float, denominator: float = 1) -> float:
    """``base ** (numerator / denominator)``, rounded from 40 digits."""
    context = Context(prec=40)
    return float(context.power(Decimal(base), context.divide(Decimal(numerator), Decimal(denominator))))


def logarithm(x: float) -> float:
    """The natural logarithm of a positive number, rounded from 40 digits."""
    return float(Context(prec=40).ln(Decimal(x)))


def ordered_sum(values: Float64) -> float:
    """Sum of float64 [n]: 1,024 lanes, lane l adding elements l, l + 1,024, … in order, then the lanes in order."""
    lanes = np.zeros(_LANES)
    for begin in range(0, len(values), _LANES):
        part = values[begin : begin + _LANES]
        lanes[: len(part)] += part
    return float(np.add.accumulate(lanes)[-1])


def sines_and_cosines(angles: Float64) -> tuple[Float64, Float64]:
    """Sines and cosines, in single operations of float64 alone, each of which IEEE 754 rounds in one way.

    Parameters
    ----------
    angles : float64 array
        Of magnitudes below 2^23; the error is then below 3e-16.

    Returns
    -------
    float64 arrays in the shape of `angles`
    """
    quarters = np.rint(angles * (2 / np.pi))
    x = ((angles - quarters * _HALF_PI[0]) - quarters * _HALF_PI[1]) - quarters * _HALF_PI[2]
    square = x * x
    sine = x + x * square * _polynomial(square, _SINE)
    cosine = (1.0 - 0.5 * square) + square * square * _polynomial(square, _COSINE)
    quarter = quarters.astype(np.int64) & 3
    odd = quarter % 2 == 1
    sines = np.where(odd, cosine, sine) * np.where(quarter >= 2, -1.0, 1.0)
    cosines = np.where(odd, sine, cosine) * np.where((quarter == 1) | (quarter == 2), -1.0, 1.0)
    return sines, cosines


def _polynomial(x: Float64, coefficients: tuple[float, ...]) -> Float64:
    """Horner's rule, the highest coefficient first."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result
