"""Prompts as they will run: where the languages of a source and the beginning of a target stand, and what fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ContextOverflowError, InvalidInputError, InvalidOptionError
from ..generation.options import GenerationOptions
from .base import VerbBase, decoder_start, is_single, listed

if TYPE_CHECKING:
    from ..engine.session import Session
    from ..text.languages import Languages

__all__ = ["Fitted", "fit_prompts", "prompt_ids", "target_prefixes"]

TARGET_OPTIONS = ("target_prefix", "source_language", "target_language", "attention", "coverage_penalty")


class Fitted:
    """One prompt as it will run: what was kept of it, what is fed to the decoder first, how many tokens may follow."""

    def __init__(self, prompt: list[int], feed: list[int], max_tokens: int, truncated: int, forced: int = 0) -> None:
        self.prompt = prompt
        self.feed = feed
        self.max_tokens = max_tokens
        self.truncated = truncated
        self.forced = forced  # tokens of `feed` that the model's author forces after the decoder's start
        self.longest = max(len(prompt), len(feed) + max_tokens)  # positions of the source, or of prompt and text


def prompt_ids(
    verbs: VerbBase, session: Session, prompt: Any, arguments: Mapping[str, Any]
) -> tuple[list[list[int]], bool]:
    """Token ids of every prompt, with the languages that a source is told, and whether there was one prompt alone.

    Raises
    ------
    InvalidInputError, InvalidOptionError
        If a prompt is none, or a language is wrong or of no use.
    """
    if not session.needs_source:
        for name in TARGET_OPTIONS:
            if arguments.get(name):
                raise InvalidOptionError(f"{name}: only an encoder-decoder has sources and targets")
    source, target = arguments.get("source_language"), arguments.get("target_language")
    if source is None and target is None:
        return verbs._batch(prompt, special_tokens=bool(arguments.get("special_tokens")))
    single = is_single(prompt)
    items = [prompt] if single else listed(prompt, "prompt")
    return [_with_languages(verbs, item, source, target) for item in items], single


def fit_prompts(
    verbs: VerbBase,
    session: Session,
    prompts: Sequence[list[int]],
    arguments: Mapping[str, Any],
    options: GenerationOptions,
) -> list[Fitted]:
    """Every prompt, and the beginning of its target if it has one, in the context.

    Raises
    ------
    ContextOverflowError
        If one does not fit with its new tokens.
    InvalidInputError, InvalidOptionError
        If one is empty, or a language or prefix is wrong.
    """
    if not session.needs_source:
        return [_fit(verbs, session, ids, options) for ids in prompts]
    start = _start(verbs, session, arguments.get("target_language"))
    prefixes = target_prefixes(verbs, arguments.get("target_prefix"), len(prompts))
    pairs = zip(prompts, prefixes, strict=True)
    return [_fit_source(verbs, session, ids, start, prefix, options) for ids, prefix in pairs]


def target_prefixes(verbs: VerbBase, prefix: Any, count: int) -> list[list[int]]:
    """Token ids that each of `count` targets begins with: one prefix for all, or one each."""
    if prefix is None:
        return [[]] * count
    items = [prefix] * count if is_single(prefix) else listed(prefix, "target_prefix")
    if len(items) != count:
        raise InvalidOptionError(f"target_prefix: {len(items)} prefixes for {count} prompts")
    ids = []
    for item in items:
        if isinstance(item, str):
            if verbs.target_tokenizer is None:
                raise InvalidInputError("target_prefix: the file carries no tokenizer; token ids are needed")
            ids.append(verbs.target_tokenizer.encode(item, add_special_tokens=False))
        else:
            ids.append(verbs._ids(item, "target_prefix"))
    return ids


def _languages(verbs: VerbBase, option: str) -> Languages:
    if verbs._languages is None:
        raise InvalidOptionError(f"{option}: the model's file names no languages")
    return verbs._languages


def _with_languages(verbs: VerbBase, item: Any, source: str | None, target: str | None) -> list[int]:
    """Token ids of a source with the tokens of languages that stand in it."""
    ids = verbs._ids(item)
    if source is not None:
        languages = _languages(verbs, "source_language")
        token = languages.token("source_language", source)
        if languages.source == "none":
            raise InvalidOptionError("source_language: the model is not told its sources' language; leave it out")
        if not isinstance(item, str) or verbs.tokenizer is None:
            raise InvalidOptionError("source_language: token ids are used as they are; give the source as text")
        end = verbs.tokenizer.eos_token_id
        ids = [*verbs.tokenizer.encode(item, add_special_tokens=False), *([] if end is None else [end])]
        ids = [token, *ids] if languages.source == "before" else [*ids, token]
    if target is not None and _languages(verbs, "target_language").target == "source":
        ids = [_languages(verbs, "target_language").token("target_language", target), *ids]
    return ids


def _start(verbs: VerbBase, session: Session, target: str | None) -> list[int]:
    """What the decoder is given first, before any prefix."""
    languages, forced = verbs._languages, verbs._defaults.forced_bos_token_id
    if target is None or (languages is not None and languages.target == "source"):
        return [decoder_start(session), *([] if forced is None else [forced])]
    token = _languages(verbs, "target_language").token("target_language", target)
    return [token] if languages is not None and languages.target == "start" else [decoder_start(session), token]


def _fit(verbs: VerbBase, session: Session, ids: list[int], options: GenerationOptions) -> Fitted:
    """Place a prompt and its new tokens in the context, or raise `ContextOverflowError`."""
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
    return Fitted(kept, kept, options.max_tokens or session.n_ctx - len(kept), truncated)


def _fit_source(
    verbs: VerbBase, session: Session, ids: list[int], start: list[int], prefix: list[int], options: GenerationOptions
) -> Fitted:
    """`_fit` of an encoder-decoder: the source and the target have a context each."""
    if not ids:
        raise InvalidInputError("source: it is empty")
    forced, start = len(start) - 1, [*start, *prefix]
    kept, truncated = _truncate(ids, session.n_ctx, options, keep_first=False)
    wanted = 1 if options.max_tokens is None else options.max_tokens
    if len(start) + wanted > session.n_ctx:
        raise _overflow(session, options, len(start) + wanted, can_cut=False)
    if len(kept) > session.n_ctx:
        raise _overflow(session, replace(options, max_tokens=None), len(kept), can_cut=True)
    return Fitted(kept, start, options.max_tokens or _greatest_length(verbs, session, len(start)), truncated, forced)


def _greatest_length(verbs: VerbBase, session: Session, start: int) -> int:
    """New tokens of a target whose caller names no number: as many as the model's author says, if they fit."""
    defaults = verbs._defaults
    room = session.n_ctx - start
    if defaults.max_new_tokens:
        return min(room, defaults.max_new_tokens)
    return min(room, max(defaults.max_length - start, 1)) if defaults.max_length else room


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
