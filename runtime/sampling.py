"""From a row of logits to a token: penalties, filters, and a draw that is the same on every CPU.

Nothing here uses a transcendental function or a sum of NumPy's, whose last bits depend on the CPU: probabilities come
from the library's own softmax, sums are running sums in order, and random numbers come from a counter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._kernels import core
from .errors import NumericError
from .options import GenerationOptions

__all__ = ["Sampler", "adjust_logits", "best_token", "top_candidates", "uniform"]

NUCLEUS_GUESS = 256
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
    token = int(np.argmax(logits))  # argmax stops at the first NaN if there is one
    if not np.isfinite(logits[token]):
        raise NumericError(f"output logits: {logits[token]} at token {token}; the weights of the model are damaged")
    return token


def top_candidates(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` greatest of `values`, float32 [n], greatest first; of equals, the lowest index first."""
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    # The count-th value is the same whatever order partition leaves behind; ties at it are cut by index.
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    indices = np.flatnonzero(values >= threshold)
    return indices[np.argsort(-values[indices], kind="stable")][:count]


def adjust_logits(logits: np.ndarray, history: Sequence[int], options: GenerationOptions) -> np.ndarray:
    """Apply the suppressed tokens and the repetition penalty (Keskar et al., "CTRL", 2019, section 4.1).

    Parameters
    ----------
    logits : ndarray, float32 [vocab]
        Not changed.
    history : sequence of int
        Every token of the context, prompt included: those are the ones that the penalty makes less likely.
    options : GenerationOptions
    """
    if options.repeat_penalty == 1.0 and not options.suppressed_token_ids:
        return logits
    adjusted = logits.copy()
    if options.repeat_penalty != 1.0:
        seen = np.unique(np.asarray(history, np.int64))
        penalty = np.float32(options.repeat_penalty)
        values = adjusted[seen]
        adjusted[seen] = np.where(values > 0, values / penalty, values * penalty)
    suppressed = [token for token in options.suppressed_token_ids if token < len(adjusted)]
    adjusted[suppressed] = -np.inf
    return adjusted


def _nucleus(probabilities: np.ndarray, top_p: float) -> np.ndarray:
    """Indices of the most likely of `probabilities`, best first, up to the one that completes the share `top_p`."""
    wanted = top_p * np.cumsum(probabilities, dtype=np.float64)[-1]
    size = NUCLEUS_GUESS  # sorting a whole vocabulary takes longer than computing a small model's logits
    while True:
        order = top_candidates(probabilities, size)
        cumulative = np.cumsum(probabilities[order], dtype=np.float64)
        if cumulative[-1] >= wanted or size >= len(probabilities):
            return order[: int(np.searchsorted(cumulative, wanted, side="left")) + 1]
        size *= 4


class Sampler:
    """Chooses the tokens of one text.

    The filters apply in the order of transformers, whose `generation_config.json` gives the defaults: repetition
    penalty, temperature, top-k, top-p, min-p.

    Parameters
    ----------
    options : GenerationOptions
    seed : int
        Stream of random numbers; unused when greedy.
    """

    def __init__(self, options: GenerationOptions, seed: int) -> None:
        self.seed = seed
        self._options = options
        # A temperature that float32 cannot tell from zero is zero.
        self._temperature = np.float32(options.temperature)

    def choose(self, logits: np.ndarray, history: Sequence[int], step: int) -> int:
        """The token that follows.

        Parameters
        ----------
        logits : ndarray, float32 [vocab]
        history : sequence of int
            The tokens of the context so far.
        step : int
            How many tokens of this text were chosen before: the counter of the draw.

        Raises
        ------
        NumericError
            If a logit is NaN or the best is infinite.
        """
        adjusted = adjust_logits(logits, history, self._options)
        best = best_token(adjusted)
        if self._temperature == 0:
            return best
        tokens, probabilities = self._distribution(adjusted, best)
        cumulative = np.cumsum(probabilities, dtype=np.float64)
        drawn = uniform(self.seed, step) * cumulative[-1]
        index = int(np.searchsorted(cumulative, drawn, side="right"))
        return int(tokens[min(index, len(tokens) - 1)])

    def _distribution(self, logits: np.ndarray, best: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens that survive the filters, and their weights (float32, not normalised again)."""
        options = self._options
        tokens = top_candidates(logits, options.top_k) if options.top_k else np.arange(len(logits))
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to minus infinity, as it should
            scaled = (logits[tokens] - logits[best]) / self._temperature
        probabilities = core.softmax(np.ascontiguousarray(scaled, np.float32))
        if options.top_p < 1.0:
            kept = _nucleus(probabilities, options.top_p)
            tokens, probabilities = tokens[kept], probabilities[kept]
        if options.min_p > 0.0:
            kept = probabilities >= np.float32(options.min_p) * probabilities.max()
            tokens, probabilities = tokens[kept], probabilities[kept]
        return tokens, probabilities
