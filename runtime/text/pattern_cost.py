"""How long a backtracking matcher may take to split a text by a pattern: in proportion to the text, or how much more.

Matching goes on from where a match ended, so what a match scans and also consumes costs nothing twice. An alternative
is *even* where it cannot scan far and then fail:

- it has no unbounded repeat, or whatever follows its first one may be empty, so that the alternative matches
  (`` ?\\p{L}+``); or
- it repeats a class and may fail then, and the next alternative begins alike and repeats the same class with an even
  end, so that what was scanned is consumed after all (``\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+``).

All others are weighed for each text: at most one step for every way to place their repeats, each no longer than the
longest run of its characters in the text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, takewhile, zip_longest

__all__ = ["CHOICES_LIMIT", "STEP_LIMIT", "UnevenPart", "choices_of", "steps_over", "steps_over_any", "uneven_parts"]

CHOICES_LIMIT = 4096  # ways to place the bounded repeats of an alternative
STEP_LIMIT = 200_000_000  # of the matcher over one text: some two seconds

_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d{0,6})(,?)(\d{0,6})\})[+?]?")
_GROUP = re.compile(r"\(\?(?:([=!]|<[=!])|[:>]|<\w{1,32}>|[a-zA-Z-]{1,8}([:)]))")
_ANCHORS = ("\\b", "\\B", "\\A", "\\z", "\\Z", "\\G", "^", "$")


@dataclass(frozen=True)
class Item:
    """One part of an alternative with its quantifier.

    `atoms` are the classes and characters in it; `most` is None without a bound; `open` says that something in it has
    none; `runs` are the unbounded repeats that stand in one row in it, by their atoms; `even` says that what is in it
    cannot fail after a long scan; `width_zero` that it only looks.
    """

    text: str
    atoms: tuple[str, ...]
    least: int = 1
    most: int | None = 1
    open: bool = False
    even: bool = True
    width_zero: bool = False
    choices: int = 1
    runs: tuple[tuple[str, ...], ...] = ()

    @property
    def unbounded(self) -> bool:
        return self.most is None or self.open

    @property
    def may_be_empty(self) -> bool:
        return self.least == 0 and not self.width_zero


@dataclass(frozen=True)
class UnevenPart:
    """An alternative whose time depends on the text: its unbounded repeats by their characters, and other ways."""

    repeats: tuple[tuple[str, ...], ...]
    choices: int
    ignore_case: bool


Alternative = list[Item]


def uneven_parts(pattern: str) -> list[UnevenPart]:
    """The alternatives of a pattern that are not even; those of a lookahead count with the alternative it is in."""
    alternatives = _Parser(pattern).alternatives()
    ignore_case = re.search(r"\(\?[a-zA-Z]*i", pattern) is not None
    return [
        UnevenPart(_runs(items), _choices(items), ignore_case)
        for index, items in enumerate(alternatives)
        if not _is_even(items) and not _is_taken_up(items, alternatives[index + 1 :])
    ]


def choices_of(pattern: str) -> int:
    """Ways to place the bounded repeats of the worst alternative."""
    return max(_choices(items) for items in _Parser(pattern).alternatives())


def steps_over(part: UnevenPart, text: str) -> int:
    """At most so many steps does the matcher take for an alternative over a text."""
    steps = len(text) * part.choices
    for atoms in part.repeats:
        steps *= 1 + _longest_run(atoms, text, part.ignore_case)
    return steps


def steps_over_any(part: UnevenPart, length: int) -> int:
    """The same over any text of a length."""
    return part.choices * (1 + length) ** (1 + len(part.repeats))


def _runs(items: Alternative) -> tuple[tuple[str, ...], ...]:
    return tuple(run for item in items for run in item.runs)


def _choices(items: Alternative) -> int:
    product = 1
    for item in items:
        product = min(product * item.choices, CHOICES_LIMIT + 1)
    return product


def _first_unbounded(items: Alternative) -> int:
    return len(list(takewhile(lambda item: not item.unbounded, items)))


def _is_even(items: Alternative) -> bool:
    first = _first_unbounded(items)
    if first == len(items):
        return True
    inside = all(item.even and not (item.open and item.most != 1) for item in items)
    return inside and not items[first].width_zero and all(item.may_be_empty for item in items[first + 1 :])


def _is_taken_up(items: Alternative, others: list[Alternative]) -> bool:
    """Whether the next alternative consumes what this one scans before it fails."""
    first = _first_unbounded(items)
    repeat, tail = items[first], items[first + 1 :]
    needed = [index for index, item in enumerate(tail) if not item.may_be_empty]
    if repeat.open or repeat.width_zero or any(item.open or not item.even for item in tail) or needed != [0]:
        return False
    if not others or _first_unbounded(others[0]) != first or first == len(others[0]):
        return False
    other = others[0]
    alike = [item.text for item in items[:first]] == [item.text for item in other[:first]]
    same = (repeat.atoms, other[first].least <= 1) == (other[first].atoms, True) and not other[first].open
    return alike and same and (_is_even(other) or _is_taken_up(other, others[1:]))


class _Parser:
    """Takes a pattern that `check_pattern` has passed apart."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0

    def alternatives(self) -> list[Alternative]:
        """Up to the end of the group or of the pattern."""
        found: list[Alternative] = [[]]
        while self.position < len(self.pattern) and self.pattern[self.position] != ")":
            if self.pattern[self.position] == "|":
                self.position += 1
                found.append([])
            else:
                found[-1].append(self.quantified(self.item()))
        return found

    def item(self) -> Item:
        start = self.position
        if self.pattern[start] == "(":
            return self.group()
        self.position = self._end_of_atom(start)
        text = self.pattern[start : self.position]
        return Item(text, () if text in _ANCHORS else (text,), width_zero=text in _ANCHORS)

    def _end_of_atom(self, start: int) -> int:
        if self.pattern[start] == "\\":
            brace = re.compile(r"\\[pPx]\{[^}]*\}").match(self.pattern, start)
            return brace.end() if brace else start + 2
        if self.pattern[start] != "[":
            return start + 1
        position, depth = start + 1, 1
        position += self.pattern.startswith("^", position)
        position += self.pattern.startswith("]", position)
        while depth and position < len(self.pattern):
            character = self.pattern[position]
            opens = int(character == "[")
            depth += opens - (character == "]")
            position += 2 if character == "\\" else 1
            if opens:
                position += self.pattern.startswith("^", position)
                position += self.pattern.startswith("]", position)
        return position

    def group(self) -> Item:
        start = self.position
        prefix = _GROUP.match(self.pattern, start)
        self.position = prefix.end() if prefix else start + 1
        if prefix and prefix.group(2) == ")":
            return Item(prefix.group(), (), least=0, most=0)  # flags alone
        inner = self.alternatives()
        self.position += 1
        return Item(
            self.pattern[start : self.position],
            tuple(atom for items in inner for item in items for atom in item.atoms),
            least=1,
            open=any(item.unbounded for items in inner for item in items),
            even=all(map(_is_even, inner)),
            width_zero=bool(prefix and prefix.group(1)),
            choices=min(sum(map(_choices, inner)), CHOICES_LIMIT + 1),
            runs=tuple(
                tuple(atom for run in runs for atom in run) for runs in zip_longest(*map(_runs, inner), fillvalue=())
            ),
        )

    def quantified(self, item: Item) -> Item:
        found = _QUANTIFIER.match(self.pattern, self.position)
        if found is None or found.group() in ("{}", "{,}"):
            return item
        self.position = found.end()
        sign, low, comma, high = found.groups()
        least = {"*": 0, "+": 1, "?": 0}[sign] if sign else int(low or 0)
        most = {"*": None, "+": None, "?": 1}[sign] if sign else int(high) if high else None if comma else least
        text = item.text + found.group()
        times = 1 if most is None else max(most, 1)
        placed = min(item.choices, CHOICES_LIMIT) ** min(times, 16) * (1 if most is None else max(most - least, 0) + 1)
        choices = min(placed, CHOICES_LIMIT + 1)
        runs = (item.atoms,) if most is None else item.runs * times
        return replace(item, text=text, least=least, most=most, choices=choices, runs=runs)


# -- characters of a text ---------------------------------------------------------------------------------------------


def _longest_run(atoms: Iterable[str], text: str, ignore_case: bool) -> int:
    """Of characters that any of some classes has; the whole text where a class is not known here."""
    compiled = _class(tuple(dict.fromkeys(atoms)), re.IGNORECASE if ignore_case else 0)
    return len(text) if compiled is None else max(map(len, compiled.findall(text)), default=0)


@lru_cache(maxsize=64)
def _class(atoms: tuple[str, ...], flags: int) -> re.Pattern[str] | None:
    """Python's pattern of runs of these classes."""
    parts = [_translated(atom) for atom in atoms]
    if not parts or any(part is None for part in parts):
        return None
    try:
        return re.compile(f"(?:{'|'.join(part for part in parts if part is not None)})+", flags | re.DOTALL)
    except re.error:
        return None


def _translated(atom: str) -> str | None:
    r"""An atom in Python's spelling, where properties of Unicode become ranges; None for what Python has not."""
    if atom.startswith("[") and re.search(r"\[|&&|\\P", atom[1:].replace("\\[", "")):
        return None
    if re.fullmatch(r"\\[^pPsSdDwWrnt\W]", atom):
        return None
    properties = re.findall(r"\\[pP]\{([^}]*)\}", atom)
    known = all(re.fullmatch("[LMNPSZC][a-z]?", name) for name in properties)
    if not known or (atom.startswith("\\P") and len(properties) != 1):
        return None
    if atom.startswith("\\P"):
        return f"[^{_ranges(properties[0])}]"
    inside = re.sub(r"\\p\{([^}]*)\}", lambda found: _ranges(found.group(1)), atom)
    return inside if atom.startswith("[") or not properties else f"[{inside}]"


@lru_cache(maxsize=64)
def _ranges(name: str) -> str:
    """The characters of a general category as ranges of a character class, unassigned ones too, for their day."""

    def members() -> Iterator[int]:
        for code in range(sys.maxunicode + 1):
            category = unicodedata.category(chr(code))
            if category.startswith(name) or category == "Cn":
                yield code

    runs = (list(run) for _, run in groupby(enumerate(members()), lambda pair: pair[1] - pair[0]))
    return "".join(f"{_escaped(run[0][1])}-{_escaped(run[-1][1])}" for run in runs)


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"
