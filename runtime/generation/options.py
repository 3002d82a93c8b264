"""What a caller may ask of a generation, checked once: names, types, ranges, contradictions, the file's defaults."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from ..errors import InvalidOptionError, quote
from ..text.defaults import GenerationDefaults, checked_integer, checked_real

if TYPE_CHECKING:
    from .._kernels.core import CancelFlag

__all__ = ["GenerationArguments", "GenerationOptions", "parse_options", "reject_unknown", "shows_options"]

MAX_TOKENS_ALIASES = ("max_tokens", "max_new_tokens", "max_completion_tokens")


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
    num_beams = checked_integer("num_beams", given["num_beams"], 1) if "num_beams" in given else None
    temperature = _temperature(given, defaults, num_beams)
    if num_beams is None:
        num_beams = 1 if temperature > 0 or {"stop", "logprobs"} & given.keys() else defaults.num_beams
    options = GenerationOptions(
        max_tokens=_max_tokens(given),
        temperature=temperature,
        top_k=checked_integer("top_k", given.get("top_k", defaults.top_k), 0),
        top_p=checked_real("top_p", given.get("top_p", defaults.top_p), 0.0, 1.0),
        min_p=checked_real("min_p", given.get("min_p", defaults.min_p), 0.0, 1.0),
        repeat_penalty=checked_real("repeat_penalty", given.get("repeat_penalty", defaults.repeat_penalty), 1e-6),
        seeds=_seeds(given.get("seed")),
        stop=_stop(given.get("stop", ())),
        logprobs=checked_integer("logprobs", given["logprobs"], 0) if "logprobs" in given else None,
        num_beams=num_beams,
        length_penalty=checked_real(
            "length_penalty", given.get("length_penalty", defaults.length_penalty), -10.0, 10.0
        ),
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
        return checked_real("temperature", given["temperature"], 0.0)
    if num_beams is not None and num_beams > 1:
        return 0.0
    asked = any(name in given for name in ("top_k", "top_p", "min_p"))
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


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str | None:
    if value is not None and value not in choices:
        raise InvalidOptionError(f"{name}: {' or '.join(map(repr, choices))} or None is needed, not {quote(value)}")
    return value
