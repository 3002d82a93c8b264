"""SentencePiece's compiled normalization: at every place the longest text that its table knows is replaced.

The tokenizers library replaces the shortest instead, and whole graphemes only where they are short, so marks get lost;
here the table is followed as SentencePiece and llama.cpp do.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np

__all__ = ["Charsmap", "CharsmapError"]

_ASCII = [chr(code) for code in range(128)]


class CharsmapError(ValueError):
    """What is wrong with a table."""


class Charsmap:
    """A compiled table.

    It is the size of a double-array trie, the trie (units of 32 bits: label in bits 0-7, leaf flag in bit 8, offset in
    bits 10-30, shifted by eight more if bit 9 is set; bit 31 marks values), and the replacements, each ended by a NUL.

    Parameters
    ----------
    encoded : str
        The table as base64.

    Raises
    ------
    CharsmapError
        It is no such table, or leads nowhere.
    """

    def __init__(self, encoded: Any) -> None:
        try:
            blob = base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError):
            raise CharsmapError("not a base64 string") from None
        size = int.from_bytes(blob[:4], "little")
        if len(blob) < 4 or size % 1024 or not 0 < size <= len(blob) - 4:
            raise CharsmapError("the trie has an impossible size")
        units = np.frombuffer(blob, dtype="<u4", count=size // 4, offset=4)
        self._replacements = blob[4 + size :]
        _check(units, np.frombuffer(self._replacements, np.uint8))
        self._units = units.tolist()
        self._inert: dict[str, bool] = {}
        plain = "".join(re.escape(character) for character in _ASCII if self._is_plain(character))
        # Any character that is not plain, and one that is where a mark may follow it.
        candidate = rf"[^{plain}]|[{plain}](?=[^\x00-\x7f])" if plain else "."
        self._candidate = re.compile(candidate, re.DOTALL)

    def normalize(self, text: str) -> str:
        """The text with every replacement made, from left to right; what was replaced is not looked at again."""
        done: list[str] = []
        position = 0
        while found := self._candidate.search(text, position):
            start = found.start()
            done.append(text[position:start])
            end, value = (start, -1) if self._begins_nothing(text[start]) else self._longest(text, start)
            if value < 0:
                done.append(text[start])
                position = start + 1
            else:
                done.append(self._replacement(value))
                position = end
        return "".join([*done, text[position:]])

    def _longest(self, text: str, start: int) -> tuple[int, int]:
        """Where the longest key that begins at `start` ends, and its value; -1 where there is none."""
        node, best = 0, (start, -1)
        for end in range(start, len(text)):
            node = self._follow(node, text[end])
            if node < 0:
                break
            if self._units[node] & 0x100:
                best = end + 1, self._units[self._place(node)] & 0x7FFFFFFF
        return best

    def _follow(self, node: int, character: str) -> int:
        """The node that a character leads to, or -1."""
        for byte in character.encode():
            node = self._place(node) ^ byte
            if byte == 0 or self._units[node] & 0x800000FF != byte:
                return -1
        return node

    def _place(self, node: int) -> int:
        """Where the children of a node are counted from."""
        unit: int = self._units[node]
        return node ^ ((unit >> 10) << ((unit & 0x200) >> 6))

    def _replacement(self, value: int) -> str:
        return self._replacements[value : self._replacements.index(b"\0", value)].decode()

    def _begins_nothing(self, character: str) -> bool:
        known = self._inert.get(character)
        if known is None:
            known = self._inert[character] = self._follow(0, character) < 0
        return known

    def _is_plain(self, character: str) -> bool:
        """Whether a character stays as it is wherever another of ASCII, or nothing, follows it."""
        node = self._follow(0, character)
        if node < 0:
            return True
        return not self._units[node] & 0x100 and all(self._follow(node, second) < 0 for second in _ASCII)


def _check(units: np.ndarray, replacements: np.ndarray) -> None:
    """Every offset stays inside the trie, and every value is the start of a replacement."""
    indices = np.arange(len(units), dtype=np.uint32)
    offsets = (units >> 10) << ((units & 0x200) >> 6)
    inner = (units >> 31) == 0
    if (((indices ^ offsets) | 0xFF)[inner] >= len(units)).any():
        raise CharsmapError("an offset of the trie leads outside it")
    values = (units & 0x7FFFFFFF)[~inner]
    if (values >= len(replacements)).any() or ((replacements[values] & 0xC0) == 0x80).any():
        raise CharsmapError("a value of the trie is not the start of a replacement")
    try:
        str(replacements.tobytes(), "utf-8")
    except UnicodeDecodeError:
        raise CharsmapError("the replacements are not UTF-8") from None
    if len(replacements) and replacements[-1] != 0:
        raise CharsmapError("the last replacement has no end")
