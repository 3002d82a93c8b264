"""Encoders beside the tokenizers library's own ids: one token a character, and pieces whose ids the file names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import InvalidInputError, quote
from .arrays import TokenType, VocabularyArrays
from .library import LibraryEncoder
from .located import LocatedTokens

__all__ = ["CharacterEncoder", "NamedPieceEncoder"]


class _NamingEncoder:
    """What both share: control tokens that a text may spell where it is asked for, and the tokens put around a text."""

    def __init__(self, arrays: VocabularyArrays) -> None:
        self._ids = {piece: token for token, piece in enumerate(arrays.tokens)}
        self._unknown = arrays.token_id("unknown_token_id")
        control = {p for p, kind in zip(arrays.tokens, arrays.types, strict=True) if kind == TokenType.CONTROL}
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)")
        self._usable = {piece: token for piece, token in self._ids.items() if piece not in control}
        ends = (("bos", arrays.get("add_bos_token", bool, False)), ("eos", arrays.get("add_eos_token", bool, False)))
        tokens = {name: arrays.token_id(f"{name}_token_id") if wanted else None for name, wanted in ends}
        self._before, self._after = ([t] if t is not None else [] for t in tokens.values())

    def encode(self, text: str, add_special_tokens: bool, parse_special: bool) -> list[int]:
        ids: list[int] = []
        position = 0
        for match in self._control.finditer(text) if parse_special else ():
            ids += [*self._plain(text[position : match.start()]), self._ids[match.group()]]
            position = match.end()
        ids += self._plain(text[position:])
        return [*self._before, *ids, *self._after] if add_special_tokens else ids

    def encode_pair(self, text: str, text_pair: str, parse_special: bool) -> tuple[list[int], list[int]]:
        raise InvalidInputError("this tokenizer puts no two texts together")

    def locate(self, texts: tuple[str, ...], parse_special: bool) -> LocatedTokens:
        if len(texts) > 1 or parse_special:
            raise InvalidInputError("this tokenizer takes one text, and no control tokens in it")
        spans, ids = self._spans(texts[0]), list(self._plain(texts[0]))
        before, after = len(self._before), len(self._after)
        return LocatedTokens(
            [*self._before, *ids, *self._after],
            [0] * (before + len(ids) + after),
            [(0, 0)] * before + spans + [(0, 0)] * after,
            [None] * before + [0] * len(ids) + [None] * after,
            [None] * (before + len(ids) + after),
        )

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of each of `_plain`'s tokens."""
        raise NotImplementedError

    def _plain(self, text: str) -> Iterable[int]:
        """Ids of a text without control tokens."""
        raise NotImplementedError


class CharacterEncoder(_NamingEncoder):
    """One token a character; what is not in the vocabulary is the unknown token, or an error where there is none."""

    def _plain(self, text: str) -> Iterable[int]:
        for character in text:
            token = self._usable.get(character, self._unknown)
            if token is None:
                raise InvalidInputError(
                    f"the character {quote(character)} is not in the model's vocabulary, which has no unknown token"
                )
            yield token

    def _spans(self, text: str) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(len(text))]


class NamedPieceEncoder(_NamingEncoder):
    """The library splits a text, and each piece has the id of the token that is spelled like it, or of the unknown
    one: Marian's and M2M-100's way.
    """

    def __init__(self, library: LibraryEncoder, arrays: VocabularyArrays) -> None:
        super().__init__(arrays)
        if self._unknown is None:
            arrays.fail("unknown_token_id", "missing; tokens that are found by their pieces need one")
        self._library = library

    def _plain(self, text: str) -> Iterable[int]:
        for piece in self._library.encode_pieces(text):
            token = self._usable.get(piece, self._unknown)
            assert token is not None
            yield token

    def _spans(self, text: str) -> list[tuple[int, int]]:
        return self._library.encode_spans(text)
