"""Jinja's immutable sandbox with an end: what a template may do costs fuel, and what has no bound is refused.

A chat template comes with a model and is a program. Jinja's sandbox keeps it from the computer; here it is kept from
holding a thread or taking memory. Each operation is paid for in characters and items before it is done; a value's
size is counted down to its leaves wherever it is printed, compared or hashed, so that small lists of lists of large
texts do not help. Filters, methods and globals are those that have such a price.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, ItemsView, Iterable, KeysView, ValuesView
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import loopcontrols as LoopControls
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from .allowed import COMPARING_TESTS, FILTERS, METHODS, SHALLOW
from .markup import TracedMarkup
from .pricing import GenerationTag, Pricing
from .traced import Traced, joined, replaced

__all__ = ["ChatEnvironment", "compile_template"]

FUEL = 1 << 26  # of which a character handled costs 1, a value looked at NODE, a step STEP: a second or two at most
NODE = 64
STEP = 128
STRING_LIMIT = 1 << 23  # characters of one text
INTEGER_BITS = 4096
WIDTH_LIMIT = 1000  # of paddings and the like
SIZED = (str, bytes, list, tuple, dict, set, frozenset, range, KeysView, ValuesView, ItemsView)
PRINTED = (str, int, float, type(None), list, tuple, dict, range, Undefined)


class _Formatter(SandboxedFormatter):
    """`str.format` whose paddings have a bound."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        if re.search(r"\d{4}", format_spec):
            raise SecurityError("a format with a width of more than three digits")
        return super().format_field(value, format_spec)


class _Dict:
    """The global `dict`: no class, whose attributes would lead elsewhere."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _Namespace(Namespace):
    """Jinja's, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        entries = dict(*rest, **kwargs)
        for name in entries:
            _check_name(name)
        Namespace.__init__(self, entries)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of one rendering: it is made anew for each, and its `fuel` is what is left."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, fuel: int = FUEL) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, LoopControls])
        self.fuel = fuel
        self.finalize = self.printed
        own = {"tojson": self._tojson, "join": self._join, "replace": self._replace, "sum": self._sum}
        own["safe"] = self._safe
        filters = self.filters
        self.filters = {name: self._priced(name, own.get(name, filters[name])) for name in FILTERS}
        self.tests = {**self.tests, **{name: self._compared(self.tests[name]) for name in COMPARING_TESTS}}
        joiner, cycler = self.globals["joiner"], self.globals["cycler"]
        self.globals = {"range": self._range, "dict": _Dict(), "namespace": _Namespace, "joiner": joiner}
        self.globals |= {"cycler": cycler, "raise_exception": _raise, "strftime_now": _now}

    def spend(self, amount: int) -> None:
        """Pay `amount`. Raises SecurityError where less is left."""
        self.fuel -= amount
        if self.fuel < 0:
            raise SecurityError("it takes more steps, or handles more text, than a chat template may")

    def charged(self, value: Any, prints: bool = False, indent: int = 0) -> Any:
        """Pay for all of `value`, down to its leaves; with `prints`, only what has a text of its own is taken."""
        stack = [(value, 1)]
        while stack:
            item, depth = stack.pop()
            if prints and not isinstance(item, PRINTED):
                raise SecurityError(f"a {type(item).__name__} has no text")
            self.spend(self._size(item) + NODE + indent * depth)
            if isinstance(item, dict):
                stack += [(part, depth + 1) for pair in item.items() for part in pair]
            elif isinstance(item, (list, tuple, set, frozenset)):
                stack += [(part, depth + 1) for part in item]
        return value

    def iterated(self, value: Any) -> Any:
        """Pay for the items of `value` alone."""
        self.spend(self._size(value) + STEP)
        return value

    def _size(self, value: Any) -> int:
        if isinstance(value, str) and len(value) > STRING_LIMIT:
            raise SecurityError(f"a text has more than {STRING_LIMIT} characters")
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > INTEGER_BITS:
            raise SecurityError(f"an integer has more than {INTEGER_BITS} bits")
        return len(value) if isinstance(value, SIZED) else 0

    def literal(self, text: str) -> Traced:
        """A text that the template's author wrote."""
        self.spend(STEP)
        return Traced.whole(text)

    @jinja2.pass_context
    def printed(self, context: Context, value: Any) -> Any:
        """What is put out for `value`."""
        return self.text(value)

    def text(self, value: Any) -> str:
        """`str(value)`, paid for."""
        self.charged(value, prints=True)
        return str(value)

    def concatenated(self, *values: Any) -> str:
        """The operator ``~``."""
        return joined([self.text(value) for value in values])

    def concat(self, parts: Iterable[str]) -> str:
        """What Jinja puts together: the whole text, a macro's, a block's."""
        collected = []
        for part in parts:
            self.iterated(part)
            collected.append(part)
        return joined(collected)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not (_is_small(left, 1 << 32) and _is_small(right, 64)):
            raise SecurityError("a power is too large")
        if operator == "%" and isinstance(left, str):
            _check_widths(left)
            self._check_format(left, left.count("%"), right)
        sizes = self._size(left), self._size(right)
        self.spend(STEP + sum(sizes))
        if operator == "*":
            for size, other in ((sizes[0], right), (sizes[1], left)):
                self.spend(max(size * other, 0) if isinstance(other, int) else 0)
        result = super().call_binop(context, operator, left, right)
        self._size(result)
        return result

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.spend(STEP + (self._size(obj) if isinstance(argument, slice) else 0))
        return super().getitem(obj, argument)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"the attribute {attribute!r} of a {type(obj).__name__} is not for chat templates")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if not isinstance(value, (MethodType, BuiltinMethodType)) or value.__name__ not in ("format", "format_map"):
            return None
        template = value.__self__
        if not isinstance(template, str) or value.__name__ == "format_map":
            return super().wrap_str_format(value)

        def format(*args: Any, **kwargs: Any) -> str:
            self._check_format(template, template.count("{"), [args, kwargs])
            return _format(template, _Formatter(self), args, kwargs)

        return format

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, (MethodType, BuiltinMethodType)) and owner is not __self:
            __self._check_method(owner, __obj.__name__, [*args, *kwargs.values()])
        __self.spend(STEP)
        result = super().call(__context, __obj, *args, **kwargs)
        __self._size(result)
        return result

    def _check_method(self, owner: Any, name: str, args: list[Any]) -> None:
        """Pay for a method before it is called; refuse those that have no price."""
        kind = next((kind for kind in METHODS if isinstance(owner, kind)), None)
        if kind is None:
            if isinstance(owner, (bytes, bytearray, set, frozenset)):
                raise SecurityError(f"methods of a {type(owner).__name__} are not for chat templates")
            return
        if name not in METHODS[kind]:
            raise SecurityError(f"the method {name!r} is not for chat templates")
        self.charged(args)
        self.spend(self._size(owner))
        if kind is str:
            widths = [value for value in args if isinstance(value, int) and name not in ("count", "find", "index")]
            if name in ("center", "ljust", "rjust", "zfill", "expandtabs") and max(widths, default=0) > WIDTH_LIMIT:
                raise SecurityError(f"{name}: a width of more than {WIDTH_LIMIT}")
            if name == "expandtabs":
                self.spend(WIDTH_LIMIT * owner.count("\t"))
            elif name == "join" and args:
                self.spend(len(owner) * self._size(args[0]))
            elif name == "replace" and len(args) > 1:
                self._pay_replacement(owner, args[0], args[1])

    def _pay_replacement(self, text: str, old: Any, new: Any) -> None:
        count = text.count(str(old)) if old else len(text) + 1
        self.spend(count * self._size(str(new)))

    def _check_format(self, template: str, fields: int, values: Any) -> None:
        """Pay for a format whose fields may show `values` each."""
        before = self.fuel
        self.charged(values, prints=True)
        self.spend(len(template) + fields * (before - self.fuel))

    def _priced(self, name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(filter)
        def priced(*args: Any, **kwargs: Any) -> Any:
            given = [value for value in args if not isinstance(value, (Context, jinja2.Environment, nodes.EvalContext))]
            for value in [*given, *kwargs.values()]:
                self.iterated(value) if name in SHALLOW else self.charged(value)
            widths = [value for value in [*given[1:], *kwargs.values()] if isinstance(value, int)]
            if max(widths, default=0) > WIDTH_LIMIT and name not in ("d", "default"):
                raise SecurityError(f"{name}: a number of more than {WIDTH_LIMIT}")
            if name == "indent" and isinstance(given[0], str):
                margin = max([len(value) if isinstance(value, str) else 0 for value in given[1:]] + [WIDTH_LIMIT])
                self.spend(margin * given[0].count("\n"))
            if name == "format":
                _check_widths(str(given[0]))
                self._check_format(str(given[0]), str(given[0]).count("%"), [given[1:], kwargs])
            result = filter(*args, **kwargs)
            self.iterated(result)
            return result

        return priced

    def _compared(self, test: Any) -> Callable[..., Any]:
        @wraps(test)
        def priced(*args: Any) -> Any:
            self.charged(args)
            return test(*args)

        return priced

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        self.iterated(numbers)
        return numbers

    def _safe(self, value: Any) -> TracedMarkup:
        text = self.text(value)
        return TracedMarkup(text, text.spans if isinstance(text, Traced) else ())

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = [self.getattr(item, attribute) if isinstance(attribute, str) else item[attribute] for item in value]
        texts = [self.text(item) for item in value]
        self.spend(len(texts) * len(d))
        parts = [part for text in texts for part in (d, text)]
        return joined(parts[1:])

    def _replace(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:
        text = self.text(s)
        self._pay_replacement(text, old, new)
        return replaced(text, str(old), str(new), -1 if count is None else count)

    def _sum(self, iterable: Iterable[Any], attribute: str | None = None, start: Any = 0) -> Any:
        if not isinstance(start, (int, float)):
            raise SecurityError("sum: only numbers are added")
        return sum((self.getattr(item, attribute) if attribute else item for item in iterable), start)

    def _tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """As transformers has it, without the escapes of Jinja's own."""
        width = indent if isinstance(indent, int) else len(indent or "")
        width += sum(map(len, separators or ()))
        self.charged(value, indent=max(width, 0))
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compile_template(source: str) -> CodeType:
    """The code of a template, for `jinja2.Template.from_code`.

    Raises
    ------
    jinja2.exceptions.TemplateError
        It is no template, or not one for chats.
    """
    environment = ChatEnvironment()
    tree = Pricing().visit(environment.parse(source))
    return environment.compile(tree)


def _raise(message: Any) -> None:
    raise TemplateError(str(message))


def _now(format: str) -> str:
    _check_widths(format)
    return datetime.now().strftime(format[:WIDTH_LIMIT])


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with an underscore: {name!r}")


def _check_widths(format: str) -> None:
    if re.search(r"%[^a-zA-Z%]*(\d{4}|\*)", format):
        raise SecurityError("a format with a width of more than three digits")


def _is_small(value: Any, limit: int) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= limit


def _format(template: str, formatter: _Formatter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """`template.format`; of a template that the author wrote in full, the literal parts stay so."""
    fields = list(formatter.parse(template))
    nested = any("{" in (spec or "") for _, _, spec, _ in fields)
    if nested or not isinstance(template, Traced) or template.spans != ((0, len(template)),):
        return str(formatter.vformat(template, args, kwargs))
    parts: list[str] = []
    automatic = 0
    for literal, name, spec, conversion in fields:
        parts.append(Traced.whole(literal))
        if name is not None:
            if not name or name[0] in ".[":
                name, automatic = f"{automatic}{name}", automatic + 1
            value, _ = formatter.get_field(name, args, kwargs)
            value = formatter.convert_field(value, conversion)
            parts.append(value if isinstance(value, str) and not spec else formatter.format_field(value, spec or ""))
    return joined(parts)
