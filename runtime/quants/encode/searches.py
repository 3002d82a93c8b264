"""Runs a search over many blocks: compiled by Numba, or by NumPy where there is no Numba; the same bits.

A search's parameters (`search_integers`, `search_iq4`, `search_e2m1`, `search_affine`) are, each float32 rows of lanes,
one lane for every block:

- x: a block's weights, times the power of two that brings their extreme near 1
- importance: the weights' importance, largest 1
- units: that power's inverse
- codes: written, the codes' values
- scales: written, the block's scale (and minimum), then the parts' multiples of it (then of the minimum)
- scratch: as many rows for all blocks together
- settings: the fields of `ScaleSearch`, `AffineSearch` or `PowerSearch`, in their order
- num_groups: how many times as many rows there are

Compiled, there are sixteen lanes and a group for each sixteen blocks; in NumPy, one group and a lane for each block.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ...jit.functions import NativeFunctions
from ...jit.lanes import LANES, SOURCE, callback
from ..types import Bytes, Encoder, Float32
from . import rounding, search_affine, search_scale
from .threads import in_threads

ARGUMENTS = "pppppppi"
EXPONENTS = (-123, 126)  # powers of two whose inverses are float32, and whose 2**-5 is at least MXFP4's least scale
# A column that calibration never reached still gets the nearest code, and no division fails.
LEAST_IMPORTANCE = np.float32(1e-12)

_FUNCTIONS: dict[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        search_scale.search_integers,
        search_scale.search_iq4,
        search_scale.search_e2m1,
        search_affine.search_affine,
    )
}
_SOURCES = (Path(search_scale.__file__), Path(search_affine.__file__), Path(rounding.__file__), SOURCE)


@dataclass(frozen=True)
class ScaleSearch:
    """Settings of a search without offset for codes that stand for integers: of the type, then of the effort.

    Attributes
    ----------
    parts, size : int
        Parts of a block, and weights of a part.
    lowest, highest : int
        The codes' values.
    smallest, largest : int
        Multiples of the scale.
    first_trial, trial_step, trials : float, float, int
        The values that a trial puts a part's extreme on, with either sign: first, first - step, ...
    refinements : int
        Least squares rounds for a part by itself.
    starts, start_step, rounds : int, float, int
        Starts i of the search over a block: the part with the largest scale gets ``smallest * (1 - i * start_step)``.
        Rounds of each.
    reach : int
        Multiples tried on either side of the nearest.
    """

    parts: int
    size: int
    lowest: int
    highest: int
    smallest: int
    largest: int
    first_trial: float
    trial_step: float
    trials: int
    refinements: int
    starts: int
    start_step: float
    rounds: int
    reach: int

    search: ClassVar[str] = "search_integers"
    scale_rows: ClassVar[int] = 1
    part_rows: ClassVar[int] = 1
    scratch_rows: ClassVar[int] = 2
    largest_weight: ClassVar[float] = 2.0**40  # far beyond what half-precision scales reach, far from overflow


@dataclass(frozen=True)
class Iq4Search(ScaleSearch):
    """The same for codes that stand for IQ4_NL's values."""

    search: ClassVar[str] = "search_iq4"


@dataclass(frozen=True)
class AffineSearch(ScaleSearch):
    """Settings of a search with offset, whose trials put a part's range, not its extreme, on a value.

    Attributes
    ----------
    smallest_minimum, largest_minimum : int
        Multiples of the minimum.
    highest_offset : float
        0 where minima are not negative.
    shifts, shift_step : int, float
        Trials j = 0, 1, ..., shifts - 2, -1 of the offset: the lowest value + j * step * (highest - lowest).
    reach_minimum : int
        Multiples of the minimum tried on either side of the nearest.
    """

    smallest_minimum: int
    largest_minimum: int
    highest_offset: float
    shifts: int
    shift_step: float
    reach_minimum: int

    search: ClassVar[str] = "search_affine"
    scale_rows: ClassVar[int] = 2
    part_rows: ClassVar[int] = 2
    scratch_rows: ClassVar[int] = 6


@dataclass(frozen=True)
class PowerSearch:
    """Settings of a search for the best power of two as a scale.

    Attributes
    ----------
    parts, size : int
        1, and weights of a block.
    largest, trials : float, int
        Scales tried for weights whose extreme is near 1: largest, largest / 2, ...
    largest_weight : float
        Larger ones are refused.
    """

    parts: int
    size: int
    largest: float
    trials: int
    largest_weight: float

    search: ClassVar[str] = "search_e2m1"
    scale_rows: ClassVar[int] = 1
    part_rows: ClassVar[int] = 0
    scratch_rows: ClassVar[int] = 0


Search = ScaleSearch | PowerSearch


@dataclass(frozen=True)
class Found:
    """What a search found for n blocks.

    Attributes
    ----------
    codes : float32 [n, weights of a block]
        The codes' values.
    scales : float32 [n, 1 or 2]
        The block's scale, and its minimum; but for powers of two, half-precision numbers or too large for that.
    multiples : uint8 [n, multiples, parts]
        Each part's multiple of the scale (modulo 256 where it is negative), and of the minimum.
    """

    codes: Float32
    scales: Float32
    multiples: NDArray[np.uint8]


@functools.cache
def _callback(name: str) -> Any:
    """The Numba C callback of a search, compiled in this process."""
    helpers = (*rounding.FUNCTIONS, *search_scale.FUNCTIONS, *search_affine.FUNCTIONS)
    return callback(_FUNCTIONS[name], ARGUMENTS, helpers)


_native = {name: NativeFunctions([name], ARGUMENTS, _callback, _SOURCES) for name in _FUNCTIONS}


def _compiled(address: int) -> Callable[..., None]:
    """A search for sixteen lanes that takes arrays, compiled."""
    c_function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 7, ctypes.c_int64)(address)

    def search(*arguments: Any) -> None:
        *arrays, num_groups = arguments
        c_function(*[array.ctypes.data for array in arrays], num_groups)

    return search


def _uncompiled(name: str) -> Callable[..., None]:
    """A search for any number of lanes that takes arrays, run by NumPy."""

    def search(*arguments: Any) -> None:
        *arrays, settings, num_groups = arguments
        with np.errstate(all="ignore"):
            _FUNCTIONS[name](*(array[0] for array in arrays), settings, num_groups)

    return search


def _to_rows(blocks: Float32, lanes: int) -> Float32:
    """From [n, rows] to [groups, rows, lanes]; the last group is filled with zeros."""
    rows = np.zeros((-(-len(blocks) // lanes), blocks.shape[1], lanes), np.float32)
    whole = len(blocks) // lanes
    rows[:whole] = blocks[: whole * lanes].reshape(whole, lanes, blocks.shape[1]).transpose(0, 2, 1)
    if whole < len(rows):
        rows[whole, :, : len(blocks) - whole * lanes] = blocks[whole * lanes :].T
    return rows


def _from_rows(rows: Float32, count: int) -> Float32:
    """From [groups, rows, lanes] to [count, rows]."""
    return rows.transpose(0, 2, 1).reshape(-1, rows.shape[1])[:count]


def _normalised(importance: Float32) -> Float32:
    """Blocks whose largest importance is 1 and whose least is not 0; all 1 where all were 0."""
    largest = importance.max(axis=1, keepdims=True)
    scaled = importance / np.where(largest > 0, largest, np.float32(1))
    scaled[largest[:, 0] == 0] = 1
    return np.maximum(scaled, LEAST_IMPORTANCE)


def _find(settings: Search, blocks: Float32, importance: Float32 | None) -> Found:
    """Searches every block."""
    count, address = len(blocks), _native[settings.search].address(settings.search)
    lanes, run = (count, _uncompiled(settings.search)) if address is None else (LANES, _compiled(address))
    exponents = np.frexp(np.abs(blocks).max(axis=1, keepdims=True))[1].clip(*EXPONENTS)
    x = _to_rows(blocks * np.ldexp(np.float32(1), -exponents), lanes)
    weights = np.ones_like(x) if importance is None else _to_rows(_normalised(importance), lanes)
    units = _to_rows(np.ldexp(np.float32(1), exponents), lanes)
    rows = settings.scale_rows + settings.part_rows * settings.parts
    codes, scales = np.empty_like(x), np.zeros((len(x), rows, lanes), np.float32)
    scratch = np.empty((1, settings.scratch_rows * settings.parts, lanes), np.float32)
    numbers = np.array(astuple(settings), np.float32)
    run(x, weights, units, codes, scales, scratch, numbers, len(x))
    found = _from_rows(scales, count)
    multiples = found[:, settings.scale_rows :].astype(np.int16).astype(np.uint8)
    return Found(
        _from_rows(codes, count),
        found[:, : settings.scale_rows],
        multiples.reshape(count, settings.part_rows, settings.parts),
    )


def encoder(settings: Search, pack: Callable[[Found], Bytes]) -> Encoder:
    """The encoder of a type.

    Parameters
    ----------
    settings : ScaleSearch or PowerSearch
    pack : callable
        Makes blocks of bytes, uint8 [n, bytes of a block], of what the search found for n blocks.

    Returns
    -------
    Encoder
        Raises ConversionError for weights that are too large.
    """

    def encode(blocks: Float32, importance: Float32 | None) -> Bytes:
        largest = float(np.abs(blocks).max(initial=0.0))
        if largest > settings.largest_weight:
            raise ConversionError(f"weight {largest:g} is too large for this type: use bf16 or f32")
        return pack(_find(settings, blocks, importance))

    return in_threads(encode)
