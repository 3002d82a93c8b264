"""Texts that know which of their characters the template wrote itself.

What a template's author wrote may spell control tokens, what comes from messages may not. So literals of the template
are `Traced` in full, everything else is a plain str, and the operations below keep account. Any other operation on
strings gives a plain str: what cannot be followed counts as written by people, which is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex

__all__ = ["Traced", "joined", "replaced"]

Spans = tuple[tuple[int, int], ...]


class Traced(str):
    """A str with the begin and end of each part that is the template's, in order and apart; none unless told."""

    __slots__ = ("spans",)

    spans: Spans

    def __new__(cls, text: object = "", spans: Spans = ()) -> Traced:
        self = super().__new__(cls, text)
        self.spans = spans
        return self

    @classmethod
    def whole(cls, text: str) -> Traced:
        """`text`, all of it the template's."""
        return cls(text, ((0, len(text)),) if text else ())

    def __str__(self) -> str:
        return self  # str() of it, which Jinja writes around what it outputs, keeps it

    def __add__(self, other: Any) -> Any:
        return joined([self, other]) if type(other) in (str, Traced) else NotImplemented  # Markup escapes this first

    def __radd__(self, other: Any) -> Any:
        return joined([other, self]) if type(other) is str else NotImplemented

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        if isinstance(index, slice) and index.step in (None, 1):
            begin, end, _ = index.indices(len(self))
            return self.part(begin, max(begin, end))
        return super().__getitem__(index)

    def part(self, begin: int, end: int) -> Traced:
        """The characters from `begin` up to `end`."""
        clipped = ((max(start, begin) - begin, min(stop, end) - begin) for start, stop in self.spans)
        return Traced(super().__getitem__(slice(begin, end)), tuple((a, b) for a, b in clipped if a < b))

    def strip(self, chars: str | None = None) -> Traced:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None) -> Traced:
        return self.part(len(self) - len(super().lstrip(chars)), len(self))

    def rstrip(self, chars: str | None = None) -> Traced:
        return self.part(0, len(super().rstrip(chars)))

    def join(self, parts: Iterable[str]) -> str:
        return joined(list(_between(parts, self)))

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        return replaced(self, old, new, count.__index__())


def joined(parts: Sequence[str]) -> str:
    """All `parts` in one text; a plain str where none of it is the template's."""
    spans: list[tuple[int, int]] = []
    length = 0
    for part in parts:
        for begin, end in part.spans if isinstance(part, Traced) else ():
            if spans and spans[-1][1] == length + begin:
                spans[-1] = spans[-1][0], length + end
            else:
                spans.append((length + begin, length + end))
        length += len(part)
    text = "".join(parts)
    return Traced(text, tuple(spans)) if spans else text


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """`text.replace(old, new, count)`."""
    if not isinstance(text, Traced) or not old:
        return str.replace(text, old, new, count)
    parts: list[str] = []
    begin = 0
    while count != 0 and (place := text.find(old, begin)) >= 0:
        parts += [text.part(begin, place), new]
        begin, count = place + len(old), count - 1
    return joined([*parts, text.part(begin, len(text))])


def _between(parts: Iterable[str], separator: str) -> Iterator[str]:
    for index, part in enumerate(parts):
        if index:
            yield separator
        yield part
