"""`generate` and `agenerate`: new text from a prompt."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

from .._kernels import core
from ..engine.cache import pages_of
from ..engine.memory_plan import MAX_SEQUENCES
from ..errors import ContextOverflowError, GenerationCancelled, InvalidInputError, InvalidOptionError
from ..generation.beams import BeamSearch, FinishedBeam, run_beams
from ..generation.loop import Stopwatch, TextRun, prime_stream, run_texts
from ..generation.options import GenerationArguments, GenerationOptions, parse_options, shows_options
from ..generation.results import FinishReason, GenerationChunk, GenerationResult, Hypothesis, Timings, Usage
from ..generation.streams import AsyncGenerationStream, GenerationStream, run_in_thread
from ..host.memory import ShortMemory
from .base import Prompt, Prompts, VerbBase, decoder_start

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..engine.session import Session
    from ..text.tokenizer import Tokenizer

__all__ = ["GenerationVerbs"]

Results = GenerationResult | list[GenerationResult]


class GenerationVerbs(VerbBase):
    """Verbs of models that generate text: decoders and encoder-decoders."""

    @overload
    def generate(
        self, prompt: Prompt, *, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> GenerationResult: ...

    @overload
    def generate(
        self, prompt: Prompts, *, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[GenerationResult]: ...

    @overload
    def generate(
        self, prompt: Prompt | Prompts, *, stream: Literal[True], **options: Unpack[GenerationArguments]
    ) -> GenerationStream: ...

    @shows_options
    def generate(self, prompt: Any, *, stream: bool = False, **options: Any) -> Results | GenerationStream:
        """Generate text that continues `prompt`, or for an encoder-decoder, text made from the source `prompt`.

        Parameters
        ----------
        prompt : str, list of int, or a list of either
            Text, or token ids (used as they are: no special token is added). A list is generated as one batch and
            gives a list; each text is the same as if it had been generated alone. Of long lists, as many run at a time
            as have room in the caches. An empty prompt means the beginning of a text, for models that have a token for
            it.
        stream : bool
            Give an iterator of `GenerationChunk` instead (see `GenerationStream`).
        max_tokens : int, optional
            At most so many new tokens; `max_new_tokens` and `max_completion_tokens` are other names for it. Default:
            to the end token, or to the end of the context.
        temperature, top_k, top_p, min_p, repeat_penalty : optional
            Sampling; the defaults are those of the model's `generation_config.json`, or else greedy. Temperature 0 is
            greedy; `top_k` 0, `top_p` 1 and `min_p` 0 switch a filter off. The filters apply in that order, after the
            penalty, which concerns every token of the context. Giving a filter and no temperature is asking for
            sampling.
        seed : int or list of int, optional
            The same seed gives the same tokens on every CPU. One for all prompts or one for each. Default: a fresh
            one each, reported in the result.
        stop : str or list of str, optional
            End before the first of these strings.
        logprobs : int, optional
            Give the log probability of every token and of so many of the most likely ones beside it; 0: of the token.
        num_beams, length_penalty : optional
            Beam search (its rule is in `edgeformer.beam`); all hypotheses are in the result. It is never sampled, and
            cannot be streamed or combined with `stop` or `logprobs`.
        truncate : "left", optional
            Drop the oldest tokens of a prompt that does not fit, except a leading start-of-text token, so that
            `max_tokens` new ones (or at least one) have room.
        cancel : CancelFlag, optional
            Setting it, from any thread, ends the call within one token with `finish_reason` "cancelled".

        Returns
        -------
        GenerationResult, list of GenerationResult, or GenerationStream

        Raises
        ------
        ContextOverflowError
            If prompt and `max_tokens` do not fit in the context.
        InvalidInputError
            For an empty prompt of a model without a start-of-text token, or a token out of range.
        InvalidOptionError
            For an unknown, wrong or contradicting option.
        UnsupportedModelError
            If the model does not generate text.
        """
        session = self._require("generate")
        job = _Job(self, session, prompt, options, stream)
        return job.stream() if stream else job.run()

    @overload
    async def agenerate(
        self, prompt: Prompt, *, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> GenerationResult: ...

    @overload
    async def agenerate(
        self, prompt: Prompts, *, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[GenerationResult]: ...

    @overload
    async def agenerate(
        self, prompt: Prompt | Prompts, *, stream: Literal[True], **options: Unpack[GenerationArguments]
    ) -> AsyncGenerationStream: ...

    @shows_options
    async def agenerate(self, prompt: Any, *, stream: bool = False, **options: Any) -> Results | AsyncGenerationStream:
        """`generate` as a coroutine: ``await model.agenerate(...)``, or with `stream=True`
        ``async for chunk in await model.agenerate(..., stream=True)``.

        The model runs in a thread of the event loop's default executor. Cancelling the task stops the model within one
        token, waits for that, and then raises `asyncio.CancelledError` as usual.
        """
        session = self._require("agenerate")
        job = _Job(self, session, prompt, options, stream)
        if stream:
            return AsyncGenerationStream(job.stream())
        return await run_in_thread(job.run, job.cancel.set)


class _Job:
    """One call of `generate`, checked when it is made, before anything runs."""

    @ShortMemory("generate")
    def __init__(
        self, verbs: VerbBase, session: Session, prompt: Any, arguments: Mapping[str, Any], stream: bool
    ) -> None:
        self._session = session
        self._verbs = verbs
        cancel = arguments.get("cancel")
        if cancel is not None and not isinstance(cancel, core.CancelFlag):
            raise InvalidOptionError("cancel: a CancelFlag is needed")
        self.cancel = core.CancelFlag(cancel)  # ends this call alone; the caller's flag ends it as well
        options = parse_options("generate", arguments, verbs._defaults)
        if stream:
            options = options.for_streaming(explicit_beams=arguments.get("num_beams") is not None)
        self._options = options
        prompts, self._single = verbs._batch(prompt)
        if options.seeds is not None and len(options.seeds) not in (1, len(prompts)):
            raise InvalidOptionError(f"seed: {len(options.seeds)} seeds for {len(prompts)} prompts")
        self._fitted = [_fit(verbs, session, ids, options) for ids in prompts]
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
        return results[0] if self._single else results

    def stream(self) -> GenerationStream:
        """Generate as the caller iterates; nothing runs, nor is memory taken, before the first chunk is asked for."""
        return GenerationStream(self._chunks(), self.cancel, self._results)

    def _chunks(self) -> Generator[GenerationChunk, None, None]:
        self._watch = Stopwatch()
        self._runs = self._make_runs()
        unfinished: FinishReason = "cancelled"  # where the caller closed the stream or pressed Ctrl-C
        try:
            waiting = self._runs
            while waiting and not self.cancel.is_set():
                group = waiting[: self._room_for(waiting)]
                try:
                    self._start(group)
                except GenerationCancelled:
                    break
                yield from run_texts(self._session, group, self.cancel, self._watch.step)
                waiting = [run for run in group if run.postponed] + waiting[len(group) :]
            yield from [run.finish("cancelled") for run in self._runs if run.finish_reason is None]
        except Exception:
            unfinished = "error"
            raise
        finally:
            for run in self._runs:
                if run.finish_reason is None:
                    run.finish(unfinished)

    def _make_runs(self) -> list[TextRun]:
        return [
            TextRun(
                fitted.feed,
                self._options,
                max_tokens=fitted.max_tokens,
                end_token_ids=end_token_ids(self._verbs),
                tokenizer=self._verbs.target_tokenizer,
                index=index,
                prompt_tokens=len(fitted.prompt),
                truncated_tokens=fitted.truncated,
            )
            for index, fitted in enumerate(self._fitted)
        ]

    def _room_for(self, waiting: Sequence[TextRun | BeamSearch]) -> int:
        """How many of the first of these texts the caches have room for, at least one.

        They are counted as long as they are now, for most end early; those that were postponed once, at their longest.
        """
        beams = self._options.num_beams
        pages = self._session.contexts * pages_of(self._session.n_ctx)
        count = 0
        for item in waiting[: max(MAX_SEQUENCES // beams, 1)]:
            longest = pages_of(self._fitted[item.index].longest)
            pages -= beams * longest if item.postponed else pages_of(item.to_read + 1) + beams - 1
            if pages < 0:
                break
            count += 1
        return max(count, 1)

    def _start(self, group: Sequence[TextRun | BeamSearch]) -> None:
        """Gives each text its sequence; where the model has sources, reads them."""
        self._watch.begin(sum(item.to_read for item in group), len(group))
        if self._session.needs_source:
            sources = [self._fitted[item.index].prompt for item in group]
            sequences = self._session.encode_source(sources, self.cancel)
        else:
            sequences = [self._session.new_sequence() for _ in group]
        for item, sequence in zip(group, sequences, strict=True):
            item.start(sequence)

    def _results(self) -> list[GenerationResult]:
        timings = self._watch.timings(sum(run.completion_tokens for run in self._runs))
        return [run.result(timings) for run in self._runs]

    def _run_beams(self) -> list[GenerationResult]:
        self._watch = Stopwatch()
        ends = end_token_ids(self._verbs)
        searches = [
            BeamSearch(fitted.feed, self._options, fitted.max_tokens, ends, index, len(fitted.prompt))
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

    def _beam_result(self, search: BeamSearch, fitted: _Fitted, timings: Timings, cancelled: bool) -> GenerationResult:
        hypotheses = [self._hypothesis(beam, fitted.feed) for beam in search.ranked()]
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
            hypotheses=hypotheses,
        )

    def _hypothesis(self, beam: FinishedBeam, prompt: list[int]) -> Hypothesis:
        text = _decode_after(self._verbs.target_tokenizer, prompt, beam.token_ids)
        score = beam.score(self._options.length_penalty)
        return Hypothesis(text, beam.token_ids, score, beam.log_prob, beam.finish_reason)


class _Fitted:
    """One prompt as it will run: what was kept of it, what is fed to the decoder first, how many tokens may follow."""

    def __init__(self, prompt: list[int], feed: list[int], max_tokens: int, truncated: int) -> None:
        self.prompt = prompt
        self.feed = feed
        self.max_tokens = max_tokens
        self.truncated = truncated
        self.longest = max(len(prompt), len(feed) + max_tokens)  # positions of the source, or of prompt and text


def end_token_ids(verbs: VerbBase) -> frozenset[int]:
    """Tokens that end a generated text: the tokenizer's and those of the file's generation defaults."""
    tokenizer = verbs.target_tokenizer
    return verbs._defaults.end_token_ids | (tokenizer.end_token_ids if tokenizer is not None else frozenset())


def _fit(verbs: VerbBase, session: Session, ids: list[int], options: GenerationOptions) -> _Fitted:
    """Place a prompt and its new tokens in the context, or raise `ContextOverflowError`."""
    if session.needs_source:
        return _fit_source(session, ids, options, verbs._defaults.forced_bos_token_id)
    start = verbs._defaults.bos_token_id
    if verbs.tokenizer is not None and verbs.tokenizer.bos_token_id is not None:
        start = verbs.tokenizer.bos_token_id
    if not ids:
        if start is None:
            raise InvalidInputError("prompt: it is empty, and the model has no start-of-text token to begin from")
        ids = [start]
    wanted = 1 if options.max_tokens is None else options.max_tokens
    kept, truncated = _truncate(ids, session.n_ctx - wanted, options, keep_first=ids[0] == start)
    if len(kept) + wanted > session.n_ctx:
        raise _overflow(session, options, len(kept) + wanted, can_cut=wanted + 1 < session.n_ctx)
    return _Fitted(kept, kept, options.max_tokens or session.n_ctx - len(kept), truncated)


def _fit_source(session: Session, ids: list[int], options: GenerationOptions, forced_token_id: int | None) -> _Fitted:
    """`_fit` of an encoder-decoder: the source and the target have a context each."""
    if not ids:
        raise InvalidInputError("source: it is empty")
    start = [decoder_start(session)]
    if forced_token_id is not None:
        start.append(forced_token_id)
    kept, truncated = _truncate(ids, session.n_ctx, options, keep_first=False)
    wanted = 1 if options.max_tokens is None else options.max_tokens
    if len(start) + wanted > session.n_ctx:
        raise _overflow(session, options, len(start) + wanted, can_cut=False)
    if len(kept) > session.n_ctx:
        raise _overflow(session, replace(options, max_tokens=None), len(kept), can_cut=True)
    return _Fitted(kept, start, options.max_tokens or session.n_ctx - len(start), truncated)


def _overflow(session: Session, options: GenerationOptions, needed: int, can_cut: bool) -> ContextOverflowError:
    """The error of a prompt that does not fit; `can_cut`: a shorter one would."""
    return ContextOverflowError(
        needed,
        session.n_ctx,
        new_tokens=options.max_tokens or 0,
        largest=session.context_length,
        truncate="left" if can_cut and options.truncate is None else None,
    )


def _truncate(ids: list[int], room: int, options: GenerationOptions, keep_first: bool) -> tuple[list[int], int]:
    """The newest `room` of `ids` where the caller asked for it, and how many were dropped."""
    head = 1 if keep_first else 0
    if options.truncate is None or len(ids) <= room or room <= head:
        return ids, 0
    kept = ids[:head] + ids[len(ids) - (room - head) :]
    return kept, len(ids) - len(kept)


def _decode_after(tokenizer: Tokenizer | None, prompt: list[int], ids: list[int]) -> str:
    """Text of `ids` as it continues `prompt`."""
    if tokenizer is None:
        return ""
    stream = prime_stream(tokenizer, prompt)
    return "".join([stream.push(token) for token in ids]) + str(stream.finish())
