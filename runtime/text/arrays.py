"""GGUF's arrays of a vocabulary, checked against each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..errors import ModelFormatError, quote
from .checks import PIECE_LIMIT
from .control_pieces import control_pieces_among

__all__ = ["TokenType", "VocabularyArrays"]


class TokenType:
    """Values of `tokenizer.ggml.token_type`."""

    UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(7)


@dataclass
class VocabularyArrays:
    """The keys under ``tokenizer.ggml.`` (or another prefix), checked against each other."""

    metadata: Mapping[str, Any]
    prefix: str
    path: str

    def __post_init__(self) -> None:
        self.model = self.get("model", str, "")
        self.pre = self.get("pre", str, "default")
        self.tokens = self.checked_tokens()
        self.types = self.checked_types()
        # Some files say that these are ordinary; llama.cpp overrules them as well.
        if known := control_pieces_among(self.tokens):
            for token in [token for token, piece in enumerate(self.tokens) if piece in known]:
                self.types[token] = TokenType.CONTROL

    def fail(self, key: str, what: str) -> NoReturn:
        raise ModelFormatError(self.path, None, self.prefix + key, what)

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.metadata.get(self.prefix + key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, f"{quote(value)} is not of type {kind.__name__}")
        return value

    def token_id(self, key: str, default: int | None = None) -> int | None:
        """The id under `key`, None where absent."""
        value = self.get(key, int, None)
        if value is None:
            return default if default is not None and default < len(self.tokens) else None
        if not 0 <= value < len(self.tokens):
            self.fail(key, f"token id {value} is outside the vocabulary of {len(self.tokens)}")
        return int(value)

    def sequence(self, key: str) -> Any:
        value = self.metadata.get(self.prefix + key)
        if value is not None and not isinstance(value, (list, tuple, np.ndarray)):
            self.fail(key, f"{quote(value)} is not an array")
        return value

    def checked_tokens(self) -> list[str]:
        tokens = self.sequence("tokens")
        if tokens is None or not 0 < len(tokens) <= PIECE_LIMIT:
            self.fail("tokens", f"not an array of 1 to {PIECE_LIMIT} pieces")
        if {*map(type, tokens)} != {str}:
            self.fail("tokens", "a piece is not a string")
        named = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
        if len(set(named)) != len(named):
            seen: dict[str, int] = {}
            for index, token in enumerate(named):
                if seen.setdefault(token, index) != index:
                    self.fail("tokens", f"{quote(token)} is token {seen[token]} and token {index}")
        return named

    def numbers(self, key: str, kinds: type | tuple[type, ...]) -> list[Any] | None:
        """An array as long as the tokens, of numbers of one of `kinds`."""
        values = self.sequence(key)
        if values is None:
            return None
        if len(values) != len(self.tokens):
            self.fail(key, f"{len(values)} entries for {len(self.tokens)} tokens")
        listed: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
        if not all(issubclass(kind, kinds) for kind in {*map(type, listed)}) or not np.isfinite(values).all():
            self.fail(key, "an entry is not a finite number")
        return listed

    def checked_types(self) -> list[int]:
        types = self.numbers("token_type", int)
        if types is None:
            return self.guessed_types()
        for token, kind in [entry for entry in zip(self.tokens, types, strict=True) if entry[1] != TokenType.NORMAL]:
            if not TokenType.UNDEFINED <= kind <= TokenType.BYTE:
                self.fail("token_type", f"{kind} of {quote(token)} is not a type")
            if kind == TokenType.BYTE and not re.fullmatch("<0x[0-9A-Fa-f]{2}>", token):
                self.fail("tokens", f"{quote(token)} is marked as a byte and is not one of <0x00> to <0xFF>")
        return types

    def guessed_types(self) -> list[int]:
        """Types where the file has none: the tokens with a role are control tokens, unless they are one character."""
        types = [TokenType.NORMAL] * len(self.tokens)
        for key in ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"):
            token = self.token_id(f"{key}_token_id")
            if token is not None and len(self.tokens[token]) > 1:
                types[token] = TokenType.CONTROL
        if self.model in ("llama", "t5"):
            for token, piece in enumerate(self.tokens):
                if re.fullmatch("<0x[0-9A-F]{2}>", piece):
                    types[token] = TokenType.BYTE
        return types

    def scores(self) -> list[float]:
        scores = self.numbers("scores", (int, float))
        if scores is None:
            self.fail("scores", f"missing; a {quote(self.model)} tokenizer needs them")
        return scores
