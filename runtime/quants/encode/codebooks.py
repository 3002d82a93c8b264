"""Quantizers of IQ4_NL, IQ4_XS and MXFP4, by search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..codebooks import IQ4_NL, IQ4_VALUES, IQ4_XS, MXFP4, MXFP4_VALUES
from ..parts import as_bytes, half, in_fields
from ..types import Bytes, Float32
from .searches import Found, Iq4Search, PowerSearch, encoder

_IQ4_NL_SEARCH = Iq4Search(
    parts=1,
    size=32,
    lowest=-127,
    highest=113,
    smallest=1,
    largest=1,
    first_trial=180,
    trial_step=8,
    trials=15,
    refinements=2,
    starts=3,
    start_step=1 / 32,
    rounds=2,
    reach=0,
)
_IQ4_XS_SEARCH = replace(_IQ4_NL_SEARCH, parts=8, smallest=-32, largest=31, starts=4, reach=1)
_MXFP4_SEARCH = PowerSearch(parts=1, size=32, largest=2.0**-2, trials=4, largest_weight=1.5 * 2.0**127)


def _indices(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """The code of every value of a codebook, at the value plus 128; of equal values the first."""
    indices = np.zeros(256, np.uint8)
    indices[values.astype(np.int64)[::-1] + 128] = np.arange(len(values), dtype=np.uint8)[::-1]
    return indices


_IQ4_INDICES = _indices(IQ4_VALUES)
_MXFP4_INDICES = _indices(MXFP4_VALUES)


def _nibbles(codes: Float32, indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bytes [n, parts, 1, 16] of the codes' values [n, parts * 32]."""
    return in_fields(indices[codes.astype(np.int16) + 128].reshape(len(codes), -1, 2, 16), 2, 4)


def _pack_iq4_nl(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=IQ4_NL)
    blocks["scale"] = half(found.scales[:, 0], "scale")
    blocks["q"] = _nibbles(found.codes, _IQ4_INDICES)[:, 0]
    return as_bytes(blocks)


def _pack_iq4_xs(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=IQ4_XS)
    multiples = found.multiples[:, 0] + np.uint8(32)
    blocks["scale"] = half(found.scales[:, 0], "scale")
    blocks["lower"] = in_fields((multiples & np.uint8(15)).reshape(-1, 4, 2, 1), 2, 4)[:, :, 0]
    upper = (multiples >> np.uint8(4)).astype(np.uint16) << np.arange(0, 16, 2, dtype=np.uint16)
    blocks["upper"] = np.bitwise_or.reduce(upper, axis=1)
    blocks["q"] = _nibbles(found.codes, _IQ4_INDICES)
    return as_bytes(blocks)


def _pack_mxfp4(found: Found) -> Bytes:
    blocks = np.empty(len(found.codes), dtype=MXFP4)
    blocks["exponent"] = np.frexp(found.scales[:, 0])[1] + 127
    blocks["q"] = _nibbles(found.codes, _MXFP4_INDICES)[:, 0]
    return as_bytes(blocks)


encode_iq4_nl = encoder(_IQ4_NL_SEARCH, _pack_iq4_nl)
encode_iq4_xs = encoder(_IQ4_XS_SEARCH, _pack_iq4_xs)
encode_mxfp4 = encoder(_MXFP4_SEARCH, _pack_mxfp4)
