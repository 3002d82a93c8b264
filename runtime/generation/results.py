"""What the verbs give back: small dataclasses that answer both `result.text` and `result["text"]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

try:
    import resource
except ImportError:  # Windows has no getrusage
    resource = None  # type: ignore[assignment]

__all__ = [
    "FinishReason",
    "GenerationChunk",
    "GenerationResult",
    "Hypothesis",
    "Timings",
    "TokenLogprob",
    "Usage",
    "peak_memory_bytes",
]

FinishReason = Literal["stop", "length", "cancelled", "error"]


def peak_memory_bytes() -> int | None:
    """The largest resident memory that this process has had, in bytes; None where the system does not tell."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


class Record:
    """A dataclass whose fields are also items: `record["text"]`, `dict(record)`, `"text" in record`."""

    def keys(self) -> list[str]:
        return [entry.name for entry in fields(self)]  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers all the way down: what `json.dumps` takes."""
        return asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Usage(Record):
    """Tokens counted. `prompt_tokens` are those that ran through the model, special ones included; `completion_tokens`
    those that were generated, the end token included; `truncated_tokens` those dropped because `truncate` asked for it.
    """

    prompt_tokens: int
    completion_tokens: int
    truncated_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Timings(Record):
    """Wall-clock times of the call that made the result; prompts of one batch share them.

    Attributes
    ----------
    time_to_first_token_ms : float
        From the call to the first token, reading the prompt included.
    generation_ms : float
        From the first token to the last.
    total_ms : float
    prompt_tokens_per_second, tokens_per_second : float
        Of the whole batch. Prompt tokens over the time that reading them took; the tokens after each text's first over
        the time that generating them took. Both times are sums over the groups that a long list is run in; 0 where
        there was nothing to measure.
    peak_memory_bytes : int or None
        Largest resident memory of the process so far.
    """

    time_to_first_token_ms: float
    generation_ms: float
    total_ms: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class TokenLogprob(Record):
    """The natural logarithm of a token's probability, of the model's own distribution before penalties and filters.

    `token` is spelled as in the vocabulary (a space may be U+2581 or U+0120 there). `top` lists the most likely tokens
    in its place, best first, where `logprobs=n` asked for n > 0.
    """

    token_id: int
    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Hypothesis(Record):
    """One text of a beam search: `score` is `log_prob / length ** length_penalty`, the end token counted in both, plus
    what `coverage_penalty` takes away. `logprobs` and `attention` are as in `GenerationResult`, of the distribution
    that the search follows, which is the one after penalties and bans.
    """

    text: str
    token_ids: list[int]
    score: float
    log_prob: float
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None
    attention: list[list[float]] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class GenerationResult(Record):
    """One generated text.

    Attributes
    ----------
    text : str
        The new text alone, without the prompt unless `echo` asked for it; cut before a stop string. Empty if the file
        carries no tokenizer.
    token_ids : list of int
        The new tokens, without the prompt and without the end token. Where a stop string ended the text, they include
        the tokens that completed it.
    finish_reason : {"stop", "length", "cancelled", "error"} or None
        An end token or a stop string; `max_tokens` or the end of the context; the caller; an error that the call
        raised. None while a stream runs.
    usage : Usage
    timings : Timings
    stop : str or None
        The stop string that ended the text.
    seed : int or None
        What reproduces a sampled text; None when nothing was drawn.
    log_prob : float or None
        Sum over the new tokens, the end token included; with `logprobs` or beams.
    logprobs : list of TokenLogprob or None
        One for each of `token_ids`, where asked for.
    hypotheses : list of Hypothesis or None
        Of a beam search, best first; the first is this result's text.
    attention : list of list of float or None
        Where asked for, of an encoder-decoder: for each of `token_ids`, how much of each token of the source was looked
        at when it was chosen, the mean over the heads of the last layer. A row adds up to 1.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None
    usage: Usage
    timings: Timings
    stop: str | None = None
    seed: int | None = None
    log_prob: float | None = None
    logprobs: list[TokenLogprob] | None = None
    hypotheses: list[Hypothesis] | None = field(default=None, repr=False)
    attention: list[list[float]] | None = field(default=None, repr=False)

    @property
    def alignments(self) -> list[tuple[int, int]] | None:
        """For each of `token_ids` its place and that of the token of the source that was looked at most."""
        if self.attention is None:
            return None
        return [(place, max(range(len(row)), key=row.__getitem__)) for place, row in enumerate(self.attention)]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class GenerationChunk(Record):
    """A piece of a stream: whole characters only, and never a part of a stop string.

    `index` tells the texts apart: the place of the prompt in a batch, with `n` texts of each, that place times `n` and
    the place among those; `token_ids` are the tokens since the chunk before; `finish_reason` is
    set on the last chunk of a text, whose `text` may be empty.
    """

    text: str
    token_ids: list[int]
    index: int = 0
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprob] | None = None

    def __str__(self) -> str:
        return self.text
