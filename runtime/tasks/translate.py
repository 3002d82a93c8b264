"""`translate` and `summarize`: text to text, of any length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from ..errors import GenerationCancelled, InvalidInputError, InvalidOptionError, MissingDependencyError, quote
from ..generation.options import FILTERS, GenerationArguments, reject_unknown, shows_options
from ..text.sentences import Passage
from ..text.task_settings import Task
from .base import VerbBase, is_single, listed
from .generate import GenerationVerbs
from .placing import target_prefixes

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..engine.session import Session

__all__ = ["TranslationVerbs"]

# Whoever asks for these asks for a text that no beam search makes.
_NOT_FOR_BEAMS = frozenset(("temperature", *FILTERS, "seed", "stop"))


class TranslationVerbs(GenerationVerbs):
    """Verbs of encoder-decoders."""

    @overload
    def translate(
        self,
        text: str,
        *,
        split: bool | None = None,
        prefix: str | None = None,
        through: TranslationVerbs | None = None,
        pivot_language: str | None = None,
        **options: Unpack[GenerationArguments],
    ) -> str: ...

    @overload
    def translate(
        self,
        text: list[str],
        *,
        split: bool | None = None,
        prefix: str | None = None,
        through: TranslationVerbs | None = None,
        pivot_language: str | None = None,
        **options: Unpack[GenerationArguments],
    ) -> list[str]: ...

    @shows_options
    def translate(
        self,
        text: Any,
        *,
        split: bool | None = None,
        prefix: str | None = None,
        through: TranslationVerbs | None = None,
        pivot_language: str | None = None,
        **options: Any,
    ) -> str | list[str]:
        """Translate `text`, whatever the model was trained to make of it: another language, script or spelling.

        Parameters
        ----------
        text : str or list of str
            Of any length. A list runs as one batch. Token ids are taken in place of a str, as in `generate`.
        split : bool, optional
            Translate line by line and sentence by sentence; line ends, and what is white around a line, stay as they
            are. All sentences of all texts are one batch, sorted by length. Needs sentencex (the extra ``text``).
            Default: where the model was trained on single sentences (Marian, M2M-100, NLLB, mBART), and of other
            models' texts those that are longer than the context, unless the model reads single characters. False:
            never; a text that is too long raises.
        prefix : str, optional
            Put in front of every source, as T5 asks for. Default: what the model's file says for
            ``translation_<source>_to_<target>``, if anything.
        through : Model, optional
            Give this model's translation to that one: from German to French by way of English. The options are for
            both; `source_language` is this model's, `target_language` that one's, `pivot_language` the one between.
        pivot_language : str, optional
            The language in between, where the models name languages.
        **options
            As in `generate`, except `stream` and `n`; scores, hypotheses and timings are `generate`'s too. `max_tokens`
            is for each sentence. A `target_prefix` is part of the translation, and of texts that are not split.

        Returns
        -------
        str or list of str
            A str for a str, a list for a list.

        Raises
        ------
        ContextOverflowError
            If a source is longer than the model's context, and is not to be split.
        GenerationCancelled
            If the `cancel` flag was set: a part of a translation is none.
        MissingDependencyError
            If a text is to be split and sentencex is not installed.
        UnsupportedModelError
            If the model is no encoder-decoder.
        InvalidInputError, InvalidOptionError
            As in `generate`.
        """
        session = self._prepared("translate", options)
        if through is not None:
            return self._translate_through(through, pivot_language, text, split, prefix, options)
        if pivot_language is not None:
            raise InvalidOptionError("pivot_language: give the second model as through")
        task, options = self._translation_task(options)
        front = task.prefix if prefix is None else prefix
        items = [text] if is_single(text) else listed(text, "text")
        passages = [self._passage(session, item, split, front, options) for item in items]
        if any(passage is not None for passage in passages) and options.get("target_prefix") is not None:
            raise InvalidOptionError("target_prefix: a text that is split has several targets: give split=False")
        pieces = [
            front + piece if isinstance(piece, str) else piece
            for item, passage in zip(items, passages, strict=True)
            for piece in ([item] if passage is None else passage.sentences)
        ]
        done = iter(self._targets(pieces, options))
        texts = [
            next(done) if passage is None else passage.joined([next(done) for _ in passage.sentences])
            for passage in passages
        ]
        return texts[0] if is_single(text) else texts

    def _prepared(self, verb: str, options: Mapping[str, Any]) -> Session:
        """The session, if the model has the verb, the options are known, and there is text to give."""
        session = self._require(verb)
        for name in ("stream", "n"):
            if name in options:
                raise InvalidOptionError(f"{verb}() has no option {name!r}: generate() has it")
        reject_unknown(verb, options, GenerationArguments.__annotations__)
        if self.target_tokenizer is None:
            raise InvalidInputError(f"{verb}: the file carries no tokenizer; generate() gives token ids")
        return session

    def _translate_through(
        self,
        through: TranslationVerbs,
        pivot: str | None,
        text: Any,
        split: bool | None,
        prefix: str | None,
        options: dict[str, Any],
    ) -> str | list[str]:
        if not isinstance(through, TranslationVerbs):
            raise InvalidOptionError(f"through: a model is needed, not {quote(through)}")
        through._require("translate")
        languages = {name: options.pop(name, None) for name in ("source_language", "target_language")}
        ours = {"source_language": languages["source_language"], "target_language": pivot}
        theirs = {"source_language": pivot, "target_language": languages["target_language"]}
        if options.get("target_prefix") is not None:
            raise InvalidOptionError("target_prefix cannot be combined with through: there are two targets")
        if options.get("adapter") is not None:
            raise InvalidOptionError("adapter cannot be combined with through: it belongs to one of the two models")
        between: Any = self.translate(text, split=split, prefix=prefix, **options, **ours)
        return through.translate(between, split=split, **options, **theirs)

    def _translation_task(self, options: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
        """The task that the languages name in a model that knows tasks, as T5 does; and the options without them."""
        source, target = options.get("source_language"), options.get("target_language")
        name = f"translation_{source}_to_{target}"
        if self._languages is None and name in self._tasks.by_name:
            rest = {key: value for key, value in options.items() if not key.endswith("_language")}
            return self._tasks.task(name), rest
        return Task(self._tasks.prefix), options

    def _passage(
        self, session: Session, item: Any, split: bool | None, prefix: str, options: Mapping[str, Any]
    ) -> Passage | None:
        """The sentences of a text that is to be split, None of any other."""
        if split not in (None, True, False):
            raise InvalidOptionError(f"split: True, False or None is needed, not {quote(split)}")
        if not isinstance(item, str) or split is False or not item.strip():
            return None

        def fits(text: str) -> bool:
            return _fits(self, session, prefix + text)

        if not (self._tasks.sentences if split is None else split):
            by_character = self.tokenizer is not None and self.tokenizer.by_character
            if by_character or options.get("truncate") is not None or fits(item):
                return None
        language = options.get("source_language") or self._tasks.source_language
        try:
            return Passage.of(item, language).cut(fits)
        except MissingDependencyError as error:
            error.args = (f"{error.args[0]}; or give split=False to translate a text in one piece",)
            raise

    def _targets(self, pieces: list[Any], options: dict[str, Any]) -> list[str]:
        """The texts that are made of `pieces`, which run longest first."""
        order = list(range(len(pieces)))
        if "seed" not in options:
            order.sort(key=lambda place: -len(pieces[place]))
        results = self.generate([pieces[place] for place in order], **options)
        if any(result.finish_reason == "cancelled" for result in results):
            raise GenerationCancelled()
        tokenizer, prefix = self.target_tokenizer, options.get("target_prefix")
        texts = [""] * len(pieces)
        for place, result in zip(order, results, strict=True):
            texts[place] = result.text
        if prefix is not None and tokenizer is not None:
            fronts = target_prefixes(self, prefix, len(pieces))
            for place, result in zip(order, results, strict=True):
                texts[place] = tokenizer.decode([*fronts[place], *result.token_ids])
        return texts

    @overload
    def summarize(self, text: str, *, prefix: str | None = None, **options: Unpack[GenerationArguments]) -> str: ...

    @overload
    def summarize(
        self, text: list[str], *, prefix: str | None = None, **options: Unpack[GenerationArguments]
    ) -> list[str]: ...

    @shows_options
    def summarize(self, text: Any, *, prefix: str | None = None, **options: Any) -> str | list[str]:
        """Summarize `text`, with a model that was trained for it.

        A text that is longer than the context is summarized in parts, as few as hold its sentences; their summaries
        are joined by spaces.

        Parameters
        ----------
        text : str or list of str
            Of any length. A list runs as one batch.
        prefix : str, optional
            Put in front of every source. Default: what the model's file says, e.g. ``"summarize: "`` of T5.
        **options
            As in `generate`, except `stream` and `n`. Defaults are those that the file names for summaries: beams,
            penalties, lengths (``task_specific_params`` of the checkpoint's `config.json`).

        Returns
        -------
        str or list of str
            A str for a str, a list for a list.

        Raises
        ------
        GenerationCancelled
            If the `cancel` flag was set.
        MissingDependencyError
            If a text is longer than the context and sentencex is not installed.
        UnsupportedModelError
            If the model is no encoder-decoder.
        InvalidInputError, InvalidOptionError
            As in `generate`.
        """
        session = self._prepared("summarize", options)
        task = self._tasks.task("summarization")
        front = task.prefix if prefix is None else prefix
        given = {name: value for name, value in options.items() if value is not None}
        settings = _with_defaults(task.options, given)
        texts = [text] if isinstance(text, str) else listed(text, "text")
        if not all(isinstance(item, str) for item in texts):
            raise InvalidInputError("summarize: a str or a list of them is needed; generate() takes token ids")
        parts = [self._parts(session, item, front, given) for item in texts]
        done = iter(self._targets([front + part for item in parts for part in item], settings))
        summaries = [" ".join(next(done).strip() for _ in item) if len(item) > 1 else next(done) for item in parts]
        return summaries[0] if isinstance(text, str) else summaries

    def _parts(self, session: Session, text: str, prefix: str, options: Mapping[str, Any]) -> list[str]:
        """The text, or the fewest parts of whole sentences that each fit in the context."""

        def fits(part: str) -> bool:
            return _fits(self, session, prefix + part)

        if options.get("truncate") is not None or fits(text):
            return [text]
        language = options.get("source_language") or self._tasks.source_language
        return Passage.of(text, language).cut(fits).packed(fits)


def _fits(verbs: VerbBase, session: Session, text: str) -> bool:
    """Whether a source has room in the context, with a token more for its language."""
    if len(text.encode("utf-8", "surrogatepass")) * 8 < session.n_ctx:  # no normalization makes that many of a byte
        return True
    room = session.n_ctx - (1 if verbs._languages is not None else 0)
    return len(verbs._ids(text, "source")) <= room


def _with_defaults(defaults: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The options of a call, and those of its task that it neither gives nor contradicts."""
    lengths = {"max_new_tokens", "max_completion_tokens", "max_tokens"} & given.keys()
    options = {name: value for name, value in defaults.items() if not (name == "max_tokens" and lengths)}
    if lengths:
        options.pop("min_tokens", None)
    beams = given.get("num_beams", options.get("num_beams", 1))
    if beams == 1 or _NOT_FOR_BEAMS & given.keys():
        options.pop("length_penalty", None)
        options.pop("num_beams", None)
    return options | given
