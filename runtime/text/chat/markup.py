"""What the filter `safe` gives: Markup of Jinja's, which escapes what is added to it, that is traced."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

from .traced import Traced, joined

__all__ = ["TracedMarkup"]


class TracedMarkup(Traced):
    """A text that counts as HTML. Additions are followed; other operations are Markup's own, and are not."""

    __slots__ = ()

    def __html__(self) -> str:
        return self

    def __add__(self, other: Any) -> Any:
        return _of(self, _escaped(other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return _of(_escaped(other), self) if isinstance(other, str) else NotImplemented

    def __mod__(self, values: Any) -> Markup:
        return Markup(self) % values

    def join(self, parts: Any) -> Markup:
        return Markup(self).join(parts)

    def replace(self, old: Any, new: Any, count: Any = -1) -> Markup:
        return Markup(self).replace(old, new, count)

    def part(self, begin: int, end: int) -> TracedMarkup:
        return TracedMarkup(*_told(super().part(begin, end)))


def _told(text: str) -> tuple[str, Any]:
    return text, text.spans if isinstance(text, Traced) else ()


def _of(*parts: str) -> TracedMarkup:
    return TracedMarkup(*_told(joined(parts)))


def _escaped(text: str) -> str:
    """`text` as HTML; its own spans where it needs no escapes."""
    plain = escape(text)
    return text if plain == text else plain
