"""Beam search: several texts of one prompt grown side by side, sharing the pages of their common beginning.

The rule, equal to CTranslate2's: every step, of all one-token continuations of a prompt's `n` beams, the `2 n` with the
greatest sum of log probabilities are looked at. Those of the first `n` that end (an end token, or the last step that
`max_tokens` allows) become hypotheses, and the best of the other `n` that do not end take their places. The search of
a prompt ends once it has `n` hypotheses. Then they are ranked by `log_prob / length ** length_penalty`, where the end
token counts in both.

With `early_stopping` False or "never" it goes on, as in transformers, as long as the best text that grows could still
become one of the best `n`: with the score that it has at its present length, or for "never" and a penalty above 0, at
the greatest length. With a `forced_eos_token_id` the last step that is allowed can only end a text, at no cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import NotEnoughMemoryError
from ..host.exact import power
from .adjustments import Adjustments, nothing_left
from .options import GenerationOptions
from .results import FinishReason
from .sampling import best_token

if TYPE_CHECKING:
    from ..engine.session import CachedSequence, Session

__all__ = ["BeamSearch", "FinishedBeam", "run_beams"]


@dataclass
class _Beam:
    """A text that grows: its cached sequence, the tokens not yet fed, the new tokens, the sum of their log probs."""

    sequence: CachedSequence
    pending: list[int]
    token_ids: list[int]
    log_prob: float
    log_probs: list[float]


@dataclass(frozen=True)
class FinishedBeam:
    """A hypothesis: new tokens without the end token; `length` counts it, and forced ones. `log_probs` are those
    of the tokens.
    """

    token_ids: list[int]
    log_prob: float
    length: int
    finish_reason: FinishReason
    log_probs: list[float]

    def score(self, length_penalty: float) -> float:
        """``log_prob / length ** length_penalty``, the same bits on every machine."""
        return self.log_prob / power(self.length, length_penalty)


class _Candidate(NamedTuple):
    beam: int
    token: int
    log_prob: float
    step_log_prob: float


@dataclass
class BeamSearch:
    """The search of one prompt.

    Parameters
    ----------
    prompt : list of int
        Tokens to feed first.
    options : GenerationOptions
    max_tokens : int
    end_token_ids : frozenset of int
    index : int
        Place in the batch.
    source_tokens : int
        Of what was read before the prompt.
    forced_tokens : int
        Of the prompt: those that scores count among the new ones, as if the search had found them.
    """

    prompt: list[int]
    options: GenerationOptions
    max_tokens: int
    end_token_ids: frozenset[int]
    index: int = 0
    source_tokens: int = 0
    forced_tokens: int = 0
    steps: int = 0
    postponed: bool = False
    beams: list[_Beam] = field(default_factory=list)
    finished: list[FinishedBeam] = field(default_factory=list)

    @property
    def to_read(self) -> int:
        """Tokens that the first step reads: of the prompt or the source."""
        return max(self.source_tokens, len(self.prompt))

    @property
    def length(self) -> int:
        """Tokens that a score counts in a text that ends now."""
        return self.forced_tokens + self.steps

    @property
    def width(self) -> int:
        """Sequences that this search takes."""
        return self.options.num_beams

    def postpone(self) -> None:
        """Give all pages back and wait for others to end; `start` begins anew."""
        self.free()
        self.steps, self.finished, self.postponed = 0, [], True

    def start(self, sequence: CachedSequence) -> None:
        """Begin in `sequence`, which this search will free, as its forks."""
        self.postponed = False
        self.beams = [_Beam(sequence, list(self.prompt), [], 0.0, [])]

    def ranked(self) -> list[FinishedBeam]:
        """The best hypotheses found, best first, at most `num_beams`."""
        penalty = self.options.length_penalty
        ordered = sorted(self.finished, key=lambda beam: beam.score(penalty), reverse=True)
        return ordered[: self.options.num_beams]

    def advance(self, tokens: np.ndarray, log_probs: np.ndarray) -> None:
        """Take one step: for each of `beams` the likeliest tokens after its pending ones, [beams, 2 n], best first."""
        self.steps += 1
        is_last = self.steps >= self.max_tokens
        count = self.options.num_beams
        if is_last and self.options.forced_eos_token_id is not None:
            for beam in self.beams:
                self.finished.append(FinishedBeam(beam.token_ids, beam.log_prob, self.length, "length", beam.log_probs))
            self._replace_beams([])
            return
        candidates = self._candidates(tokens, log_probs)
        spare = iter([item for item in candidates[count:] if item.token not in self.end_token_ids])
        growing: list[_Candidate] = []
        for candidate in candidates[:count]:
            ends = candidate.token in self.end_token_ids
            if ends or is_last:
                self._register(candidate, ends)
                growing.extend(item for item in [next(spare, None)] if item is not None)
            else:
                growing.append(candidate)
        self._replace_beams([] if is_last or self._is_over(growing) else growing)

    def _is_over(self, growing: Sequence[_Candidate]) -> bool:
        """Whether there are enough hypotheses, and nothing of what grows is looked for any more."""
        options = self.options
        if len(self.finished) < options.num_beams or options.early_stopping is True or not growing:
            return len(self.finished) >= options.num_beams
        self.finished = self.ranked()
        to_the_end = options.early_stopping == "never" and options.length_penalty > 0
        length = self.forced_tokens + self.max_tokens if to_the_end else self.length
        best = max(candidate.log_prob for candidate in growing) / power(length, options.length_penalty)
        return best <= self.finished[-1].score(options.length_penalty)

    def free(self) -> None:
        """Give the pages of all beams back. May be called again."""
        self._replace_beams([])

    def _candidates(self, tokens: np.ndarray, log_probs: np.ndarray) -> list[_Candidate]:
        """The 2 n best continuations of all beams, best first; of equals, the earlier beam and the lower token."""
        count = 2 * self.options.num_beams
        sums = np.array([beam.log_prob for beam in self.beams])[:, None] + log_probs.astype(np.float64)
        beams = np.repeat(np.arange(len(self.beams)), tokens.shape[1])
        order = np.lexsort((tokens.ravel(), beams, -sums.ravel()))[:count]
        columns = (values.ravel()[order].tolist() for values in (beams, tokens, sums, log_probs))
        found = map(_Candidate, *columns)
        return [candidate for candidate in found if candidate.log_prob > -math.inf]  # suppressed tokens are none

    def adjust(self, logits: np.ndarray, adjustments: Adjustments) -> None:
        """Do to `logits`, float32 [beams, vocab], what the options ask for."""
        if adjustments.bans_alone:
            adjustments.ban(logits, self.steps, len(self.prompt) + self.steps)
            return
        begin = len(self.prompt)
        for row, beam in zip(logits, self.beams, strict=True):
            history = adjustments.history().read([*self.prompt, *beam.token_ids], begin)
            row[:] = adjustments.apply(row, history, len(beam.token_ids))

    def _register(self, candidate: _Candidate, ends: bool) -> None:
        beam = self.beams[candidate.beam]
        tokens = beam.token_ids if ends else [*beam.token_ids, candidate.token]
        log_probs = beam.log_probs if ends else [*beam.log_probs, candidate.step_log_prob]
        reason: FinishReason = "stop" if ends else "length"
        self.finished.append(FinishedBeam(tokens, candidate.log_prob, self.length, reason, log_probs))

    def _replace_beams(self, growing: Sequence[_Candidate]) -> None:
        """Let `growing` continue: a beam's sequence goes to its first child, forks go to the others."""
        old, self.beams = self.beams, []
        taken: set[int] = set()
        try:
            for candidate in growing:
                parent = old[candidate.beam]
                sequence = parent.sequence.fork() if candidate.beam in taken else parent.sequence
                taken.add(candidate.beam)
                tokens = [*parent.token_ids, candidate.token]
                log_probs = [*parent.log_probs, candidate.step_log_prob]
                self.beams.append(_Beam(sequence, [candidate.token], tokens, candidate.log_prob, log_probs))
        finally:
            for index, beam in enumerate(old):
                if index not in taken:
                    beam.sequence.free()


def run_beams(session: Session, searches: Sequence[BeamSearch], cancel: Any, on_step: Callable[[], None]) -> None:
    """Run `searches`, started, to their ends, all beams of all prompts in one ragged forward a step.

    However it ends, the pages of all beams are free afterwards. Where the caches become full, the last searches are
    postponed.

    Raises
    ------
    GenerationCancelled
        If the `cancel` flag is set.
    """
    adjustments = Adjustments(searches[0].options, searches[0].end_token_ids) if searches else None
    memory: np.ndarray | None = None
    try:
        while active := [search for search in searches if search.beams]:
            feeds = [(beam.sequence, beam.pending) for search in active for beam in search.beams]
            try:
                logits = session.forward(feeds, outputs="last", cancel=cancel, out=memory)
            except NotEnoughMemoryError:
                if len(active) == 1:
                    raise
                active[-1].postpone()
                continue
            memory = logits if memory is None or len(logits) > len(memory) else memory
            ends = list(accumulate(len(search.beams) for search in active))
            parts = [slice(end - len(search.beams), end) for search, end in zip(active, ends, strict=True)]
            if adjustments is not None and not adjustments.idle:
                for search, part in zip(active, parts, strict=True):
                    search.adjust(logits[part], adjustments)
            tokens, log_probs = session.top_log_probs(logits, 2 * active[0].options.num_beams)
            if np.isnan(log_probs).any():
                for row in logits:
                    if row.max() == -np.inf:
                        raise nothing_left()
                    best_token(row)  # refuses the one to blame
            for search, part in zip(active, parts, strict=True):
                search.advance(tokens[part], log_probs[part])
            on_step()
    finally:
        for search in searches:
            search.free()
