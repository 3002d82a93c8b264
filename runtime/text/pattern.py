"""Patterns from a file that a text will be run through: are they safe to follow?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .pattern_cost import CHOICES_LIMIT, choices_of

__all__ = ["check_pattern"]

PATTERN_LIMIT = 1 << 16
REPEAT_LIMIT = 1024
VARYING_LIMIT = 8  # repeats of variable length in one alternative, and of a part that has variable length
UNBOUNDED_LIMIT = 2  # unbounded quantifiers in one alternative; the published patterns have no more

_GROUP_PREFIX = re.compile(r"\?(?:[:=!>]|<[=!]|<\w{1,32}>|[a-zA-Z-]{1,8}[:)])")
_BRACE = re.compile(r"(\d{0,6})(,?)(\d{0,6})\}")


def check_pattern(pattern: str) -> str | None:
    """What makes a regular expression unsafe to run on a user's text, or None.

    A backtracking matcher takes exponential time only where something of variable length is repeated without bound
    (``(a+)+``, ``(a|aa)*``), and time of a high power of the length where many unbounded repeats stand in one row.
    Both are refused, with back-references and recursion. No published tokenizer needs them. What is left may still take
    time that grows faster than a text: `pattern_cost` weighs that, text by text.
    """
    if len(pattern) > PATTERN_LIMIT:
        return f"longer than {PATTERN_LIMIT} characters"
    problem = _PatternScan(pattern).problem()
    if problem is None and choices_of(pattern) > CHOICES_LIMIT:
        return f"its repeats can be placed in more than {CHOICES_LIMIT} ways"
    return problem


@dataclass
class _Group:
    """An open group of a pattern: is its length variable, and how many repeats of this branch are."""

    varies: bool = False
    unbounded: int = 0
    varying: int = 0


class _PatternScan:
    """One pass over a pattern with a stack of its open groups."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.stack = [_Group()]
        self.atom_varies = False  # the atom that a quantifier would repeat has variable length

    def problem(self) -> str | None:
        while self.position < len(self.pattern):
            character = self.pattern[self.position]
            self.position += 1
            problem = self.step(character)
            if problem:
                return problem
            if self.stack[-1].unbounded > UNBOUNDED_LIMIT or self.stack[-1].varying > VARYING_LIMIT:
                return "too many repeats of variable length in a row"
        return None

    def step(self, character: str) -> str | None:
        if character == "(":
            return self.open_group()
        if character == ")" and len(self.stack) > 1:
            group = self.stack.pop()
            self.atom_varies = group.varies or group.unbounded > 0
            self.stack[-1].varies |= self.atom_varies
            self.stack[-1].unbounded += group.unbounded
            self.stack[-1].varying += group.varying
        elif character == "|":
            self.stack[-1].varies |= len(self.stack) > 1
            self.stack[-1].unbounded = self.stack[-1].varying = 0
        elif character in "*+?{":
            return self.quantifier(character)
        elif character == "\\":
            if self.pattern[self.position : self.position + 1] in tuple("123456789kg"):
                return "back-references and recursion are not supported"
            self.position += 1
            self.atom_varies = False
        else:
            if character == "[":
                self.skip_class()
            self.atom_varies = False
        return None

    def open_group(self) -> str | None:
        if self.pattern.startswith("?", self.position):
            prefix = _GROUP_PREFIX.match(self.pattern, self.position)
            if prefix is None:
                return "a kind of group that is not supported"
            self.position = prefix.end()
            if prefix.group().endswith(")"):
                return None  # flags alone, such as (?i)
        self.stack.append(_Group())
        return "groups are nested too deeply" if len(self.stack) > 32 else None

    def quantifier(self, character: str) -> str | None:
        least, most = {"*": (0, REPEAT_LIMIT + 1), "+": (1, REPEAT_LIMIT + 1), "?": (0, 1)}.get(character, (1, 1))
        if character == "{":
            brace = _BRACE.match(self.pattern, self.position)
            if brace is None:
                return None  # a literal brace
            self.position = brace.end()
            low, comma, high = brace.groups()
            least = int(low or 0)
            most = int(high) if high else REPEAT_LIMIT + 1 if comma else least
        if self.pattern[self.position : self.position + 1] in ("+", "?"):
            self.position += 1  # possessive or lazy
        if self.atom_varies and most > VARYING_LIMIT:
            return "a part of variable length is repeated many times, which can take exponential time"
        self.stack[-1].unbounded += most > REPEAT_LIMIT
        self.stack[-1].varying += least != most
        self.stack[-1].varies |= least != most
        return None

    def skip_class(self) -> None:
        """Step behind a character class; classes nest, and a `]` right after `[` or `[^` is a member."""
        depth = 1
        start = True
        while depth and self.position < len(self.pattern):
            character = self.pattern[self.position]
            self.position += 1
            if character == "[":
                depth += 1
                start = True
                continue
            if character == "^" and start:
                continue
            if character == "\\":
                self.position += 1
            elif character == "]" and not start:
                depth -= 1
            start = False
