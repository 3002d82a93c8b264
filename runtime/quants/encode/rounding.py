"""Lane by lane: to the nearest integer, half-precision number or value of a codebook; division that cannot fail.

Written with the operations of `lanes.py`, so Python and Numba give the same bits. Values are below 2**22 in magnitude
where they are rounded to integers.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...jit.lanes import greater, splat

ZERO = np.float32(0)
ONE = np.float32(1)

# Adding a number as large as this leaves no bits for a fraction: the sum is rounded to an integer, ties to even.
_INTEGERS = np.float32(1.5 * 2**23)

# Half precision keeps 11 bits, or multiples of 2**-24 below 2**-14. Subtracting x times this twice leaves 11 bits of
# x (Dekker 1971: A floating-point technique for extending the available precision).
_SPLIT = np.float32(2**13 + 1)
_LEAST_NORMAL = np.float32(2.0**-14)
_LEAST = np.float32(2.0**-24)
_MULTIPLES_OF_LEAST = np.float32(0.75)

_IQ4 = [np.float32(v) for v in (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)]
_IQ4_VALUES = tuple(_IQ4)
_IQ4_MIDDLES = tuple((a + b) / np.float32(2) for a, b in itertools.pairwise(_IQ4))

_E2M1 = [np.float32(v) for v in (0, 1, 2, 3, 4, 6, 8, 12)]
_E2M1_VALUES = tuple(_E2M1)
_E2M1_MIDDLES = tuple((a + b) / np.float32(2) for a, b in itertools.pairwise(_E2M1))


def minimum(a: Any, b: Any) -> Any:
    return greater(a, b, b, a)


def maximum(a: Any, b: Any) -> Any:
    return greater(a, b, a, b)


def negative(a: Any) -> Any:
    return splat(ZERO) - a


def absolute(a: Any) -> Any:
    return greater(a, splat(ZERO), a, negative(a))


def quotient(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0."""
    size = absolute(b)
    return greater(size, splat(ZERO), a / greater(size, splat(ZERO), b, splat(ONE)), splat(ZERO))


def nearest_integer(a: Any, levels: Any) -> Any:
    """The nearest integer from ``levels[0]`` to ``levels[1]``."""
    rounded = (a + splat(_INTEGERS)) - splat(_INTEGERS)
    return minimum(maximum(rounded, splat(levels[0])), splat(levels[1]))


def nearest_iq4(a: Any, levels: Any) -> Any:
    """The nearest value of IQ4_NL's and IQ4_XS's codebook; `levels` is not used."""
    nearest = splat(_IQ4_VALUES[0])
    for i in range(15):
        nearest = greater(a, splat(_IQ4_MIDDLES[i]), splat(_IQ4_VALUES[i + 1]), nearest)
    return nearest


def nearest_e2m1(a: Any, levels: Any) -> Any:
    """The nearest value of MXFP4's codebook; `levels` is not used."""
    size = absolute(a)
    nearest = splat(_E2M1_VALUES[0])
    for i in range(7):
        nearest = greater(size, splat(_E2M1_MIDDLES[i]), splat(_E2M1_VALUES[i + 1]), nearest)
    return greater(a, splat(ZERO), nearest, negative(nearest))


def half_scale(a: Any) -> Any:
    """The nearest half-precision number, but not 0 for another number: what is smaller becomes the least of all.

    Numbers too large for half precision keep 11 bits, too.
    """
    size = absolute(a)
    product = size * splat(_SPLIT)
    normal = product - (product - size)
    small = (size + splat(_MULTIPLES_OF_LEAST)) - splat(_MULTIPLES_OF_LEAST)
    small = greater(size, splat(ZERO), maximum(small, splat(_LEAST)), small)
    rounded = greater(splat(_LEAST_NORMAL), size, small, normal)
    return greater(a, splat(ZERO), rounded, negative(rounded))


FUNCTIONS = (minimum, maximum, negative, absolute, quotient, nearest_integer, nearest_iq4, nearest_e2m1, half_scale)
