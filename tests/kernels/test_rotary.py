"""Rotary position embeddings: the angles, and turning heads by them."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from support.kernel_inputs import rows, same_bits, walks

POSITIONS = np.array([0, 1, 2, 7, 511, 4095, 131071, 2**24 + 1, 2**31 - 1], np.int32)


def frequencies(half: int, base: float = 10000.0) -> np.ndarray:
    """base ** (-i / half) as float32."""
    return (base ** (-np.arange(half) / half)).astype(np.float32)


def test_rotary_is_cos_and_sin_of_the_float32_angle() -> None:
    frequency = np.concatenate([frequencies(64), [np.float32(1.0), np.float32(0.9999)]]).astype(np.float32)
    angles = (POSITIONS.astype(np.float32)[:, None] * frequency).astype(np.float64)
    result = core.kernel_rotary("scalar", POSITIONS, frequency, 1.0)
    small = angles < 2**22  # beyond, float32 positions themselves are coarser than a turn is long
    for part, wanted in ((result[:, : len(frequency)], np.cos(angles)), (result[:, len(frequency) :], np.sin(angles))):
        assert np.all(np.abs(part - wanted)[small] <= 6.1e-8)
        assert np.all(np.abs(part) <= 1)


def test_rotary_scales(isa: str) -> None:
    plain = core.kernel_rotary(isa, POSITIONS, frequencies(20), 1.0)
    assert same_bits(core.kernel_rotary(isa, POSITIONS, frequencies(20), 1.25), plain * np.float32(1.25))


@walks("rotary")
def test_rotary_gives_the_same_bits(other_isa: str) -> None:
    for half in [*range(1, 34), 64]:
        for base in (10000.0, 500000.0):
            frequency = frequencies(half, base)
            assert same_bits(
                core.kernel_rotary(other_isa, POSITIONS, frequency), core.kernel_rotary("scalar", POSITIONS, frequency)
            )


@pytest.mark.parametrize("pairing", core.PAIRINGS)
def test_rope_turns_pairs(pairing: str) -> None:
    for heads, head_dim, half in ((1, 2, 1), (3, 24, 12), (2, 40, 7), (5, 64, 32)):
        x = rows(0, 4, heads * head_dim)
        cos_sin = core.kernel_rotary("scalar", np.arange(4, dtype=np.int32), frequencies(half))
        first = np.arange(half) * 2 if pairing == "neighbours" else np.arange(half)
        second = first + 1 if pairing == "neighbours" else first + half
        wanted = x.reshape(4, heads, head_dim).astype(np.float64)
        a, b = wanted[..., first].copy(), wanted[..., second].copy()
        cos, sin = cos_sin[:, None, :half], cos_sin[:, None, half:]
        wanted[..., first], wanted[..., second] = a * cos - b * sin, b * cos + a * sin
        result = core.kernel_rope("scalar", x, cos_sin, heads, core.PAIRINGS.index(pairing))
        assert np.allclose(result, wanted.reshape(x.shape), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pairing", core.PAIRINGS)
@walks("rope")
def test_rope_gives_the_same_bits(isa: str, pairing: str) -> None:
    for half in range(1, 36):
        for spare in (0, 1, 6):
            head_dim = 2 * half + spare
            x, cos_sin = rows(half, 2, 3 * head_dim), rows(1, 2, 2 * half)
            result = core.kernel_rope(isa, x, cos_sin, 3, core.PAIRINGS.index(pairing))
            assert same_bits(result, core.kernel_rope("scalar", x, cos_sin, 3, core.PAIRINGS.index(pairing)))
            untouched = result.reshape(2, 3, head_dim)[..., 2 * half :]
            assert same_bits(
                np.ascontiguousarray(untouched), np.ascontiguousarray(x.reshape(2, 3, head_dim)[..., 2 * half :])
            )


def test_wrong_heads_are_refused() -> None:
    for x, angles, heads in (
        (rows(0, 1, 12), rows(0, 1, 6), 4),
        (rows(0, 1, 13), rows(0, 1, 2), 2),
        (rows(0, 2, 12), rows(0, 1, 2), 2),
        (rows(0, 1, 12), rows(0, 1, 3), 2),
    ):
        with pytest.raises(InvalidInputError, match="cannot be rotated"):
            core.kernel_rope("scalar", x, angles, heads)
