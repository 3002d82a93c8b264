"""The loop that turns prompts into texts: one ragged forward a step for all texts that still run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._kernels import core
from ..errors import GenerationCancelled, NotEnoughMemoryError
from ..text.stop_strings import StopStrings
from .options import GenerationOptions
from .results import FinishReason, GenerationChunk, GenerationResult, Timings, TokenLogprob, Usage, peak_memory_bytes
from .sampling import Sampler, log_probs_of

if TYPE_CHECKING:
    from ..engine.session import CachedSequence, Session
    from ..text.tokenizer import Tokenizer

__all__ = ["Stopwatch", "TextRun", "prime_stream", "run_texts"]

# A decoder of streams needs to know what stood before the first new token (a leading space is dropped only at the start
# of a text), for which the tail of the prompt is enough.
PROMPT_TAIL = 16


class Stopwatch:
    """Wall-clock times of one call, whose texts run in one group or in several, one after the other.

    A group's first step reads its prompts and gives the first token of each text; the later steps generate.
    """

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._first: float | None = None
        self._begun = (0, 0)  # prompt tokens and texts of a group whose first step is not done
        self._prompt_tokens = self._first_tokens = 0
        self._reading = self._generating = 0.0

    def begin(self, prompt_tokens: int, texts: int) -> None:
        """A group of `texts` starts, with `prompt_tokens` to read."""
        self._last = time.perf_counter()
        self._begun = prompt_tokens, texts

    def step(self) -> None:
        """A forward pass ended and its tokens are chosen."""
        before, self._last = self._last, time.perf_counter()
        prompt_tokens, texts = self._begun
        if texts:
            self._reading += self._last - before
            self._prompt_tokens += prompt_tokens
            self._first_tokens += texts
            self._begun = 0, 0
        else:
            self._generating += self._last - before
        if self._first is None:
            self._first = self._last

    def timings(self, completion_tokens: int) -> Timings:
        """Times so far of a call that has generated `completion_tokens`, all texts together."""
        first = self._last if self._first is None else self._first
        later_tokens = completion_tokens - self._first_tokens
        return Timings(
            time_to_first_token_ms=(first - self._start) * 1e3,
            generation_ms=(self._last - first) * 1e3,
            total_ms=(self._last - self._start) * 1e3,
            prompt_tokens_per_second=self._prompt_tokens / self._reading if self._reading > 0 else 0.0,
            tokens_per_second=later_tokens / self._generating if self._generating > 0 else 0.0,
            peak_memory_bytes=peak_memory_bytes(),
        )


def prime_stream(tokenizer: Tokenizer | None, prompt: Sequence[int]) -> Any:
    """A stream decoder of `tokenizer` that knows what the new text continues; None without a tokenizer."""
    if tokenizer is None:
        return None
    stream = tokenizer.stream()
    for token in prompt[-PROMPT_TAIL:]:
        stream.push(token)
    return stream


class TextRun:
    """One text being generated: its cached sequence, its tokens, and what of it may be shown.

    Parameters
    ----------
    prompt : list of int
        Tokens to feed first. For an encoder-decoder, the decoder's start token.
    options : GenerationOptions
    max_tokens : int
        At most so many new tokens; at least 1.
    end_token_ids : frozenset of int
    tokenizer : Tokenizer or None
    index : int
        Place among the texts of the call.
    prompt_tokens, truncated_tokens : int
        For `Usage`.
    seed : int, optional
        Of the draws; default: a fresh one.
    echo : str
        What is shown before the new text.

    Attributes
    ----------
    copies : list of TextRun
        Texts of the same prompt that begin once it is read.
    """

    def __init__(
        self,
        prompt: list[int],
        options: GenerationOptions,
        *,
        max_tokens: int,
        end_token_ids: frozenset[int],
        tokenizer: Tokenizer | None,
        index: int = 0,
        prompt_tokens: int | None = None,
        truncated_tokens: int = 0,
        seed: int | None = None,
        echo: str = "",
    ) -> None:
        self.index = index
        self.copies: list[TextRun] = []
        self.prompt_tokens = len(prompt) if prompt_tokens is None else prompt_tokens
        self.truncated_tokens = truncated_tokens
        self.finish_reason: FinishReason | None = None
        self.postponed = False
        self.completion_tokens = 0
        self.sequence: CachedSequence | None = None
        self.pending = list(prompt)
        self._history = list(prompt)
        self._options = options
        self._max_tokens = max_tokens
        self._end_token_ids = end_token_ids
        self._tokenizer = tokenizer
        self._stream = prime_stream(tokenizer, prompt)
        self._stop = StopStrings(options.stop)
        self._sampler = Sampler(options, _fresh_seed(options) if seed is None else seed, end_token_ids)
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._log_prob = 0.0
        self._echo = echo
        self._shown: list[str] = []
        self._reported = 0

    @property
    def to_read(self) -> int:
        """Tokens that the next step reads first: of the prompt or source, and of the text if it was postponed."""
        return max(self.prompt_tokens, len(self.pending))

    @property
    def width(self) -> int:
        """Sequences that this run and its copies take."""
        return 1 + len(self.copies)

    def start(self, sequence: CachedSequence) -> None:
        """Take over `sequence`, which this run will free, to run in."""
        self.sequence, self.postponed = sequence, False

    def postpone(self) -> None:
        """Give the pages back and wait for others to end; `start` goes on where the text is."""
        self.free()
        self.pending, self.postponed = list(self._history), True

    def begun(self) -> list[TextRun]:
        """This run, whose prompt is read, and its copies, which from here on run in forks of its sequence."""
        copies, self.copies = self.copies, []
        if self.sequence is not None:
            for copy in copies:
                copy.start(self.sequence.fork())
        return [self, *copies]

    def accept(self, logits: np.ndarray) -> GenerationChunk | None:
        """Choose the next token from `logits` (float32 [vocab]); give the chunk to show, if there is one."""
        if self._options.forced_eos_token_id is not None and self.completion_tokens + 1 >= self._max_tokens:
            self.completion_tokens += 1
            return self.finish("length")  # the only room left is the end token's
        token = self._sampler.choose(logits, self._history, self.completion_tokens)
        self.completion_tokens += 1
        entry = self._describe(logits, token)
        if token in self._end_token_ids:
            return self.finish("stop")
        self._history.append(token)
        self._token_ids.append(token)
        self.pending = [token]
        if entry is not None:
            self._logprobs.append(entry)
        text = self._stop.push(self._stream.push(token) if self._stream else "")
        if self._stop.found is not None:
            return self.finish("stop", text)
        if self.completion_tokens >= self._max_tokens:
            return self.finish("length", text)
        return self._chunk(text) if text or self._stream is None or self._echo else None

    def finish(self, reason: FinishReason, text: str = "") -> GenerationChunk:
        """End the text and free its pages; `text` is the last piece that may be shown, before what was held back."""
        self.finish_reason = reason
        self.free()
        if self._stop.found is None:
            rest = self._stream.finish() if self._stream else ""
            text += self._stop.push(rest)
            if self._stop.found is None:
                text += self._stop.finish()
        return self._chunk(text)

    def free(self) -> None:
        """Give the sequence's pages back. May be called again."""
        sequence, self.sequence = self.sequence, None
        if sequence is not None:
            sequence.free()

    def result(self, timings: Timings) -> GenerationResult:
        """What there is so far."""
        wants_logprobs = self._options.logprobs is not None
        return GenerationResult(
            text="".join(self._shown),
            token_ids=list(self._token_ids),
            finish_reason=self.finish_reason,
            usage=Usage(self.prompt_tokens, self.completion_tokens, self.truncated_tokens),
            timings=timings,
            stop=self._stop.found,
            seed=self._sampler.seed if self._options.temperature > 0 else None,
            log_prob=self._log_prob if wants_logprobs else None,
            logprobs=list(self._logprobs) if wants_logprobs else None,
        )

    def _chunk(self, text: str) -> GenerationChunk:
        start, self._reported = self._reported, len(self._token_ids)
        text, self._echo = self._echo + text, ""
        if text:
            self._shown.append(text)
        return GenerationChunk(
            text=text,
            token_ids=self._token_ids[start:],
            index=self.index,
            finish_reason=self.finish_reason,
            logprobs=self._logprobs[start:] if self._options.logprobs is not None else None,
        )

    def _describe(self, logits: np.ndarray, token: int) -> TokenLogprob | None:
        if self._options.logprobs is None:
            return None
        top = core.top(logits, self._options.logprobs) if self._options.logprobs else ()
        tokens = [token, *map(int, top)]
        log_prob, *others = map(float, log_probs_of(logits, np.array(tokens)))
        self._log_prob += log_prob
        pairs = zip(tokens[1:], others, strict=True)
        entries = tuple(TokenLogprob(other, self._spell(other), log_prob_of) for other, log_prob_of in pairs)
        return TokenLogprob(token, self._spell(token), log_prob, entries)

    def _spell(self, token: int) -> str:
        return self._tokenizer.token(token) if self._tokenizer is not None else ""


def run_texts(
    session: Session, runs: Sequence[TextRun], cancel: Any, on_step: Callable[[], None]
) -> Iterator[GenerationChunk]:
    """Generate all `runs` together; give chunks as they come.

    However the iterator ends (exhausted, closed, Ctrl-C, an error) every run's pages are free afterwards. A set
    `cancel` flag ends the texts that still run with the reason "cancelled". Where the caches become full, the last
    texts are postponed.

    Parameters
    ----------
    session : Session
    runs : sequence of TextRun
        Started.
    cancel : CancelFlag
    on_step : callable
        Called after each forward pass whose tokens are chosen.
    """
    active, texts = list(runs), [text for run in runs for text in (run, *run.copies)]
    memory: np.ndarray | None = None
    try:
        while active:
            try:
                feeds = [(run.sequence, run.pending) for run in active if run.sequence is not None]
                logits = session.forward(feeds, outputs="last", cancel=cancel, out=memory)
            except GenerationCancelled:
                yield from [run.finish("cancelled") for run in active]
                return
            except NotEnoughMemoryError:
                if len(active) == 1:
                    raise
                active.pop().postpone()
                continue
            memory = logits if memory is None or len(logits) > len(memory) else memory
            pairs = [(run, row) for first, row in zip(active, logits, strict=True) for run in first.begun()]
            chunks = [run.accept(row) for run, row in pairs]
            on_step()
            yield from (chunk for chunk in chunks if chunk is not None)
            active = [run for run, _ in pairs if run.finish_reason is None]
    finally:
        for run in texts:
            run.free()


def _fresh_seed(options: GenerationOptions) -> int:
    return int.from_bytes(os.urandom(8), "little") >> 1 if options.temperature > 0 else 0
