"""Quantizers of Q4_0, Q4_1, Q5_0 and Q5_1: llama.cpp's own numbers without importance, a search with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..blocks32 import BLOCK, Q4_0, Q4_1, Q5_0, Q5_1
from ..parts import as_bytes, half, in_fields, inverse
from ..types import Bytes, Encoder, Float32
from .searches import AffineSearch, Found, ScaleSearch, encoder
from .threads import in_threads


def _pack(layout: np.dtype[np.void], codes: NDArray[np.uint8], scale: Float32, minimum: Float32 | None = None) -> Bytes:
    """Blocks of unsigned codes [n, 32] with scales [n] and, where the type has them, minima [n]."""
    blocks = np.empty(len(codes), dtype=layout)
    blocks["low"] = in_fields((codes & np.uint8(15)).reshape(-1, 2, BLOCK // 2), 2, 4)
    blocks["scale"] = half(scale, "scale")
    if minimum is not None:
        blocks["minimum"] = half(minimum, "minimum")
    if "high" in (layout.names or ()):
        blocks["high"] = np.packbits(codes >> np.uint8(4), axis=1, bitorder="little")
    return as_bytes(blocks)


def _signed_extreme(blocks: Float32) -> Float32:
    """In each block the value that is largest in magnitude, with its sign; of equals the first."""
    highest = blocks.max(axis=1)
    lowest = blocks.min(axis=1)
    extreme: Float32 = np.where(highest > -lowest, highest, lowest)
    tied = np.nonzero(highest == -lowest)[0]
    extreme[tied] = blocks[tied, np.abs(blocks[tied]).argmax(axis=1)]
    return extreme


def _either(plain: Encoder, by_importance: Encoder) -> Encoder:
    """`plain` where there is no importance, `by_importance` where there is."""

    def encode(blocks: Float32, importance: Float32 | None) -> Bytes:
        return (plain if importance is None else by_importance)(blocks, importance)

    return encode


def _signed(layout: np.dtype[np.void], middle: int) -> Encoder:
    """Of types with a scale: weight = scale * (code - middle)."""

    @in_threads
    def by_extreme(blocks: Float32, importance: Float32 | None) -> Bytes:
        """The value largest in magnitude gets code 0; code = x / scale + middle, at most 2 middle - 1."""
        scale = _signed_extreme(blocks) / np.float32(-middle)
        shifted = blocks * inverse(scale)[:, None]
        shifted += np.float32(middle + 0.5)
        return _pack(layout, np.minimum(shifted.astype(np.uint8), np.uint8(2 * middle - 1)), scale)

    def packed(found: Found) -> Bytes:
        return _pack(layout, (found.codes + np.float32(middle)).astype(np.uint8), found.scales[:, 0])

    by_importance = encoder(
        ScaleSearch(
            parts=1,
            size=BLOCK,
            lowest=-middle,
            highest=middle - 1,
            smallest=1,
            largest=1,
            first_trial=middle + 4,
            trial_step=0.125,
            trials=middle + 32,
            refinements=2,
            starts=6,
            start_step=0.5 / middle,
            rounds=2,
            reach=0,
        ),
        packed,
    )

    return _either(by_extreme, by_importance)


def _with_minimum(layout: np.dtype[np.void], highest: int) -> Encoder:
    """Of types with a scale and a minimum: weight = scale * code + minimum."""

    @in_threads
    def by_range(blocks: Float32, importance: Float32 | None) -> Bytes:
        """The lowest value gets code 0, the highest one the highest; values between are rounded half up."""
        minimum = blocks.min(axis=1)
        scale = (blocks.max(axis=1) - minimum) / np.float32(highest)
        shifted = (blocks - minimum[:, None]) * inverse(scale)[:, None]
        shifted += np.float32(0.5)
        return _pack(layout, np.minimum(shifted.astype(np.uint8), np.uint8(highest)), scale, minimum)

    def packed(found: Found) -> Bytes:
        minimum = found.scales[:, 1] * -found.multiples[:, 1, 0].astype(np.float32)
        return _pack(layout, found.codes.astype(np.uint8), found.scales[:, 0], minimum)

    by_importance = encoder(
        AffineSearch(
            parts=1,
            size=BLOCK,
            lowest=0,
            highest=highest,
            smallest=1,
            largest=1,
            smallest_minimum=0,
            largest_minimum=1,
            highest_offset=3e38,
            first_trial=highest + 2,
            trial_step=0.25,
            trials=16,
            shifts=5,
            shift_step=0.5 / highest,
            refinements=2,
            starts=4,
            start_step=0.5 / highest,
            rounds=2,
            reach=0,
            reach_minimum=1,
        ),
        packed,
    )

    return _either(by_range, by_importance)


encode_q4_0 = _signed(Q4_0, 8)
encode_q5_0 = _signed(Q5_0, 16)
encode_q4_1 = _with_minimum(Q4_1, 15)
encode_q5_1 = _with_minimum(Q5_1, 31)
