"""What a call's options do to logits before a token is chosen: biases, penalties, bans, the caller's own function.

The steps are in the order of transformers, whose `generation_config.json` gives the defaults: biases, repetition
penalty, presence and frequency penalty, repeated n-grams, bad words, least number of tokens, suppressed tokens, the
caller's function. Presence and frequency, which transformers does not have, stand beside the repetition penalty as in
llama.cpp. Only single operations of float32 are made, so that the bits are the same on every machine.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..errors import InvalidOptionError, quote
from .options import GenerationOptions

__all__ = ["Adjustments", "TextHistory", "nothing_left"]


class TextHistory:
    """What the steps ask of the tokens of a text, which grows at its end.

    Parameters
    ----------
    ngram_size : int
        Of the n-grams that `followers` knows; 0 for none.
    """

    def __init__(self, ngram_size: int = 0) -> None:
        self.tokens: list[int] = []
        self._ngram_size = ngram_size
        self._known: set[int] = set()
        self._seen = array("q")
        self._counts: dict[int, int] = {}
        self._followers: dict[tuple[int, ...], list[int]] = {}

    def read(self, tokens: Sequence[int], begin: int = 0) -> TextHistory:
        """Take in `tokens`, which begin with those of the call before: only their end is read. The text's own, without
        its prompt, are those from `begin` on.
        """
        for place in range(len(self.tokens), len(tokens)):
            token = tokens[place]
            self.tokens.append(token)
            if token not in self._known:
                self._known.add(token)
                self._seen.append(token)
            if place >= begin:
                self._counts[token] = self._counts.get(token, 0) + 1
            if 0 < self._ngram_size <= len(self.tokens):
                *before, last = self.tokens[-self._ngram_size :]
                self._followers.setdefault(tuple(before), []).append(last)
        return self

    def seen(self) -> np.ndarray:
        """Every token of the text and its prompt once, int64."""
        return np.array(self._seen)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Every token of the text without its prompt, int64, and how often it is there, float32."""
        values = np.fromiter(self._counts.values(), np.float32, len(self._counts))
        return np.fromiter(self._counts, np.int64, len(self._counts)), values

    def followers(self) -> list[int]:
        """Tokens that would end an n-gram which the text or its prompt has already."""
        if not 0 < self._ngram_size <= len(self.tokens) + 1:
            return []
        return self._followers.get(tuple(self.tokens[len(self.tokens) + 1 - self._ngram_size :]), [])

    def ends_with(self, tokens: tuple[int, ...]) -> bool:
        """Whether `tokens` are the last ones."""
        return len(tokens) <= len(self.tokens) and (not tokens or tuple(self.tokens[-len(tokens) :]) == tokens)


class Adjustments:
    """The steps that the options of one call ask for.

    Parameters
    ----------
    options : GenerationOptions
    end_token_ids : collection of int
        Tokens that end a text; as bad words they do not count, as in transformers.

    Attributes
    ----------
    idle : bool
        There is nothing to do: logits may be used as they are.
    bans_alone : bool
        All that is done is `ban`, which depends on lengths and not on what a text says.
    """

    def __init__(self, options: GenerationOptions, end_token_ids: Iterable[int] = ()) -> None:
        self._options = options
        self._ends = _ids(end_token_ids)
        self._bad_words = [words for words in options.bad_words if len(words) > 1]
        alone = {words[0] for words in options.bad_words if len(words) == 1} - {*end_token_ids}
        self._suppressed = _ids(options.suppressed_token_ids | alone)
        self._suppressed_first = _ids(options.begin_suppressed_token_ids)
        steps: dict[Callable[[np.ndarray, TextHistory, int], None], bool] = {
            self._bias: bool(options.sequence_bias),
            self._penalize_repetition: options.repeat_penalty != 1.0,
            self._penalize_counts: options.presence_penalty != 0.0 or options.frequency_penalty != 0.0,
            self._ban_ngrams: options.no_repeat_ngram_size > 0,
            self._ban_words: bool(self._bad_words),
            self._ban_tokens: bool(options.min_tokens or options.min_length)
            or bool(len(self._suppressed) or options.begin_suppressed_token_ids),
            self._call_processor: options.logits_processor is not None,
        }
        self._steps = [step for step, wanted in steps.items() if wanted]
        self.idle = not self._steps
        self.bans_alone = self._steps == [self._ban_tokens]

    def history(self) -> TextHistory:
        """A text's history, for `apply`."""
        return TextHistory(self._options.no_repeat_ngram_size)

    def apply(self, logits: np.ndarray, history: TextHistory, step: int) -> np.ndarray:
        """The logits after all steps.

        Parameters
        ----------
        logits : ndarray, float32 [vocab]
            Not changed; given back where there is nothing to do.
        history : TextHistory
            Of the text, prompt included.
        step : int
            How many tokens were chosen before.

        Raises
        ------
        InvalidOptionError
            If no token is left, or the caller's function gives something else than logits.
        """
        if self.idle:
            return logits
        row = logits.copy()
        for apply_step in self._steps:
            apply_step(row, history, step)
        if row.max() == -np.inf:
            raise nothing_left()
        return row

    def _bias(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        for (*before, last), bias in self._options.sequence_bias:
            if history.ends_with(tuple(before)):
                row[last] += np.float32(bias)

    def _penalize_repetition(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        """Keskar et al., "CTRL", 2019, section 4.1."""
        penalty, tokens = np.float32(self._options.repeat_penalty), history.seen()
        values = row[tokens]
        row[tokens] = np.where(values > 0, values / penalty, values * penalty)

    def _penalize_counts(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        """OpenAI's formula: logit - count * frequency - (count > 0) * presence, over the text without its prompt."""
        tokens, counts = history.counts()
        frequency, presence = np.float32(self._options.frequency_penalty), np.float32(self._options.presence_penalty)
        row[tokens] -= counts * frequency + presence

    def _ban_ngrams(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        row[history.followers()] = -np.inf

    def _ban_words(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        for *before, last in self._bad_words:
            if history.ends_with(tuple(before)):
                row[last] = -np.inf

    def ban(self, rows: np.ndarray, step: int, length: int) -> None:
        """Rule out, in float32 [..., vocab], the tokens that may not come after `step` new ones of a text that has
        `length` with its prompt.
        """
        too_short = step < self._options.min_tokens or length < self._options.min_length
        for wanted, tokens in ((True, self._suppressed), (too_short, self._ends), (step == 0, self._suppressed_first)):
            if wanted:
                rows[..., tokens[tokens < rows.shape[-1]]] = -np.inf

    def _ban_tokens(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        self.ban(row, step, len(history.tokens))

    def _call_processor(self, row: np.ndarray, history: TextHistory, step: int) -> None:
        processor = self._options.logits_processor
        assert processor is not None
        given = processor(list(history.tokens), row.copy())
        try:
            result = np.asarray(given, np.float32)
        except (TypeError, ValueError):
            raise InvalidOptionError(f"logits_processor: it must return logits, not {quote(given)}") from None
        if given is None or result.shape != row.shape:
            what = "nothing" if given is None else f"an array of shape {result.shape}"
            raise InvalidOptionError(f"logits_processor: it must return {len(row)} logits, and returned {what}")
        wrong = np.isnan(result) | (result == np.inf)
        if wrong.any():
            token = int(wrong.argmax())
            raise InvalidOptionError(f"logits_processor: it returned {result[token]} for token {token}")
        row[:] = result


def nothing_left() -> InvalidOptionError:
    """The error of bans that leave no token."""
    return InvalidOptionError("the options leave no token to choose: they ban all that the model knows")


def _ids(tokens: Iterable[int]) -> np.ndarray:
    return np.array(sorted(tokens), np.int64)
