"""Powers, sines and cosines that are the same bits everywhere: against forty digits of decimal arithmetic."""

from __future__ import annotations

import decimal
import math

import numpy as np
import pytest
from edgeformer.host.exact import logarithm, power, sines_and_cosines

PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")


def decimal_sine(angle: float) -> decimal.Decimal:
    """The power series after whole turns, as the recipes of Python's `decimal` have it."""
    with decimal.localcontext(decimal.Context(prec=60)):
        x = decimal.Decimal(angle) % (2 * PI)
        term, total, n = x, x, 1
        while abs(term) > decimal.Decimal(10) ** -50:
            term *= -x * x / ((n + 1) * (n + 2))
            total, n = total + term, n + 2
        return total


@pytest.mark.parametrize("largest", [1.0, 100.0, 4_194_304.0, 8_388_607.0])
def test_sines_and_cosines(largest: float) -> None:
    rng = np.random.default_rng(0)
    angles = np.concatenate([[0.0, -0.5, largest], rng.uniform(-largest, largest, 300)])
    sines, cosines = sines_and_cosines(angles)
    for angle, sine, cosine in zip(angles, sines, cosines, strict=True):
        assert abs(decimal.Decimal(float(sine)) - decimal_sine(float(angle))) < 3e-16
        assert sine * sine + cosine * cosine == pytest.approx(1.0, abs=1e-15)
        assert cosine == pytest.approx(math.cos(angle), abs=1e-15)


def test_known_bits() -> None:
    """Digests of a row of each, computed where these functions were written; no machine may give others."""
    sines, cosines = sines_and_cosines(np.arange(0, 5000, 0.37))
    assert (float(sines[7]).hex(), float(cosines[7]).hex()) == ("0x1.0c4f8a3a66c23p-1", "-0x1.b410d71f90ddap-1")
    assert power(500_000.0, 14, 128).hex() == "0x1.0cd8c5b849754p+2"


def test_powers_are_the_nearest_floats() -> None:
    with decimal.localcontext(decimal.Context(prec=60)):
        for base, numerator, denominator in ((10000.0, -3, 64), (500_000.0, 62, 128), (7, 0.6, 1), (2, -1, 2)):
            exact = decimal.Decimal(base) ** (decimal.Decimal(numerator) / decimal.Decimal(denominator))
            found = power(base, numerator, denominator)
            assert abs(decimal.Decimal(found) - exact) * 2 <= decimal.Decimal(math.ulp(found))


def test_logarithms_are_rounded_to_the_nearest_float() -> None:
    with decimal.localcontext(prec=60):
        for x in (1e-300, 0.1, 0.5, 1.0, math.nextafter(1.0, 2.0), 2.0, math.e, 10000.0, 1e300):
            exact, found = decimal.Decimal(x).ln(), logarithm(x)
            assert abs(decimal.Decimal(found) - exact) * 2 <= decimal.Decimal(math.ulp(found))
