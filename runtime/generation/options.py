"""What a caller may ask of a generation, checked once: names, types, ranges, contradictions, the file's defaults."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import numpy as np

from ..errors import InvalidOptionError, quote
from ..text.defaults import GenerationDefaults, checked_integer, checked_real

if TYPE_CHECKING:
    from .._kernels.core import CancelFlag
    from ..engine.adapters import Adapter

__all__ = ["GenerationArguments", "GenerationOptions", "parse_options", "reject_unknown", "shows_options"]

MAX_TOKENS_ALIASES = ("max_tokens", "max_new_tokens", "max_completion_tokens")

REALS = {
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (0.0, 1e6),
    "repeat_penalty": (1e-6, 1e6),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "length_penalty": (-10.0, 10.0),
    "coverage_penalty": (0.0, 100.0),
}
INTEGERS = ("top_k", "min_tokens", "no_repeat_ngram_size")
# Asking for one of these is asking for sampling.
FILTERS = ("top_k", "top_p", "min_p", "typical_p", "top_n_sigma")
# What beams cannot do: they are never sampled, and their texts are known at the end.
NOT_FOR_BEAMS = ("temperature", *FILTERS, "seed", "stop", "echo")
FOR_BEAMS = ("length_penalty", "coverage_penalty", "early_stopping")

LogitsProcessor = Callable[[list[int], np.ndarray], np.ndarray]


class GenerationArguments(TypedDict, total=False):
    """The keyword arguments of `Model.generate`, for type checkers; None always means "the default"."""

    max_tokens: int | None
    max_new_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    top_n_sigma: float | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    no_repeat_ngram_size: int | None
    bad_words: Sequence[str | Sequence[int]] | None
    logit_bias: Mapping[int, float] | None
    logits_processor: LogitsProcessor | None
    min_tokens: int | None
    seed: int | Sequence[int] | None
    stop: str | Sequence[str] | None
    logprobs: int | bool | None
    echo: bool | None
    num_beams: int | None
    length_penalty: float | None
    coverage_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    attention: bool | None
    target_prefix: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]] | None
    source_language: str | None
    target_language: str | None
    truncate: Literal["left"] | None
    adapter: Adapter | None
    special_tokens: bool | None
    cancel: CancelFlag | None


Verb = TypeVar("Verb", bound=Callable[..., Any])


def shows_options(verb: Verb) -> Verb:
    """Give a verb that takes `GenerationArguments` as ``**options`` a signature that names them all, for notebooks and
    `help`; type checkers read its overloads instead.
    """
    signature = inspect.signature(verb)
    named = [entry for entry in signature.parameters.values() if entry.kind is not inspect.Parameter.VAR_KEYWORD]
    for name, kind in GenerationArguments.__annotations__.items():
        annotation = getattr(kind, "__forward_arg__", kind)
        named.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    verb.__signature__ = signature.replace(parameters=named)  # type: ignore[attr-defined]
    return verb


@dataclass(frozen=True)
class GenerationOptions:
    """Every choice of one call, checked and complete. `temperature` 0 means greedy; `top_k`, `min_p` and `top_n_sigma`
    0, `top_p` and `typical_p` 1 mean that the filter is off. `min_length` counts the prompt too; `sequence_bias` is
    what is added to the logit of a sequence's last token where the others precede it; `bad_words` are ids.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    logits_processor: LogitsProcessor | None = None
    min_tokens: int = 0
    min_length: int = 0
    seeds: tuple[int, ...] | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False
    num_beams: int = 1
    length_penalty: float = 1.0
    coverage_penalty: float = 0.0
    early_stopping: bool | str = True
    attention: bool = False
    forced_eos_token_id: int | None = None
    truncate: str | None = None
    special_tokens: bool = False
    suppressed_token_ids: frozenset[int] = field(default=frozenset())
    begin_suppressed_token_ids: frozenset[int] = field(default=frozenset())

    def check_ids(self, vocab_size: int) -> None:
        """Raise `InvalidOptionError` where a bias or a bad word names a token that the model does not have."""
        sequences = {"bad_words": self.bad_words, "logit_bias": [ids for ids, _ in self.sequence_bias]}
        for name, listed in sequences.items():
            for token in (token for ids in listed for token in ids):
                if token >= vocab_size:
                    raise InvalidOptionError(f"{name}: token id {token} is outside the vocabulary 0..{vocab_size - 1}")

    def seed_of(self, prompt: int, text: int) -> int | None:
        """The seed of a prompt's `text`-th text, or None for a fresh one. The caller gave one for all prompts or one
        each, which is that of the first text; the others count on from there.
        """
        if self.seeds is None:
            return None
        return (self.seeds[prompt if len(self.seeds) > 1 else 0] + text) % 2**64

    def without_beams(self, option: str, explicit_beams: bool) -> GenerationOptions:
        """These options for an `option` that needs texts one token after the other: beams that only the file asks for
        give way to one, the caller's raise `InvalidOptionError`.
        """
        if explicit_beams and self.num_beams > 1:
            what = "their texts are known at the end, and the result's hypotheses lists them all"
            raise InvalidOptionError(f"{option} cannot be combined with num_beams > 1: {what}")
        return replace(self, num_beams=1)


def parse_options(
    verb: str,
    arguments: Mapping[str, Any],
    defaults: GenerationDefaults,
    spell: Callable[[str], Sequence[Sequence[int]]] | None = None,
) -> GenerationOptions:
    """Check the keyword arguments of a generating verb and complete them from the file's defaults.

    Parameters
    ----------
    verb : str
        For messages.
    arguments : mapping
        As the caller gave them; None means "the default".
    defaults : GenerationDefaults
    spell : callable, optional
        Gives the token ids of a bad word, in every way that it is to be banned; without it, they must be ids.

    Raises
    ------
    InvalidOptionError
        For an unknown name (naming the nearest known one), a wrong type or range, two aliases of `max_tokens` that
        differ, or options that contradict each other.
    """
    reject_unknown(verb, arguments, GenerationArguments.__annotations__)
    given = {name: value for name, value in arguments.items() if value is not None}
    num_beams = checked_integer("num_beams", given["num_beams"], 1) if "num_beams" in given else None
    temperature = _temperature(given, defaults, num_beams)
    if num_beams is None:
        num_beams = 1 if temperature > 0 or {"stop", "logprobs", "echo"} & given.keys() else defaults.num_beams
    chosen = {**vars(GenerationOptions()), **vars(defaults), **given}
    numbers: dict[str, Any] = {name: checked_real(name, chosen[name], *limits) for name, limits in REALS.items()}
    numbers |= {name: checked_integer(name, chosen[name], 0) for name in INTEGERS}
    options = GenerationOptions(
        max_tokens=_max_tokens(given),
        temperature=temperature,
        **numbers,
        bad_words=(*defaults.bad_words, *_bad_words(given.get("bad_words", ()), spell)),
        sequence_bias=(*defaults.sequence_bias, *_logit_bias(given.get("logit_bias", {}))),
        logits_processor=_processor(given.get("logits_processor")),
        min_length=0 if "min_tokens" in given else defaults.min_length,
        seeds=_seeds(given.get("seed")),
        stop=_stop(given.get("stop", ())),
        logprobs=_logprobs(given.get("logprobs")),
        echo=_flag("echo", given.get("echo", False)),
        num_beams=num_beams,
        early_stopping=_early_stopping(given.get("early_stopping", True)),
        attention=_flag("attention", given.get("attention", False)),
        forced_eos_token_id=defaults.forced_eos_token_id,
        special_tokens=_flag("special_tokens", given.get("special_tokens", False)),
        truncate=_choice("truncate", given.get("truncate"), ("left",)),
        suppressed_token_ids=defaults.suppressed_token_ids,
        begin_suppressed_token_ids=defaults.begin_suppressed_token_ids,
    )
    _reject_contradictions(options, given)
    return options


def reject_unknown(verb: str, arguments: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InvalidOptionError` for the first argument that is not known, naming the nearest one that is."""
    names = sorted(known)
    for name in arguments:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"it knows {', '.join(names)}"
            raise InvalidOptionError(f"{verb}() has no option {name!r}: {hint}")


def _reject_contradictions(options: GenerationOptions, given: Mapping[str, Any]) -> None:
    if options.num_beams > 1:
        for name in NOT_FOR_BEAMS:
            if name in given and not (name == "temperature" and options.temperature == 0):
                raise InvalidOptionError(f"{name} cannot be combined with num_beams={options.num_beams}")
        if options.logprobs:
            what = "a hypothesis has those of its own tokens (logprobs=True)"
            raise InvalidOptionError(f"logprobs={options.logprobs} cannot be combined with beams: {what}")
    else:
        for name in FOR_BEAMS:
            if name in given:
                raise InvalidOptionError(f"{name} needs num_beams > 1: one hypothesis has nothing to be compared with")
    if options.max_tokens is not None and "min_tokens" in given and options.min_tokens > options.max_tokens:
        raise InvalidOptionError(f"min_tokens={options.min_tokens} is more than max_tokens={options.max_tokens}")


def _temperature(given: Mapping[str, Any], defaults: GenerationDefaults, num_beams: int | None) -> float:
    # Asking for a filter of sampling is asking for sampling; beams are never sampled.
    if "temperature" in given:
        return checked_real("temperature", given["temperature"], 0.0)
    if num_beams is not None and num_beams > 1:
        return 0.0
    asked = any(name in given for name in FILTERS)
    return defaults.temperature if defaults.sample or asked else 0.0


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    values = {name: checked_integer(name, given[name], 1) for name in MAX_TOKENS_ALIASES if name in given}
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InvalidOptionError(f"{listed} are names of one option and contradict each other: give one")
    return next(iter(values.values()), None)


def _seeds(seed: Any) -> tuple[int, ...] | None:
    if seed is None:
        return None
    several = isinstance(seed, Iterable) and not isinstance(seed, (str, bytes))
    return tuple(checked_integer("seed", value, 0, 2**64 - 1) for value in (seed if several else [seed]))


def _stop(stop: Any) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, Iterable) or isinstance(strings, (bytes, Mapping)):
        raise InvalidOptionError(f"stop: a string or a list of strings is needed, not {quote(stop)}")
    checked = tuple(strings)
    for text in checked:
        if not isinstance(text, str) or not text:
            raise InvalidOptionError(f"stop: a str of at least one character is needed, not {quote(text)}")
    return checked


def _logprobs(count: Any) -> int | None:
    if isinstance(count, bool):
        return 0 if count else None
    return None if count is None else checked_integer("logprobs", count, 0)


def _bad_words(words: Any, spell: Callable[[str], Sequence[Sequence[int]]] | None) -> Iterator[tuple[int, ...]]:
    if isinstance(words, (str, bytes, Mapping)) or not isinstance(words, Iterable):
        raise InvalidOptionError(f"bad_words: a list of texts or of lists of token ids is needed, not {quote(words)}")
    for word in words:
        if isinstance(word, str) and spell is None:
            raise InvalidOptionError("bad_words: the file carries no tokenizer; lists of token ids are needed")
        spellings = spell(word) if isinstance(word, str) and spell is not None else [word]
        for ids in spellings:
            yield _token_ids("bad_words", ids)


def _logit_bias(biases: Any) -> Iterator[tuple[tuple[int, ...], float]]:
    if not isinstance(biases, Mapping):
        raise InvalidOptionError(f"logit_bias: a dict of token ids and numbers is needed, not {quote(biases)}")
    for token, bias in biases.items():
        yield (checked_integer("logit_bias", token, 0),), checked_real("logit_bias", bias, -1e6)


def _token_ids(name: str, ids: Any) -> tuple[int, ...]:
    if isinstance(ids, (str, bytes, Mapping)) or not isinstance(ids, Iterable):
        raise InvalidOptionError(f"{name}: a list of token ids is needed, not {quote(ids)}")
    checked = tuple(checked_integer(name, token, 0) for token in ids)
    if not checked:
        raise InvalidOptionError(f"{name}: a text of no tokens cannot be banned")
    return checked


def _processor(processor: Any) -> LogitsProcessor | None:
    if processor is not None and not callable(processor):
        raise InvalidOptionError(f"logits_processor: a function of ids and logits is needed, not {quote(processor)}")
    return processor


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidOptionError(f"{name}: True or False is needed, not {quote(value)}")
    return bool(value)


def _early_stopping(value: Any) -> bool | str:
    if value != "never" and not isinstance(value, (bool, np.bool_)):
        raise InvalidOptionError(f"early_stopping: True, False or 'never' is needed, not {quote(value)}")
    return value if value == "never" else bool(value)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str | None:
    if value is not None and value not in choices:
        raise InvalidOptionError(f"{name}: {' or '.join(map(repr, choices))} or None is needed, not {quote(value)}")
    return value
