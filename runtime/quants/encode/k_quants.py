"""Quantizers of Q2_K, Q3_K, Q4_K, Q5_K and Q6_K, by search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..k_quants import Q2_K, Q3_K, Q4_K, Q5_K, Q6_K
from ..parts import as_bytes, half, in_fields
from ..types import Bytes
from .searches import AffineSearch, Found, ScaleSearch, encoder

_Q3_K_SEARCH = ScaleSearch(
    parts=16,
    size=16,
    lowest=-4,
    highest=3,
    smallest=-32,
    largest=31,
    first_trial=6.5,
    trial_step=0.25,
    trials=20,
    refinements=2,
    starts=4,
    start_step=1 / 32,
    rounds=2,
    reach=1,
)
_Q6_K_SEARCH = replace(
    _Q3_K_SEARCH, lowest=-32, highest=31, smallest=-128, largest=127, first_trial=33, trials=32, start_step=1 / 128
)
_Q4_K_SEARCH = AffineSearch(
    parts=8,
    size=32,
    lowest=0,
    highest=15,
    smallest=0,
    largest=63,
    smallest_minimum=0,
    largest_minimum=63,
    highest_offset=0,
    first_trial=18,
    trial_step=0.5,
    trials=16,
    shifts=4,
    shift_step=0.03,
    refinements=2,
    starts=4,
    start_step=1 / 16,
    rounds=2,
    reach=1,
    reach_minimum=1,
)
_Q5_K_SEARCH = replace(_Q4_K_SEARCH, highest=31, first_trial=36, shifts=5, shift_step=0.02)
_Q2_K_SEARCH = replace(
    _Q4_K_SEARCH,
    parts=16,
    size=16,
    highest=3,
    largest=15,
    largest_minimum=15,
    first_trial=5.5,
    trials=10,
    shifts=5,
    shift_step=0.1,
    start_step=1 / 15,
)


def _codes(found: Found, lowest: int = 0) -> NDArray[np.uint8]:
    """The codes less `lowest`, from 0 up."""
    return (found.codes - np.float32(lowest)).astype(np.uint8)


def _finished(blocks: NDArray[np.void], found: Found) -> Bytes:
    """The blocks as bytes, with their half-precision numbers."""
    blocks["scale"] = half(found.scales[:, 0], "scale")
    if found.scales.shape[1] == 2:
        blocks["minimum"] = half(found.scales[:, 1], "minimum")
    return as_bytes(blocks)


def _pack_q2_k(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=Q2_K)
    blocks["scales"] = in_fields(found.multiples, 2, 4)[:, 0]
    blocks["q"] = in_fields(_codes(found).reshape(-1, 2, 4, 32), 4, 2)
    return _finished(blocks, found)


def _pack_q3_k(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=Q3_K)
    codes = _codes(found, -4)
    blocks["low"] = in_fields((codes & np.uint8(3)).reshape(-1, 2, 4, 32), 4, 2)
    blocks["high"] = in_fields((codes >> np.uint8(2)).reshape(-1, 1, 8, 32), 8, 1)
    multiples = found.multiples[:, 0] + np.uint8(32)
    blocks["scales"][:, :8] = in_fields((multiples & np.uint8(15)).reshape(-1, 2, 8), 2, 4)[:, 0]
    blocks["scales"][:, 8:] = in_fields((multiples >> np.uint8(4)).reshape(-1, 4, 4), 4, 2)[:, 0]
    return _finished(blocks, found)


def _pack_scales(multiples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Eight scales and eight minima of six bits, uint8 [n, 2, 8], in 3 x 4 bytes (see `k_quants`)."""
    first, last = multiples[:, :, :4], multiples[:, :, 4:]
    upper = first | ((last >> np.uint8(4)) << np.uint8(6))
    return np.concatenate([upper, in_fields(last & np.uint8(15), 2, 4)], axis=1)


def _pack_q4_k(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=Q4_K)
    blocks["scales"] = _pack_scales(found.multiples)
    blocks["q"] = in_fields(_codes(found).reshape(-1, 4, 2, 32), 2, 4)
    return _finished(blocks, found)


def _pack_q5_k(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=Q5_K)
    codes = _codes(found)
    blocks["scales"] = _pack_scales(found.multiples)
    blocks["low"] = in_fields((codes & np.uint8(15)).reshape(-1, 4, 2, 32), 2, 4)
    blocks["high"] = in_fields((codes >> np.uint8(4)).reshape(-1, 1, 8, 32), 8, 1)
    return _finished(blocks, found)


def _pack_q6_k(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=Q6_K)
    codes = _codes(found, -32)
    blocks["low"] = in_fields((codes & np.uint8(15)).reshape(-1, 2, 2, 64), 2, 4)
    blocks["high"] = in_fields((codes >> np.uint8(4)).reshape(-1, 2, 4, 32), 4, 2)
    blocks["scales"] = found.multiples[:, 0].view(np.int8)
    return _finished(blocks, found)


encode_q2_k = encoder(_Q2_K_SEARCH, _pack_q2_k)
encode_q3_k = encoder(_Q3_K_SEARCH, _pack_q3_k)
encode_q4_k = encoder(_Q4_K_SEARCH, _pack_q4_k)
encode_q5_k = encoder(_Q5_K_SEARCH, _pack_q5_k)
encode_q6_k = encoder(_Q6_K_SEARCH, _pack_q6_k)
