"""Token ids of a rendered chat, in which only the template's own words spell control tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from ..tokenizer import Tokenizer
from .traced import Traced

__all__ = ["control_pattern", "encode_chat"]

Match = tuple[int, int, int]  # begin, end, token id
_PATTERNS: WeakKeyDictionary[Tokenizer, re.Pattern[str]] = WeakKeyDictionary()


def encode_chat(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a rendered chat.

    Control tokens are those that the template spelled in full (the spans of a `Traced` text); the same characters
    elsewhere are text. Where there are none elsewhere, the ids are those of the whole text with its control tokens.
    Otherwise the texts between the template's control tokens are encoded one by one.

    Parameters
    ----------
    tokenizer : Tokenizer
    text : str

    Raises
    ------
    InvalidInputError
        The text cannot be encoded.
    """
    own, others = _occurrences(tokenizer, text)
    if not others:
        ids = tokenizer.encode(text, add_special_tokens=False, parse_special=True)
        control = tokenizer.control_token_ids - {tokenizer.unk_token_id}
        if [token for token in ids if token in control] == [token for *_, token in own if token in control]:
            return ids  # a normalizer could have made a control token of something else
    return _encode_between(tokenizer, text, own)


def control_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Finds the control tokens that a text spells, the longest at each place, overlapping ones too."""
    pattern = _PATTERNS.get(tokenizer)
    return _PATTERNS.setdefault(tokenizer, _pattern_of(tokenizer)) if pattern is None else pattern


def _pattern_of(tokenizer: Tokenizer) -> re.Pattern[str]:
    pieces = sorted({tokenizer.token(token) for token in tokenizer.control_token_ids} - {""}, key=len, reverse=True)
    return re.compile(f"(?=({'|'.join(map(re.escape, pieces))}))" if pieces else "(?!)()")


def _occurrences(tokenizer: Tokenizer, text: str) -> tuple[list[Match], bool]:
    """Control tokens that the template spelled, apart from one another, and whether there are others."""
    ids = {tokenizer.token(token): token for token in sorted(tokenizer.control_token_ids, reverse=True)}
    own: list[Match] = []
    others, after, spans = False, 0, text.spans if isinstance(text, Traced) else ()
    span = 0
    for found in control_pattern(tokenizer).finditer(text):
        begin, end = found.span(1)
        while span < len(spans) and spans[span][1] <= begin:
            span += 1
        if span == len(spans) or not spans[span][0] <= begin <= end <= spans[span][1]:
            others = True
        elif begin >= after:
            own.append((begin, end, ids[found.group(1)]))
            after = end
    return own, others


def _encode_between(tokenizer: Tokenizer, text: str, own: list[Match]) -> list[int]:
    ids: list[int] = []
    begin = 0
    for start, stop, token in own:
        ids += [*_segment(tokenizer, text, begin, start), token]
        begin = stop
    return [*ids, *_segment(tokenizer, text, begin, len(text))]


def _segment(tokenizer: Tokenizer, text: str, begin: int, end: int) -> Iterator[int] | list[int]:
    """Ids of a part of a text, none of them of control tokens."""

    def encoded(part: str) -> list[int]:
        return tokenizer.encode(part, add_special_tokens=False)

    part = str.__getitem__(text, slice(begin, end))
    if begin == 0 or not part:
        return encoded(part) if part else []
    # A tokenizer may begin every text with a space; what comes after a newline is not the beginning.
    newline, after = encoded("\n"), encoded("\n" + part)
    return after[len(newline) :] if after[: len(newline)] == newline else encoded(part)
