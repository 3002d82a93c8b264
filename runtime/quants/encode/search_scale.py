"""Search for the codes of types without an offset: weight = scale * (the part's multiple) * (the code's value).

The sum of importance * (x - weight)**2 over a block is to be small. A block has parts with an integer multiple of the
block's half-precision scale each; a type with one scale is a block of one part whose multiple is 1.

1. Every part by itself: a row of trial scales puts the part's extreme on different codes; the codes that a trial rounds
   to have a best scale by least squares, and the trial that leaves the least error wins. That scale rounds to other
   codes, which have a best scale, and so on.
2. The block: from several starts, multiples near (part's scale / block's scale) are tried for each part, with codes
   rounded anew; the least squares scale for all codes and multiples is the next round's. The best round is kept.

Everything goes lane by lane, a block in each lane: `x` and the others are rows of lanes (see `lanes.py`), one row for
each weight of a block. A span is ``(x, importance, first row, number of rows)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...jit.lanes import greater, load, splat, store
from .rounding import ONE, ZERO, absolute, half_scale, minimum, nearest_e2m1, nearest_integer, nearest_iq4, quotient

TWO = np.float32(2)
LARGE = np.float32(3e38)

# A later trial must win by this part of the error's scale, or rounding errors would choose among equals, and parts
# that are alike would get scales that have no common measure.
TIE = np.float32(1e-6)


def _least_squares(nearest: Any, span: Any, inverse: Any, levels: Any) -> Any:
    """For codes rounded with a scale's inverse: sum of w x q and of w q^2."""
    x, importance, first, size = span
    dot, square = splat(ZERO), splat(ZERO)
    for i in range(first, first + size):
        value = load(x, i)
        code = nearest(value * inverse, levels)
        weighted = load(importance, i) * code
        dot = dot + weighted * value
        square = square + weighted * code
    return dot, square


def _extreme(span: Any) -> Any:
    """The value largest in magnitude, with its sign."""
    x, _, first, size = span
    extreme = splat(ZERO)
    for i in range(first, first + size):
        value = load(x, i)
        extreme = greater(absolute(value), absolute(extreme), value, extreme)
    return extreme


def _best_scale(nearest: Any, span: Any, levels: Any, trials: Any) -> Any:
    """The scale of a part by itself."""
    first_trial, trial_step, num_trials, refinements = trials
    extreme = _extreme(span)
    best, best_gain = splat(ZERO), splat(ZERO)
    for trial in range(2 * num_trials):
        size = first_trial - trial_step * np.float32(trial // 2)
        inverse = quotient(splat(-size if trial % 2 == 0 else size), extreme)
        dot, square = _least_squares(nearest, span, inverse, levels)
        scale = quotient(dot, square)
        gain = dot * scale  # by this much the error is smaller than without any codes
        better = gain - splat(TIE) * gain
        best = greater(better, best_gain, scale, best)
        best_gain = greater(better, best_gain, gain, best_gain)
    for _ in range(refinements):
        dot, square = _least_squares(nearest, span, quotient(splat(ONE), best), levels)
        best = greater(square, splat(ZERO), quotient(dot, square), best)
    return best


def _error(nearest: Any, span: Any, scale: Any, levels: Any) -> Any:
    """Sum of w (x - scale q)^2 with codes rounded for that scale."""
    x, importance, first, size = span
    inverse = quotient(splat(ONE), scale)
    error = splat(ZERO)
    for i in range(first, first + size):
        value = load(x, i)
        difference = value - scale * nearest(value * inverse, levels)
        error = error + load(importance, i) * difference * difference
    return error


def _choose_multiple(nearest: Any, span: Any, scale: Any, target: Any, levels: Any, multiples: Any, reach: Any) -> Any:
    """The multiple of `scale` for a part whose own scale is `target`, and the error."""
    center = quotient(target, scale)
    best, least = splat(ZERO), splat(LARGE)
    for offset in range(-reach, reach + 1):
        multiple = nearest_integer(center + splat(np.float32(offset)), multiples)
        error = _error(nearest, span, multiple * scale, levels)
        best = greater(least, error, multiple, best)
        least = minimum(least, error)
    return best, least


def _round(nearest: Any, block: Any, scale: Any, scratch: Any, levels: Any, multiples: Any, reach: Any) -> Any:
    """Multiples of all parts, written behind their scales in `scratch`; the error and the next round's scale."""
    x, importance, first, size, parts = block
    total, total_dot, total_square = splat(ZERO), splat(ZERO), splat(ZERO)
    for part in range(parts):
        span = (x, importance, first + part * size, size)
        multiple, error = _choose_multiple(nearest, span, scale, load(scratch, part), levels, multiples, reach)
        dot, square = _least_squares(nearest, span, quotient(splat(ONE), multiple * scale), levels)
        total = total + error
        total_dot = total_dot + multiple * dot
        total_square = total_square + multiple * multiple * square
        store(scratch, parts + part, multiple)
    return total, quotient(total_dot, total_square)


def keep(better: Any, rows: Any, index: Any, value: Any) -> None:
    """Overwrites a row where `better` > 0."""
    store(rows, index, greater(better, splat(ZERO), value, load(rows, index)))


def _search_block(
    nearest: Any,
    block: Any,
    unit: Any,
    result: Any,
    scratch: Any,
    levels: Any,
    multiples: Any,
    trials: Any,
    rounds: Any,
) -> None:
    """Writes the block's scale and the parts' multiples to rows of ``result[0]`` from ``result[1]`` on."""
    x, importance, first, size, parts = block
    starts, start_step, num_rounds, reach = rounds
    rows, first_row = result
    extreme = splat(ZERO)
    for part in range(parts):
        own = _best_scale(nearest, (x, importance, first + part * size, size), levels, trials)
        store(scratch, part, own)
        extreme = greater(absolute(own), absolute(extreme), own, extreme)
    least, scale = splat(LARGE), splat(ZERO)
    for i in range(starts * num_rounds):
        if i % num_rounds == 0:
            scale = extreme / splat(multiples[0] * (ONE - start_step * np.float32(i // num_rounds)))
        scale = half_scale(scale * unit) / unit
        error, next_scale = _round(nearest, block, scale, scratch, levels, multiples, reach)
        better = least - error
        keep(better, rows, first_row, scale * unit)
        for part in range(parts):
            keep(better, rows, first_row + 1 + part, load(scratch, parts + part))
        least, scale = minimum(least, error), next_scale


def _write_codes(nearest: Any, block: Any, unit: Any, result: Any, codes: Any, levels: Any) -> None:
    x, _, first, size, parts = block
    rows, first_row = result
    scale = load(rows, first_row) / unit
    for part in range(parts):
        inverse = quotient(splat(ONE), load(rows, first_row + 1 + part) * scale)
        for i in range(first + part * size, first + part * size + size):
            store(codes, i, nearest(load(x, i) * inverse, levels))


def _search(nearest: Any, arrays: Any, settings: Any, num_groups: Any) -> None:
    x, importance, units, codes, scales, scratch = arrays
    parts, size = int(settings[0]), int(settings[1])
    levels, multiples = (settings[2], settings[3]), (settings[4], settings[5])
    trials = (settings[6], settings[7], int(settings[8]), int(settings[9]))
    rounds = (int(settings[10]), settings[11], int(settings[12]), int(settings[13]))
    for group in range(num_groups):
        block = (x, importance, group * parts * size, size, parts)
        result = (scales, group * (1 + parts))
        unit = load(units, group)
        _search_block(nearest, block, unit, result, scratch, levels, multiples, trials, rounds)
        _write_codes(nearest, block, unit, result, codes, levels)


def search_integers(
    x: Any, importance: Any, units: Any, codes: Any, scales: Any, scratch: Any, settings: Any, num_groups: Any
) -> None:
    """For types whose codes stand for integers; see `searches.py` for the parameters."""
    _search(nearest_integer, (x, importance, units, codes, scales, scratch), settings, num_groups)


def search_iq4(
    x: Any, importance: Any, units: Any, codes: Any, scales: Any, scratch: Any, settings: Any, num_groups: Any
) -> None:
    """For IQ4_NL and IQ4_XS; see `searches.py` for the parameters."""
    _search(nearest_iq4, (x, importance, units, codes, scales, scratch), settings, num_groups)


def search_e2m1(
    x: Any, importance: Any, units: Any, codes: Any, scales: Any, scratch: Any, settings: Any, num_groups: Any
) -> None:
    """For MXFP4, whose scale is a power of two: the best of some. `scratch` is not used.

    See `searches.py` for the parameters.
    """
    size, largest, num_trials = int(settings[1]), settings[2], int(settings[3])
    levels = (ZERO, ZERO)
    for group in range(num_groups):
        span = (x, importance, group * size, size)
        best, least, scale = splat(ZERO), splat(LARGE), splat(largest)
        for _ in range(num_trials):
            error = _error(nearest_e2m1, span, scale, levels)
            best = greater(least, error, scale, best)
            least = minimum(least, error)
            scale = scale / splat(TWO)
        store(scales, group, best * load(units, group))
        inverse = splat(ONE) / best
        for i in range(group * size, group * size + size):
            store(codes, i, nearest_e2m1(load(x, i) * inverse, levels))


FUNCTIONS = (
    _least_squares,
    _extreme,
    _best_scale,
    _error,
    _choose_multiple,
    _round,
    keep,
    _search_block,
    _write_codes,
    _search,
)
