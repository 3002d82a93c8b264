"""One call of `generate`: prompts placed in the context, run in groups that fit in memory, made into results."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._kernels import core
from ..engine.cache import pages_of
from ..engine.memory_plan import MAX_SEQUENCES
from ..errors import GenerationCancelled, InvalidOptionError, quote
from ..generation.alignment import coverage_score, source_attention
from ..generation.beams import BeamSearch, FinishedBeam, run_beams
from ..generation.loop import Stopwatch, TextRun, prime_stream, run_texts
from ..generation.options import GenerationOptions, parse_options
from ..generation.results import (
    FinishReason,
    GenerationChunk,
    GenerationResult,
    Hypothesis,
    Timings,
    TokenLogprob,
    Usage,
)
from ..generation.streams import GenerationStream
from ..host.memory import ShortMemory
from ..text.defaults import checked_integer
from .base import VerbBase, is_single, listed
from .placing import Fitted, fit_prompts, prompt_ids

if TYPE_CHECKING:
    from ..engine.session import Session
    from ..text.tokenizer import Tokenizer

__all__ = ["GenerationJob", "Results", "call_options", "end_token_ids"]

Results = GenerationResult | list[GenerationResult] | list[list[GenerationResult]]


class GenerationJob:
    """One call of `generate`, checked when it is made, before anything runs."""

    @ShortMemory("generate")
    def __init__(
        self,
        verbs: VerbBase,
        session: Session,
        prompt: Any,
        arguments: Mapping[str, Any],
        stream: bool,
        n: int | None,
    ) -> None:
        self._session = session
        self._verbs = verbs
        cancel = arguments.get("cancel")
        if cancel is not None and not isinstance(cancel, core.CancelFlag):
            raise InvalidOptionError("cancel: a CancelFlag is needed")
        self.cancel = core.CancelFlag(cancel)  # ends this call alone; the caller's flag ends it as well
        self._options = call_options(verbs, arguments, stream, n)
        self._options.check_ids(session.vocab_size)
        self._wants_lists, self._n = n is not None, n or 1
        prompts, self._single = prompt_ids(verbs, session, prompt, arguments)
        if self._options.seeds is not None and len(self._options.seeds) not in (1, len(prompts)):
            raise InvalidOptionError(f"seed: {len(self._options.seeds)} seeds for {len(prompts)} prompts")
        self._echoes = _echoes(verbs, session, prompt, prompts) if self._options.echo else [""] * len(prompts)
        self._fitted = fit_prompts(verbs, session, prompts, arguments, self._options)
        self._watch = Stopwatch()
        self._runs: list[TextRun] = []

    @ShortMemory("generate")
    def run(self) -> Results:
        """Generate to the end."""
        if self._options.num_beams > 1:
            results = self._run_beams()
        else:
            for _ in self._chunks():
                pass
            results = self._results()
        if self._wants_lists:
            lists = [results[begin : begin + self._n] for begin in range(0, len(results), self._n)]
            return lists[0] if self._single else lists
        return results[0] if self._single else results

    def stream(self) -> GenerationStream:
        """Generate as the caller iterates; nothing runs, nor is memory taken, before the first chunk is asked for."""
        return GenerationStream(self._chunks(), self.cancel, self._results)

    def _chunks(self) -> Generator[GenerationChunk, None, None]:
        self._watch = Stopwatch()
        waiting = self._make_runs()
        unfinished: FinishReason = "cancelled"  # where the caller closed the stream or pressed Ctrl-C
        try:
            while waiting and not self.cancel.is_set():
                group = waiting[: self._room_for(waiting)]
                texts = [run for first in group for run in (first, *first.copies)]
                try:
                    self._start(group)
                except GenerationCancelled:
                    break
                yield from run_texts(self._session, group, self.cancel, self._watch.step)
                waiting = [run for run in texts if run.postponed] + waiting[len(group) :]
            yield from [run.finish("cancelled") for run in self._runs if run.finish_reason is None]
        except Exception:
            unfinished = "error"
            raise
        finally:
            for run in self._runs:
                if run.finish_reason is None:
                    run.finish(unfinished)

    def _make_runs(self) -> list[TextRun]:
        """Makes a run for each text, and gives those whose copies are the others."""
        ends, tokenizer = end_token_ids(self._verbs), self._verbs.target_tokenizer
        self._runs = [
            TextRun(
                fitted.feed,
                self._options,
                max_tokens=fitted.max_tokens,
                end_token_ids=ends,
                tokenizer=tokenizer,
                index=index * self._n + text,
                prompt_tokens=len(fitted.prompt),
                truncated_tokens=fitted.truncated,
                seed=self._options.seed_of(index, text),
                echo=self._echoes[index],
            )
            for index, fitted in enumerate(self._fitted)
            for text in range(self._n)
        ]
        firsts = []
        for begin in range(0, len(self._runs), self._n):
            runs = self._runs[begin : begin + self._n]
            for first in range(0, self._n, MAX_SEQUENCES):
                runs[first].copies = runs[first + 1 : first + MAX_SEQUENCES]
                firsts.append(runs[first])
        return firsts

    def _room_for(self, waiting: Sequence[TextRun | BeamSearch]) -> int:
        """How many of the first of these texts the caches have room for, at least one.

        They are counted as long as they are now, for most end early; those that were postponed once, at their longest.
        """
        pages = self._session.contexts * pages_of(self._session.n_ctx)
        sequences, count = MAX_SEQUENCES, 0
        for item in waiting:
            longest = pages_of(self._fitted[item.index // self._n].longest)
            pages -= item.width * longest if item.postponed else pages_of(item.to_read + 1) + item.width - 1
            sequences -= item.width
            if pages < 0 or sequences < 0:
                break
            count += 1
        return max(count, 1)

    def _start(self, group: Sequence[TextRun | BeamSearch]) -> None:
        """Gives each text its sequence; where the model has sources, reads them."""
        texts = sum(item.width if isinstance(item, TextRun) else 1 for item in group)
        self._watch.begin(sum(item.to_read for item in group), texts)
        if self._session.needs_source:
            sources = [self._fitted[item.index // self._n].prompt for item in group]
            sequences = self._session.encode_source(sources, self.cancel)
        else:
            sequences = [self._session.new_sequence() for _ in group]
        for item, sequence in zip(group, sequences, strict=True):
            item.start(sequence)

    def _results(self) -> list[GenerationResult]:
        timings = self._watch.timings(sum(run.completion_tokens for run in self._runs))
        results = [run.result(timings) for run in self._runs]
        if not self._options.attention:
            return results
        return [self._with_attention(place, result) for place, result in enumerate(results)]

    def _with_attention(self, place: int, result: GenerationResult) -> GenerationResult:
        """The result with where it looked, once it is over."""
        if result.finish_reason is None:
            return result
        rows = self._attention(self._fitted[place // self._n], result.token_ids)
        return replace(result, attention=rows[:-1].tolist())

    def _attention(self, fitted: Fitted, token_ids: list[int]) -> np.ndarray:
        return source_attention(self._session, fitted.prompt, fitted.feed, token_ids)

    def _run_beams(self) -> list[GenerationResult]:
        self._watch = Stopwatch()
        ends = end_token_ids(self._verbs)
        searches = [
            BeamSearch(fitted.feed, self._options, fitted.max_tokens, ends, index, len(fitted.prompt), fitted.forced)
            for index, fitted in enumerate(self._fitted)
        ]
        waiting, cancelled = searches, False
        try:
            while waiting:
                group = waiting[: self._room_for(waiting)]
                self._start(group)
                run_beams(self._session, group, self.cancel, self._watch.step)
                waiting = [search for search in group if search.postponed] + waiting[len(group) :]
        except GenerationCancelled:
            cancelled = True
        timings = self._watch.timings(sum(search.steps for search in searches))
        pairs = zip(searches, self._fitted, strict=True)
        return [self._beam_result(search, fitted, timings, cancelled) for search, fitted in pairs]

    def _beam_result(self, search: BeamSearch, fitted: Fitted, timings: Timings, cancelled: bool) -> GenerationResult:
        hypotheses = self._hypotheses(search, fitted)
        usage = Usage(len(fitted.prompt), search.steps, fitted.truncated)
        if not hypotheses:
            return GenerationResult("", [], "cancelled" if cancelled else "stop", usage, timings, hypotheses=[])
        best = hypotheses[0]
        return GenerationResult(
            text=best.text,
            token_ids=best.token_ids,
            finish_reason="cancelled" if cancelled else best.finish_reason,
            usage=usage,
            timings=timings,
            log_prob=best.log_prob,
            logprobs=best.logprobs,
            hypotheses=hypotheses,
            attention=best.attention,
        )

    def _hypotheses(self, search: BeamSearch, fitted: Fitted) -> list[Hypothesis]:
        """The best of a search, best first."""
        options = self._options
        if not options.coverage_penalty:
            ranked = search.ranked()
            return [self._hypothesis(beam, fitted, beam.score(options.length_penalty)) for beam in ranked]
        scores = []
        for beam in search.finished:
            rows = self._attention(fitted, beam.token_ids)[: beam.length - fitted.forced]
            lost = coverage_score(rows, options.coverage_penalty)
            scores.append((beam.score(options.length_penalty) + lost, beam))
        scores.sort(key=lambda entry: entry[0], reverse=True)
        return [self._hypothesis(beam, fitted, score) for score, beam in scores[: options.num_beams]]

    def _hypothesis(self, beam: FinishedBeam, fitted: Fitted, score: float) -> Hypothesis:
        tokenizer, logprobs, attention = self._verbs.target_tokenizer, None, None
        if self._options.logprobs is not None:
            pieces = [tokenizer.token(token) if tokenizer is not None else "" for token in beam.token_ids]
            entries = zip(beam.token_ids, pieces, beam.log_probs, strict=True)
            logprobs = [TokenLogprob(*entry) for entry in entries]
        if self._options.attention:
            attention = self._attention(fitted, beam.token_ids)[:-1].tolist()
        text = _decode_after(tokenizer, fitted.feed, beam.token_ids)
        return Hypothesis(text, beam.token_ids, score, beam.log_prob, beam.finish_reason, logprobs, attention)


def call_options(
    verbs: VerbBase, arguments: Mapping[str, Any], stream: bool = False, n: int | None = None
) -> GenerationOptions:
    """The options of a call, checked with `stream` and `n`."""
    tokenizer = verbs.target_tokenizer

    def spell(word: str) -> list[list[int]]:
        assert tokenizer is not None
        spellings = [tokenizer.encode(text, add_special_tokens=False) for text in (word, " " + word)]
        return spellings if spellings[0] != spellings[1] else spellings[:1]

    options = parse_options("generate", arguments, verbs._defaults, None if tokenizer is None else spell)
    explicit_beams = arguments.get("num_beams") is not None
    if stream:
        options = options.without_beams("stream=True", explicit_beams)
    if n is not None:
        options = options.without_beams(f"n={quote(n)}", explicit_beams)
        if checked_integer("n", n, 1) > 1 and options.temperature == 0:
            raise InvalidOptionError(f"n={n} greedy texts of one prompt would be the same: give a temperature")
    return options


def _echoes(verbs: VerbBase, session: Session, prompt: Any, ids: list[list[int]]) -> list[str]:
    """What `echo` puts in front of the text of each prompt: the prompt, or the text of its ids."""
    if session.needs_source:
        raise InvalidOptionError("echo: the text of an encoder-decoder does not go on from its source")
    prompts = [prompt] if is_single(prompt) else listed(prompt, "prompt")
    tokenizer = verbs.target_tokenizer
    if tokenizer is None:
        return [""] * len(ids)
    pairs = zip(prompts, ids, strict=True)
    return [given if isinstance(given, str) else tokenizer.decode(its) for given, its in pairs]


def end_token_ids(verbs: VerbBase) -> frozenset[int]:
    """Tokens that end a generated text: the tokenizer's and those of the file's generation defaults."""
    tokenizer = verbs.target_tokenizer
    return verbs._defaults.end_token_ids | (tokenizer.end_token_ids if tokenizer is not None else frozenset())


def _decode_after(tokenizer: Tokenizer | None, prompt: list[int], ids: list[int]) -> str:
    """Text of `ids` as it continues `prompt`."""
    if tokenizer is None:
        return ""
    stream = prime_stream(tokenizer, prompt)
    return "".join([stream.push(token) for token in ids]) + str(stream.finish())
