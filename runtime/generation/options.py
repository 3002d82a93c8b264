"""What a caller may ask of a generation, checked once: names, types, ranges, contradictions, the file's defaults."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ..errors import InvalidOptionError, ModelFormatError, quote
from ..files.json_file import parse_json

if TYPE_CHECKING:
    from .._kernels.core import CancelFlag

__all__ = ["GenerationArguments", "GenerationDefaults", "GenerationOptions", "parse_options", "reject_unknown"]

GENERATION_KEY = "general.generation.json"
MAX_TOKENS_ALIASES = ("max_tokens", "max_new_tokens", "max_completion_tokens")
# Keys of generation_config.json that change what transformers generates and that are not honoured here.
UNSUPPORTED_DEFAULTS = (
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "force_words_ids",
    "sequence_bias",
    "begin_suppress_tokens",
    "num_beam_groups",
    "penalty_alpha",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "min_length",
    "min_new_tokens",
)


class GenerationArguments(TypedDict, total=False):
    """The keyword arguments of `Model.generate`, for type checkers; None always means "the default"."""

    max_tokens: int | None
    max_new_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repeat_penalty: float | None
    seed: int | Sequence[int] | None
    stop: str | Sequence[str] | None
    logprobs: int | None
    num_beams: int | None
    length_penalty: float | None
    truncate: Literal["left"] | None
    cancel: CancelFlag | None


@dataclass(frozen=True)
class GenerationDefaults:
    """What the model's author recommends: the `generation_config.json` that the file carries.

    Its lengths are not defaults here: a text goes on to its end token or to the end of the context.

    Attributes
    ----------
    sample : bool
        Whether the author samples (``do_sample``). If not, generation is greedy unless the caller asks for sampling.
    forced_bos_token_id : int or None
        What an encoder-decoder's decoder is given after its start token (a language, for some translation models).
    end_token_ids : frozenset of int
        Tokens that end a text, besides those of the tokenizer.
    suppressed_token_ids : frozenset of int
        Tokens that are never generated (``suppress_tokens`` and the one-token ``bad_words_ids``).
    unsupported : tuple of str
        Keys that are set in the file and not honoured.
    """

    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    bos_token_id: int | None = None
    forced_bos_token_id: int | None = None
    end_token_ids: frozenset[int] = frozenset()
    suppressed_token_ids: frozenset[int] = frozenset()
    unsupported: tuple[str, ...] = ()

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: str, vocab_size: int) -> GenerationDefaults:
        """Read ``general.generation.json`` of a model with `vocab_size` tokens; absent means greedy.

        Raises
        ------
        ModelFormatError
            If the value is not a JSON object, one of its numbers is of the wrong type or out of range, or a token id is
            not in the vocabulary.
        """
        text = metadata.get(GENERATION_KEY)
        if text is None:
            return cls()
        if not isinstance(text, str):
            raise ModelFormatError(path, None, GENERATION_KEY, f"{quote(text)} is not a string")
        config = parse_json(text.encode(), path, None, GENERATION_KEY, ModelFormatError)
        try:
            if not isinstance(config, dict):
                raise InvalidOptionError("not a JSON object")
            defaults = cls._from_config(config)
            defaults._check_ids(vocab_size)
            return defaults
        except (ValueError, TypeError) as error:
            raise ModelFormatError(path, None, GENERATION_KEY, quote(str(error), 200)) from error

    def _check_ids(self, vocab_size: int) -> None:
        for name, tokens in (
            ("bos_token_id", {self.bos_token_id}),
            ("forced_bos_token_id", {self.forced_bos_token_id}),
            ("eos_token_id", self.end_token_ids),
            ("suppress_tokens, bad_words_ids", self.suppressed_token_ids),
        ):
            for token in tokens:
                if token is not None and token >= vocab_size:
                    raise InvalidOptionError(f"{name}: token id {token} is outside the vocabulary 0..{vocab_size - 1}")

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> GenerationDefaults:
        def get(name: str, default: Any) -> Any:
            value = config.get(name)
            return default if value is None else value

        if not all(isinstance(words, list) for words in get("bad_words_ids", [])):
            raise InvalidOptionError("bad_words_ids: a list of lists of ids is needed")
        bad_words = [words[0] for words in get("bad_words_ids", []) if len(words) == 1]
        long_bad_words = len(bad_words) < len(get("bad_words_ids", []))
        unsupported = [name for name in UNSUPPORTED_DEFAULTS if config.get(name) not in (None, 0, 1, 1.0, [], False)]
        return cls(
            sample=bool(get("do_sample", False)),
            temperature=_real("temperature", get("temperature", 1.0), 0.0),
            top_k=_integer("top_k", get("top_k", 0), 0),
            top_p=_real("top_p", get("top_p", 1.0), 0.0, 1.0),
            min_p=_real("min_p", get("min_p", 0.0), 0.0, 1.0),
            repeat_penalty=_real("repetition_penalty", get("repetition_penalty", 1.0), 1e-6),
            num_beams=_integer("num_beams", get("num_beams", 1), 1),
            length_penalty=_real("length_penalty", get("length_penalty", 1.0), -10.0, 10.0),
            bos_token_id=_optional_id("bos_token_id", get("bos_token_id", None)),
            forced_bos_token_id=_optional_id("forced_bos_token_id", get("forced_bos_token_id", None)),
            end_token_ids=_ids("eos_token_id", get("eos_token_id", [])),
            suppressed_token_ids=_ids("suppress_tokens", get("suppress_tokens", [])) | _ids("bad_words_ids", bad_words),
            unsupported=(*unsupported, *(["bad_words_ids"] if long_bad_words else [])),
        )


@dataclass(frozen=True)
class GenerationOptions:
    """Every choice of one call, checked and complete. `temperature` 0 means greedy; `top_k` 0, `top_p` 1 and
    `min_p` 0 mean that the filter is off.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seeds: tuple[int, ...] | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    num_beams: int = 1
    length_penalty: float = 1.0
    truncate: str | None = None
    suppressed_token_ids: frozenset[int] = field(default=frozenset())

    def for_streaming(self, explicit_beams: bool) -> GenerationOptions:
        """These options for `stream=True`: beams that only the file asks for give way to one, the caller's raise."""
        if explicit_beams and self.num_beams > 1:
            raise InvalidOptionError("stream=True cannot be combined with num_beams > 1: its text is known at the end")
        return replace(self, num_beams=1)


def parse_options(verb: str, arguments: Mapping[str, Any], defaults: GenerationDefaults) -> GenerationOptions:
    """Check the keyword arguments of a generating verb and complete them from the file's defaults.

    Parameters
    ----------
    verb : str
        For messages.
    arguments : mapping
        As the caller gave them; None means "the default".
    defaults : GenerationDefaults

    Raises
    ------
    InvalidOptionError
        For an unknown name (naming the nearest known one), a wrong type or range, two aliases of `max_tokens` that
        differ, or options that contradict each other.
    """
    reject_unknown(verb, arguments, GenerationArguments.__annotations__)
    given = {name: value for name, value in arguments.items() if value is not None}
    num_beams = _integer("num_beams", given["num_beams"], 1) if "num_beams" in given else None
    temperature = _temperature(given, defaults, num_beams)
    if num_beams is None:
        num_beams = 1 if temperature > 0 or {"stop", "logprobs"} & given.keys() else defaults.num_beams
    options = GenerationOptions(
        max_tokens=_max_tokens(given),
        temperature=temperature,
        top_k=_integer("top_k", given.get("top_k", defaults.top_k), 0),
        top_p=_real("top_p", given.get("top_p", defaults.top_p), 0.0, 1.0),
        min_p=_real("min_p", given.get("min_p", defaults.min_p), 0.0, 1.0),
        repeat_penalty=_real("repeat_penalty", given.get("repeat_penalty", defaults.repeat_penalty), 1e-6),
        seeds=_seeds(given.get("seed")),
        stop=_stop(given.get("stop", ())),
        logprobs=_integer("logprobs", given["logprobs"], 0) if "logprobs" in given else None,
        num_beams=num_beams,
        length_penalty=_real("length_penalty", given.get("length_penalty", defaults.length_penalty), -10.0, 10.0),
        truncate=_choice("truncate", given.get("truncate"), ("left",)),
        suppressed_token_ids=defaults.suppressed_token_ids,
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
        for name in ("temperature", "top_k", "top_p", "min_p", "seed", "stop", "logprobs"):
            if name in given and not (name == "temperature" and options.temperature == 0):
                raise InvalidOptionError(f"{name} cannot be combined with num_beams={options.num_beams}")
    elif "length_penalty" in given:
        raise InvalidOptionError("length_penalty needs num_beams > 1: one hypothesis has nothing to be compared with")


def _temperature(given: Mapping[str, Any], defaults: GenerationDefaults, num_beams: int | None) -> float:
    # Asking for a filter of sampling is asking for sampling; beams are never sampled.
    if "temperature" in given:
        return _real("temperature", given["temperature"], 0.0)
    if num_beams is not None and num_beams > 1:
        return 0.0
    asked = any(name in given for name in ("top_k", "top_p", "min_p"))
    return defaults.temperature if defaults.sample or asked else 0.0


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    values = {name: _integer(name, given[name], 1) for name in MAX_TOKENS_ALIASES if name in given}
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InvalidOptionError(f"{listed} are names of one option and contradict each other: give one")
    return next(iter(values.values()), None)


def _seeds(seed: Any) -> tuple[int, ...] | None:
    if seed is None:
        return None
    several = isinstance(seed, Iterable) and not isinstance(seed, (str, bytes))
    return tuple(_integer("seed", value, 0, 2**64 - 1) for value in (seed if several else [seed]))


def _stop(stop: Any) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, Iterable) or isinstance(strings, (bytes, Mapping)):
        raise InvalidOptionError(f"stop: a string or a list of strings is needed, not {quote(stop)}")
    checked = tuple(strings)
    for text in checked:
        if not isinstance(text, str) or not text:
            raise InvalidOptionError(f"stop: a str of at least one character is needed, not {quote(text)}")
    return checked


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str | None:
    if value is not None and value not in choices:
        raise InvalidOptionError(f"{name}: {' or '.join(map(repr, choices))} or None is needed, not {quote(value)}")
    return value


def _integer(name: str, value: Any, low: int, high: int = 2**31 - 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidOptionError(f"{name}: an integer is needed, not {quote(value)}")
    if not low <= number <= high:
        raise InvalidOptionError(f"{name}: from {low} to {high} is possible, not {quote(number)}")
    return number


def _real(name: str, value: Any, low: float, high: float = 1e6) -> float:
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise InvalidOptionError(f"{name}: a number is needed, not {quote(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond what a float holds
        number = math.inf
    if not (math.isfinite(number) and low <= number <= high):
        raise InvalidOptionError(f"{name}: from {low:g} to {high:g} is possible, not {quote(value)}")
    return number


def _ids(name: str, value: Any) -> frozenset[int]:
    values = value if isinstance(value, list) else [value]
    # transformers writes -1 for "none" in some files.
    return frozenset(_integer(name, item, -1) for item in values) - {-1}


def _optional_id(name: str, value: Any) -> int | None:
    ids = sorted(_ids(name, [] if value is None else value))
    return ids[0] if ids else None
