"""From a row of logits to a token: penalties, filters, and a draw that is the same on every CPU.

Nothing here uses a transcendental function or a sum of NumPy's, whose last bits depend on the CPU: weights and sums
come from the library's own kernels, and random numbers from a counter. A vocabulary may have 150,000 entries and a step
of the model take two milliseconds: so only those are sorted that can be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from .._kernels import core
from ..errors import NumericError
from ..host.exact import ordered_sum
from .adjustments import Adjustments
from .options import GenerationOptions

__all__ = ["Sampler", "best_token", "log_probs_of", "uniform"]

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

    After the adjustments come temperature and the filters, in the order of transformers: top-n-sigma (which it does not
    have; the temperature does not matter to it), top-k, top-p, min-p, typical. Each works on what those before it left.
    Of equally likely tokens the lower id comes first.

    Parameters
    ----------
    options : GenerationOptions
    seed : int
        Stream of random numbers; unused when greedy.
    end_token_ids : collection of int
        Tokens that end the text.
    """

    def __init__(self, options: GenerationOptions, seed: int, end_token_ids: Iterable[int] = ()) -> None:
        self.seed = seed
        self._options = options
        self._adjustments = Adjustments(options, end_token_ids)
        self._history = self._adjustments.history()
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
        InvalidOptionError
            If the options leave no token.
        """
        options, adjusted = self._options, logits
        if not self._adjustments.idle:
            self._history.read(history, max(len(history) - step, 0))
            adjusted = self._adjustments.apply(logits, self._history, step)
        best = best_token(adjusted)
        if self._temperature == 0:
            return best
        number, largest = uniform(self.seed, step), float(adjusted[best])
        if options.top_n_sigma > 0.0:
            adjusted = _within_sigmas(adjusted, largest, options.top_n_sigma)
        if options.typical_p < 1.0:
            return self._draw_typical(adjusted, largest, number)
        if options.top_k:
            tokens = core.top(adjusted, options.top_k)
            weights, _ = core.weigh(adjusted[tokens], largest, self._temperature)
            return int(tokens[self._place(weights, core.reach(weights, math.inf)[1], number)])
        if options.top_p < 1.0:
            return self._draw_nucleus(adjusted, largest, number)
        return self._draw(adjusted, largest, number)

    def _place(self, weights: np.ndarray, total: float, number: float) -> int:
        """The place drawn by `number` among what top-p and min-p leave of descending `weights` whose sum is `total`."""
        count, kept = self._kept(weights, total)
        return core.reach(weights[:count], _target(number, kept))[0]

    def _kept(self, weights: np.ndarray, total: float) -> tuple[int, float]:
        """How many of descending `weights` whose sum is `total` top-p and min-p leave, and the sum of those."""
        options = self._options
        count, kept = len(weights), total
        if options.top_p < 1.0:
            last, kept = core.reach(weights, options.top_p * total)
            count = min(last + 1, count)
        if options.min_p > 0.0 and weights[count - 1] < np.float32(options.min_p):  # the best weighs 1
            count = _count_above(weights[:count], np.float32(options.min_p), "left")
            kept = core.reach(weights[:count], math.inf)[1]
        return count, kept

    def _draw_typical(self, logits: np.ndarray, largest: float, number: float) -> int:
        """The token drawn by `number` from what all filters leave, the typical ones last (Meister et al., "Locally
        Typical Sampling", 2023).

        A token is the more typical, the nearer its log probability is to the mean of all. The logarithm of the sum of
        the weights is in both and cancels, so that none is needed.
        """
        tokens = core.top(logits, self._options.top_k or len(logits))
        weights = core.weigh(logits[tokens], largest, self._temperature)[0]
        count, total = self._kept(weights, core.reach(weights, math.inf)[1])
        count = _count_above(weights[:count], np.float32(0.0), "right")
        tokens, weights = tokens[:count], weights[:count]
        exponents = (logits[tokens].astype(np.float64) - largest) / self._temperature
        distances = np.abs(exponents - ordered_sum(weights * exponents) / total)
        order = np.argsort(distances, kind="stable")
        last, _ = core.reach(weights[order], self._options.typical_p * total)
        typical = distances <= distances[order[min(last, count - 1)]]
        tokens, weights = tokens[typical], weights[typical]
        return int(tokens[core.reach(weights, _target(number, core.reach(weights, math.inf)[1]))[0]])

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


def _within_sigmas(logits: np.ndarray, largest: float, count: float) -> np.ndarray:
    """`logits` with -inf where they are more than `count` standard deviations below the `largest` (Tang et al.,
    "Top-n-sigma: Not All Logits Are You Need", 2024); what is banned does not count in the deviation.
    """
    values = logits[logits > -np.inf].astype(np.float64)
    differences = values - ordered_sum(values) / len(values)
    deviation = math.sqrt(ordered_sum(differences * differences) / len(values))
    return np.where(logits >= largest - count * deviation, logits, np.float32(-np.inf))


def _target(number: float, total: float) -> float:
    """What a running sum of `total` must reach to be above the share `number`, in [0, 1), of it."""
    return min(math.nextafter(number * total, math.inf), total)
