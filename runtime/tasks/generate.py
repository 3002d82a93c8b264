"""`generate` and `agenerate`: new text from a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from ..generation.options import GenerationArguments, shows_options
from ..generation.results import GenerationResult
from ..generation.streams import AsyncGenerationStream, GenerationStream, run_in_thread
from .base import Prompt, Prompts, VerbBase
from .job import GenerationJob, Results

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["GenerationVerbs"]


class GenerationVerbs(VerbBase):
    """Verbs of models that generate text: decoders and encoder-decoders."""

    @overload
    def generate(
        self, prompt: Prompt, *, n: None = None, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> GenerationResult: ...

    @overload
    def generate(
        self, prompt: Prompts, *, n: None = None, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[GenerationResult]: ...

    @overload
    def generate(
        self, prompt: Prompt, *, n: int, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[GenerationResult]: ...

    @overload
    def generate(
        self, prompt: Prompts, *, n: int, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[list[GenerationResult]]: ...

    @overload
    def generate(
        self,
        prompt: Prompt | Prompts,
        *,
        n: int | None = None,
        stream: Literal[True],
        **options: Unpack[GenerationArguments],
    ) -> GenerationStream: ...

    @shows_options
    def generate(
        self, prompt: Any, *, n: int | None = None, stream: bool = False, **options: Any
    ) -> Results | GenerationStream:
        """Generate text that continues `prompt`, or for an encoder-decoder, text made from the source `prompt`.

        Parameters
        ----------
        prompt : str, list of int, or a list of either
            Text, or token ids (used as they are: no special token is added). A list is generated as one batch and
            gives a list; each text is the same as if it had been generated alone. Of long lists, as many run at a time
            as have room in the caches. An empty prompt means the beginning of a text, for models that have a token for
            it.
        n : int, optional
            Give a list of so many texts of each prompt, which is computed once for up to 64 of them. They are sampled:
            the seeds of the others follow that of the first.
        stream : bool
            Give an iterator of `GenerationChunk` instead (see `GenerationStream`).
        max_tokens : int, optional
            At most so many new tokens; `max_new_tokens` and `max_completion_tokens` are other names for it. Default:
            to the end token, or to the end of the context; for an encoder-decoder, also to the greatest length that the
            model's `generation_config.json` names.
        min_tokens : int, optional
            No end token comes before so many new tokens.
        temperature, top_n_sigma, top_k, top_p, min_p, typical_p : optional
            Sampling; the defaults are those of the model's `generation_config.json`, or else greedy. Temperature 0 is
            greedy; `top_n_sigma`, `top_k` and `min_p` 0, `top_p` and `typical_p` 1 switch a filter off. The filters
            apply in this order. Giving a filter and no temperature is asking for sampling.
        logit_bias, repeat_penalty, presence_penalty, frequency_penalty, no_repeat_ngram_size, bad_words : optional
            What happens to the logits before, in this order: numbers added by token id; CTRL's penalty of every token
            of the context; OpenAI's penalties of every token of the new text; n-grams of so many tokens that occur only
            once in the context; texts or lists of token ids that are never completed (a text in the tokens that it has
            alone, and after a space).
        logits_processor : callable, optional
            Called before a token is chosen, after all of the above, with the token ids of the context and the logits,
            float32 [vocab_size], which it may change; it returns logits.
        seed : int or list of int, optional
            The same seed gives the same tokens on every CPU. One for all prompts or one for each. Default: a fresh
            one each, reported in the result.
        stop : str or list of str, optional
            End before the first of these strings.
        logprobs : int or bool, optional
            Give the log probability of every token and of so many of the most likely ones beside it; 0 or True: of the
            token.
        echo : bool, optional
            Put the prompt in front of the text. `logits` scores the tokens of a prompt.
        num_beams, length_penalty, coverage_penalty, early_stopping : optional
            Beam search (its rule is in `edgeformer.generation.beams`); all hypotheses are in the result. It is never
            sampled, and cannot be streamed or combined with `n`, `stop` or `echo`. `coverage_penalty` is GNMT's beta,
            for encoder-decoders. `early_stopping` False or "never" goes on as transformers does. `logprobs` gives each
            hypothesis those of its tokens.
        source_language, target_language : str, optional
            Codes of languages, for encoder-decoders whose file names some, e.g. ``"eng_Latn"`` and ``"fra_Latn"``.
        target_prefix : str or list of int, or a list of either, optional
            For an encoder-decoder: what the target begins with, for all sources or one each. The result has what
            follows.
        attention : bool, optional
            For an encoder-decoder: give where each new token looked in the source (`attention` and `alignments` of the
            result). The texts are read once more for it.
        truncate : "left", optional
            Drop the oldest tokens of a prompt that does not fit, except a leading start-of-text token, so that
            `max_tokens` new ones (or at least one) have room.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.
        special_tokens : bool, optional
            Let a text spell the model's control tokens, e.g. a chat that you put together yourself; never set it for
            a user's text, which `chat` keeps apart. By default they stay text, and a warning names the first.
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
        session = self._require("generate", options.get("adapter"))
        job = GenerationJob(self, session, prompt, options, stream, n)
        return job.stream() if stream else job.run()

    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: None = None, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> GenerationResult: ...

    @overload
    async def agenerate(
        self, prompt: Prompts, *, n: None = None, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[GenerationResult]: ...

    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: int, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[GenerationResult]: ...

    @overload
    async def agenerate(
        self, prompt: Prompts, *, n: int, stream: Literal[False] = False, **options: Unpack[GenerationArguments]
    ) -> list[list[GenerationResult]]: ...

    @overload
    async def agenerate(
        self,
        prompt: Prompt | Prompts,
        *,
        n: int | None = None,
        stream: Literal[True],
        **options: Unpack[GenerationArguments],
    ) -> AsyncGenerationStream: ...

    @shows_options
    async def agenerate(
        self, prompt: Any, *, n: int | None = None, stream: bool = False, **options: Any
    ) -> Results | AsyncGenerationStream:
        """`generate` as a coroutine: ``await model.agenerate(...)``, or with `stream=True`
        ``async for chunk in await model.agenerate(..., stream=True)``.

        The model runs in a thread of the event loop's default executor. Cancelling the task stops the model within one
        token, waits for that, and then raises `asyncio.CancelledError` as usual.
        """
        session = self._require("agenerate", options.get("adapter"))
        job = GenerationJob(self, session, prompt, options, stream, n)
        if stream:
            return AsyncGenerationStream(job.stream())
        return await run_in_thread(job.run, job.cancel.set)
