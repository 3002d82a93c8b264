"""From a row of logits to a token: penalties, filters, and a draw that is the same on every CPU.

Nothing here uses a transcendental function or a sum of NumPy's, whose last bits depend on the CPU: weights and sums
come from the library's own kernels, and random numbers from a counter. A vocabulary may have 150,000 entries and a step
of the model take two milliseconds: so only those are sorted that can be drawn.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from .._kernels import core
from ..errors import NumericError
from .options import GenerationOptions

__all__ = ["Sampler", "SeenTokens", "adjust_logits", "best_token", "log_probs_of", "uniform"]

# Tokens that weigh less than the first of these, the best weighing 1, are sorted only where those above do not make up
# the nucleus; those below the second only where that does not do either, or too many are above to be kept apart.
NUCLEUS_GUESSES = (np.float32(2.0**-8), np.float32(2.0**-14))
NUCLEUS_TOKENS = 1 << 14
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(state: int) -> int:
    """SplitMix64's output function (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def uniform(seed: int, counter: int) -> float:
    """The `counter`-th number of the stream `seed`, uniform over the multiples of 2**-53 in [0, 1).

    Draws are addressed, not taken in turn, so a token's draw depends on the seed and on its place in the text alone.
    """
    key = _mix((seed + _GOLDEN) & _MASK)
    return (_mix((key + (counter + 1) * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def best_token(logits: np.ndarray) -> int:
    """The most likely token; of equals, the lowest id.

    Raises
    ------
    NumericError
        If a logit is NaN, or the best is infinite.
    """
    token = int(logits.argmax())  # it stops at the first NaN if there is one
    if not math.isfinite(logits[token]):
        raise NumericError(f"output logits: {logits[token]} at token {token}; the weights of the model are damaged")
    return token


def log_probs_of(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Log probabilities, float32, of the `tokens` (int array) among all of `logits`, float32 [vocab]."""
    largest, log_sum = core.log_sum_exp(logits)
    return (logits[tokens] - largest) - log_sum


class SeenTokens:
    """The distinct tokens of a text that grows at its end."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._ids = array("q")
        self._length = 0

    def of(self, history: Sequence[int]) -> np.ndarray:
        """Distinct tokens of `history`, int64, which begins with the one of the call before; only its end is read."""
        for token in history[self._length :]:
            if token not in self._known:
                self._known.add(token)
                self._ids.append(token)
        self._length = len(history)
        return np.array(self._ids)


def adjust_logits(rows: np.ndarray, seen: Callable[[int], np.ndarray], options: GenerationOptions) -> np.ndarray:
    """Apply the suppressed tokens and the repetition penalty (Keskar et al., "CTRL", 2019, section 4.1).

    Parameters
    ----------
    rows : ndarray, float32 [texts, vocab]
        Not changed; given back where there is nothing to apply.
    seen : callable
        Gives every token in the context of a text, prompt included, once (int64): those that the penalty makes less
        likely.
    options : GenerationOptions
    """
    if options.repeat_penalty == 1.0 and not options.suppressed_token_ids:
        return rows
    adjusted = rows.copy()
    if options.repeat_penalty != 1.0:
        penalty = np.float32(options.repeat_penalty)
        for index, row in enumerate(adjusted):
            tokens = seen(index)
            values = row[tokens]
            row[tokens] = np.where(values > 0, values / penalty, values * penalty)
    suppressed = [token for token in options.suppressed_token_ids if token < adjusted.shape[1]]
    adjusted[:, suppressed] = -np.inf
    return adjusted


def _descending(weights: np.ndarray) -> np.ndarray:
    """The weights, greatest first."""
    negative = np.negative(weights)
    negative.sort()
    return np.negative(negative, out=negative)


def _count_above(descending: np.ndarray, value: np.float32, side: Literal["left", "right"]) -> int:
    """How many of `descending` are greater than `value` ("right"), or as great too ("left")."""
    return len(descending) - int(np.searchsorted(descending[::-1], value, side=side))


def _nth_index(values: np.ndarray, descending: np.ndarray, place: int) -> int:
    """Index in `values` of what stands at `place` of their beginning `descending`, equals being in order of index."""
    value = descending[place]
    return int(np.flatnonzero(values == value)[place - _count_above(descending, value, "right")])


class Sampler:
    """Chooses the tokens of one text.

    The filters apply in the order of transformers, whose `generation_config.json` gives the defaults: repetition
    penalty, temperature, top-k, top-p, min-p. Of equally likely tokens the lower id comes first.

    Parameters
    ----------
    options : GenerationOptions
    seed : int
        Stream of random numbers; unused when greedy.
    """

    def __init__(self, options: GenerationOptions, seed: int) -> None:
        self.seed = seed
        self._options = options
        self._seen = SeenTokens()
        # A temperature that float32 cannot tell from zero, denormals being zero to the kernels, is zero.
        temperature = np.float32(options.temperature)
        self._temperature = float(temperature) if temperature >= np.finfo(np.float32).tiny else 0.0

    def choose(self, logits: np.ndarray, history: Sequence[int], step: int) -> int:
        """The token that follows.

        Parameters
        ----------
        logits : ndarray, float32 [vocab]
        history : sequence of int
            The tokens of the context so far: those of the call before and new ones after them.
        step : int
            How many tokens of this text were chosen before: the counter of the draw.

        Raises
        ------
        NumericError
            If a logit is NaN or the best is infinite.
        """
        options = self._options
        adjusted = adjust_logits(logits[None], lambda _: self._seen.of(history), options)[0]
        best = best_token(adjusted)
        if self._temperature == 0:
            return best
        number, largest = uniform(self.seed, step), float(adjusted[best])
        if options.top_k:
            tokens = core.top(adjusted, options.top_k)
            weights, _ = core.weigh(adjusted[tokens], largest, self._temperature)
            return int(tokens[self._place(weights, core.reach(weights, math.inf)[1], number)])
        if options.top_p < 1.0:
            return self._draw_nucleus(adjusted, largest, number)
        return self._draw(adjusted, largest, number)

    def _place(self, weights: np.ndarray, total: float, number: float) -> int:
        """The place drawn by `number` among what top-p and min-p leave of descending `weights` whose sum is `total`."""
        options = self._options
        count, kept = len(weights), total
        if options.top_p < 1.0:
            last, kept = core.reach(weights, options.top_p * total)
            count = min(last + 1, count)
        if options.min_p > 0.0 and weights[count - 1] < np.float32(options.min_p):  # the best weighs 1
            count = _count_above(weights[:count], np.float32(options.min_p), "left")
            kept = core.reach(weights[:count], math.inf)[1]
        return core.reach(weights[:count], _target(number, kept))[0]

    def _draw_nucleus(self, logits: np.ndarray, largest: float, number: float) -> int:
        """The token drawn by `number` from what top-p and min-p leave of all."""
        for guess in NUCLEUS_GUESSES:
            sums, places, likely = core.weigh_likely(logits, largest, self._temperature, 0.0, guess, NUCLEUS_TOKENS)
            total = float(np.cumsum(sums)[-1])
            if places is None or likely is None:
                break
            descending = _descending(likely)
            if core.reach(descending, self._options.top_p * total)[0] < len(descending):
                place = self._place(descending, total, number)
                return int(places[_nth_index(likely, descending, place)])
        weights = core.weigh(logits, largest, self._temperature)[0]
        descending = _descending(weights)
        return _nth_index(weights, descending, self._place(descending, total, number))

    def _draw(self, logits: np.ndarray, largest: float, number: float) -> int:
        """The token drawn by `number` from what min-p leaves of all, in order of index."""
        temperature, least = self._temperature, self._options.min_p
        totals = np.cumsum(core.weigh_likely(logits, largest, temperature, least)[0])
        target = _target(number, float(totals[-1]))
        chunk = int(np.searchsorted(totals, target, side="left"))
        begin = chunk * core.WEIGHT_CHUNK
        inside, _ = core.weigh(logits[begin : begin + core.WEIGHT_CHUNK], largest, temperature, least)
        index, _ = core.reach(inside, target, float(totals[chunk - 1]) if chunk else 0.0)
        # The chunk's sum was added in another order, so that its last weight may be missed by a rounding error.
        return begin + (index if index < len(inside) else int(np.flatnonzero(inside)[-1]))


def _target(number: float, total: float) -> float:
    """What a running sum of `total` must reach to be above the share `number`, in [0, 1), of it."""
    return min(math.nextafter(number * total, math.inf), total)
