"""Quantizers of TQ1_0 and TQ2_0, by search."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..parts import as_bytes, half, in_fields
from ..ternary import BLOCK, TQ1_0, TQ2_0
from ..types import Bytes, Float32
from .searches import Found, ScaleSearch, encoder

_FIVE_DIGITS = np.array([[81], [27], [9], [3], [1]], np.uint8)

# Trials put the extreme at 10.5 scales and less: most weights of a trained matrix, which are much smaller, matter more.
_SEARCH = ScaleSearch(
    parts=1,
    size=BLOCK,
    lowest=-1,
    highest=1,
    smallest=1,
    largest=1,
    first_trial=10.5,
    trial_step=0.25,
    trials=40,
    refinements=4,
    starts=1,
    start_step=0,
    rounds=2,
    reach=0,
)


def _positive(found: Found) -> tuple[NDArray[np.uint8], Float32]:
    """Digits 0, 1 and 2, and the scales without their signs."""
    scales = found.scales
    return (found.codes * np.where(scales < 0, np.float32(-1), np.float32(1)) + 1).astype(np.uint8), np.abs(
        scales[:, 0]
    )


def _in_bytes(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Packs base-three digits [n, 4 or 5, m] into bytes [n, 1, m], as `ternary` reads them."""
    numbers = (digits * _FIVE_DIGITS[: digits.shape[1]]).sum(axis=1, keepdims=True, dtype=np.uint16)
    return ((numbers * np.uint16(256) + np.uint16(242)) // np.uint16(243)).astype(np.uint8)


def _pack_tq1_0(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=TQ1_0)
    digits, scales = _positive(found)
    blocks["scale"] = half(scales, "scale")
    blocks["first"] = _in_bytes(digits[:, :160].reshape(-1, 5, 32))
    blocks["second"] = _in_bytes(digits[:, 160:240].reshape(-1, 5, 16))
    blocks["last"] = _in_bytes(digits[:, 240:].reshape(-1, 4, 4))
    return as_bytes(blocks)


def _pack_tq2_0(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=TQ2_0)
    digits, scales = _positive(found)
    blocks["scale"] = half(scales, "scale")
    blocks["q"] = in_fields(digits.reshape(-1, 2, 4, 32), 4, 2)
    return as_bytes(blocks)


encode_tq1_0 = encoder(_SEARCH, _pack_tq1_0)
encode_tq2_0 = encoder(_SEARCH, _pack_tq2_0)
