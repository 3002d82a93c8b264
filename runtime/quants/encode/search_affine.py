"""Search for the codes of types with an offset: weight = scale * (the part's multiple) * code - minimum * (its other).

The sum of importance * (x - weight)**2 over a block is to be small. A block has parts; each has one integer multiple of
the block's half-precision scale and one of its half-precision minimum. A type without parts has one part, whose
multiples are 1.

1. Every part by itself: trial scales and offsets put its range on the codes, and somewhat less or more than its range;
   the codes that a trial rounds to have a best scale and offset by least squares, and the trial that leaves the least
   error wins. That pair rounds to other codes, which have a best pair, and so on.
2. The block: from several starts, pairs of multiples near the part's own are tried with codes rounded anew; the least
   squares scale and minimum for all codes and multiples are the next round's. The best round is kept.

Rows of lanes and spans are those of `search_scale.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...jit.lanes import greater, load, splat, store
from .rounding import ONE, ZERO, half_scale, maximum, minimum, nearest_integer, negative, quotient
from .search_scale import LARGE, keep

MINUS_LARGE = np.float32(-3e38)

# As in `search_scale`, for longer sums of which more cancels.
TIE = np.float32(5e-6)

# Below this part of its terms a determinant is nothing but rounding errors: scale and minimum cannot be told apart.
SINGULAR = np.float32(1e-5)


def _moments(span: Any) -> Any:
    """Lowest and highest value, sum of weights, weighted mean, weighted sum of squares."""
    x, importance, first, size = span
    low, high = splat(LARGE), splat(MINUS_LARGE)
    weight_sum, total, energy = splat(ZERO), splat(ZERO), splat(ZERO)
    for i in range(first, first + size):
        value, weight = load(x, i), load(importance, i)
        low, high = minimum(low, value), maximum(high, value)
        weight_sum = weight_sum + weight
        total = total + weight * value
        energy = energy + weight * value * value
    return low, high, weight_sum, total / weight_sum, energy


def _code_sums(span: Any, offset: Any, inverse: Any, levels: Any, mean: Any) -> Any:
    """For codes rounded with an offset and a scale's inverse: sums of w q (x - mean), w q, w q^2."""
    x, importance, first, size = span
    covariance, code_sum, square = splat(ZERO), splat(ZERO), splat(ZERO)
    for i in range(first, first + size):
        value = load(x, i)
        code = nearest_integer((value - offset) * inverse, levels)
        weighted = load(importance, i) * code
        covariance = covariance + weighted * (value - mean)
        code_sum = code_sum + weighted
        square = square + weighted * code
    return covariance, code_sum, square


def _fit(span: Any, offset: Any, inverse: Any, levels: Any, moments: Any, highest_offset: Any) -> Any:
    """Least squares scale and offset for the codes of a trial, by how much they lessen the error, and its rounding."""
    weight_sum, mean, energy, centered = moments
    covariance, code_sum, square = _code_sums(span, offset, inverse, levels, mean)
    code_mean = code_sum / weight_sum
    scale = quotient(covariance, square - code_mean * code_sum)
    best_offset = mean - scale * code_mean
    gain = scale * covariance
    dot = covariance + mean * code_sum
    scale_alone = quotient(dot, square)
    gain_alone = dot * scale_alone - weight_sum * mean * mean
    excess = best_offset - splat(highest_offset)
    gain = greater(excess, splat(ZERO), gain_alone, gain)
    scale = greater(excess, splat(ZERO), scale_alone, scale)
    noise = splat(TIE) * greater(excess, splat(ZERO), energy, centered)
    return scale, minimum(best_offset, splat(highest_offset)), gain, noise


def _best_pair(span: Any, levels: Any, highest_offset: Any, trials: Any) -> Any:
    """Scale and offset of a part by itself, its sums of w and of w x."""
    first_trial, trial_step, num_trials, num_shifts, shift_step, refinements = trials
    low, high, weight_sum, mean, energy = _moments(span)
    low = minimum(low, splat(highest_offset))
    spread = high - low
    moments = (weight_sum, mean, energy, energy - weight_sum * mean * mean)
    best_scale, best_offset, best_gain = splat(ZERO), low, splat(MINUS_LARGE)
    for trial in range(num_trials * num_shifts + refinements):
        size = splat(first_trial - trial_step * np.float32(trial % num_trials))
        shift = splat(shift_step * np.float32((trial // num_trials + 1) % num_shifts - 1))
        offset, inverse = low + shift * spread, quotient(size, spread)
        if trial >= num_trials * num_shifts:
            offset, inverse = best_offset, quotient(splat(ONE), best_scale)
        scale, offset, gain, noise = _fit(span, offset, inverse, levels, moments, highest_offset)
        better = gain - noise
        best_scale = greater(better, best_gain, scale, best_scale)
        best_offset = greater(better, best_gain, offset, best_offset)
        best_gain = greater(better, best_gain, gain, best_gain)
    return best_scale, best_offset, weight_sum, weight_sum * mean


def _error(span: Any, scale: Any, offset: Any, levels: Any) -> Any:
    """Sum of w (x - scale q - offset)^2 with codes rounded for these."""
    x, importance, first, size = span
    inverse = quotient(splat(ONE), scale)
    error = splat(ZERO)
    for i in range(first, first + size):
        value = load(x, i)
        difference = value - (scale * nearest_integer((value - offset) * inverse, levels) + offset)
        error = error + load(importance, i) * difference * difference
    return error


def _choose_multiples(span: Any, factors: Any, targets: Any, levels: Any, ranges: Any, reaches: Any) -> Any:
    """Multiples of scale and minimum (`factors`) for a part whose own are `targets`, and the error."""
    center, center_minimum = quotient(targets[0], factors[0]), quotient(targets[1], factors[1])
    best, best_minimum, least = splat(ZERO), splat(ZERO), splat(LARGE)
    for step in range(-reaches[0], reaches[0] + 1):
        multiple = nearest_integer(center + splat(np.float32(step)), ranges[0])
        for step_minimum in range(-reaches[1], reaches[1] + 1):
            other = nearest_integer(center_minimum + splat(np.float32(step_minimum)), ranges[1])
            error = _error(span, multiple * factors[0], negative(other * factors[1]), levels)
            best = greater(least, error, multiple, best)
            best_minimum = greater(least, error, other, best_minimum)
            least = minimum(least, error)
    return best, best_minimum, least


def _half(value: Any, unit: Any) -> Any:
    """To half precision in the weights' own unit."""
    return half_scale(value * unit) / unit


def _solve(squares: Any, products: Any, factors: Any, unit: Any) -> Any:
    """Least squares scale, rounded, and minimum for that; those of `factors` where the sums do not tell them."""
    (uu, uv, vv), (ux, vx) = squares, products
    determinant = uu * vv - uv * uv
    sure = determinant - splat(SINGULAR) * uu * vv
    alone = quotient(ux - uv * factors[1], uu)
    scale = _half(greater(sure, splat(ZERO), quotient(ux * vv - vx * uv, determinant), alone), unit)
    return scale, _half(greater(vv, splat(ZERO), quotient(vx - uv * scale, vv), factors[1]), unit)


def _round(block: Any, factors: Any, unit: Any, scratch: Any, levels: Any, ranges: Any, reaches: Any) -> Any:
    """Multiples of all parts, written behind their own scales in `scratch`; the error and the next round's factors."""
    x, importance, first, size, parts = block
    total, uu, uv, vv, ux, vx = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for part in range(parts):
        span = (x, importance, first + part * size, size)
        targets = (load(scratch, part), load(scratch, parts + part))
        multiple, other, error = _choose_multiples(span, factors, targets, levels, ranges, reaches)
        offset, inverse = negative(other * factors[1]), quotient(splat(ONE), multiple * factors[0])
        dot, code_sum, square = _code_sums(span, offset, inverse, levels, splat(ZERO))
        total = total + error
        uu = uu + multiple * multiple * square
        uv = uv - multiple * other * code_sum
        vv = vv + other * other * load(scratch, 2 * parts + part)
        ux = ux + multiple * dot
        vx = vx - other * load(scratch, 3 * parts + part)
        store(scratch, 4 * parts + part, multiple)
        store(scratch, 5 * parts + part, other)
    return total, _solve((uu, uv, vv), (ux, vx), factors, unit)


def _search_block(block: Any, unit: Any, result: Any, scratch: Any, levels: Any, ranges: Any, limits: Any) -> None:
    """Writes the block's scale and minimum and the parts' multiples to rows of ``result[0]`` from ``result[1]`` on."""
    x, importance, first, size, parts = block
    highest_offset, trials, (starts, start_step, num_rounds), reaches = limits
    rows, first_row = result
    top, bottom = splat(ZERO), splat(MINUS_LARGE)
    for part in range(parts):
        span = (x, importance, first + part * size, size)
        own, offset, weight_sum, total = _best_pair(span, levels, highest_offset, trials)
        top, bottom = maximum(top, own), maximum(bottom, negative(offset))
        store(scratch, part, own)
        store(scratch, parts + part, negative(offset))
        store(scratch, 2 * parts + part, weight_sum)
        store(scratch, 3 * parts + part, total)
    least, factors = splat(LARGE), (splat(ZERO), splat(ZERO))
    for i in range(starts * num_rounds):
        if i % num_rounds == 0:
            start = ranges[0][1] * (ONE - start_step * np.float32(i // num_rounds))
            factors = (_half(top / splat(start), unit), _half(bottom / splat(ranges[1][1]), unit))
        error, next_factors = _round(block, factors, unit, scratch, levels, ranges, reaches)
        better = least - error
        keep(better, rows, first_row, factors[0] * unit)
        keep(better, rows, first_row + 1, factors[1] * unit)
        for part in range(2 * parts):
            keep(better, rows, first_row + 2 + part, load(scratch, 4 * parts + part))
        least, factors = minimum(least, error), next_factors


def _write_codes(block: Any, unit: Any, result: Any, codes: Any, levels: Any) -> None:
    x, _, first, size, parts = block
    rows, first_row = result
    scale, minimum_scale = load(rows, first_row) / unit, load(rows, first_row + 1) / unit
    for part in range(parts):
        inverse = quotient(splat(ONE), load(rows, first_row + 2 + part) * scale)
        offset = negative(load(rows, first_row + 2 + parts + part) * minimum_scale)
        for i in range(first + part * size, first + part * size + size):
            store(codes, i, nearest_integer((load(x, i) - offset) * inverse, levels))


def search_affine(
    x: Any, importance: Any, units: Any, codes: Any, scales: Any, scratch: Any, settings: Any, num_groups: Any
) -> None:
    """For types with an offset; see `searches.py` for the parameters."""
    parts, size = int(settings[0]), int(settings[1])
    levels, ranges = (settings[2], settings[3]), ((settings[4], settings[5]), (settings[14], settings[15]))
    trials = (settings[6], settings[7], int(settings[8]), int(settings[17]), settings[18], int(settings[9]))
    starts = (int(settings[10]), settings[11], int(settings[12]))
    limits = (settings[16], trials, starts, (int(settings[13]), int(settings[19])))
    for group in range(num_groups):
        block = (x, importance, group * parts * size, size, parts)
        result = (scales, group * (2 + 2 * parts))
        unit = load(units, group)
        _search_block(block, unit, result, scratch, levels, ranges, limits)
        _write_codes(block, unit, result, codes, levels)


FUNCTIONS = (
    _moments,
    _code_sums,
    _fit,
    _best_pair,
    _error,
    _choose_multiples,
    _half,
    _solve,
    _round,
    _search_block,
    _write_codes,
)
