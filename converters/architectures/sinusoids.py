"""Tables of sinusoidal positions, which implementations lay out in several ways."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...host.exact import sines_and_cosines

__all__ = ["sinusoidal_table"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

TABLE_CHUNK = 1 << 16  # angles that are computed at a time


def sinusoidal_table(length: int, frequencies: Float64, first: int, interleaved: bool) -> Float32:
    """Sines and cosines of the positions, computed in float64 ("Attention Is All You Need", section 3.5).

    Returns
    -------
    float32 [length, 2 * len(frequencies)]
    """
    table = np.empty((length, 2 * len(frequencies)), np.float32)
    half = len(frequencies)
    step = max(1, TABLE_CHUNK // half)  # rows at a time: float64 and its intermediate values take ten times the table
    for start in range(0, length, step):
        positions = np.arange(start, min(start + step, length)) + first
        sines, cosines = sines_and_cosines(positions[:, None] * frequencies)
        rows = table[start : start + step]
        if interleaved:
            rows[:, 0::2], rows[:, 1::2] = sines, cosines
        else:
            rows[:, :half], rows[:, half:] = sines, cosines
    return table
