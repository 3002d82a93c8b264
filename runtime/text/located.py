"""Token ids that know where in the text they come from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LocatedTokens"]


@dataclass(frozen=True)
class LocatedTokens:
    """Tokens of one text or of two, with the special tokens around them; all lists have one entry a token.

    Attributes
    ----------
    ids, types : list of int
        Token ids, and token types as the tokenizer has them.
    spans : list of (int, int)
        Begin and end of each token in the characters of its text.
    texts : list of int or None
        Which text it is of, 0 or 1; None for a special token.
    words : list of int or None
        Which word of that text it is part of, as the tokenizer splits words.
    """

    ids: list[int]
    types: list[int]
    spans: list[tuple[int, int]]
    texts: list[int | None]
    words: list[int | None]

    @classmethod
    def of_ids(cls, ids: list[int]) -> LocatedTokens:
        """Ids that come from no text; they count as the tokens of one."""
        length = len(ids)
        return cls(ids, [0] * length, [(0, 0)] * length, [0] * length, [None] * length)

    def __len__(self) -> int:
        return len(self.ids)

    def count(self, text: int) -> int:
        """Tokens of a text."""
        return self.texts.count(text)

    def window(self, text: int, begin: int, end: int) -> LocatedTokens:
        """Of the tokens of one text those from `begin` to `end` alone; all others stay."""
        places = [index for index, of in enumerate(self.texts) if of == text]
        dropped = {*places[:begin], *places[end:]}
        kept = [index for index in range(len(self.ids)) if index not in dropped]
        return LocatedTokens(
            [self.ids[index] for index in kept],
            [self.types[index] for index in kept],
            [self.spans[index] for index in kept],
            [self.texts[index] for index in kept],
            [self.words[index] for index in kept],
        )

    def fitted(self, room: int) -> LocatedTokens:
        """At most `room` tokens: the longer text loses its end first, and both where each is longer than half.

        The tokenizers library calls this `longest_first`. Where there is no room for the special tokens themselves,
        they stay.
        """
        first, second = self.count(0), self.count(1)
        room = max(room - (len(self) - first - second), 0)
        if first + second <= room:
            return self
        short, long = sorted((first, second))
        long = max(short, room - short)
        if short + long > room:
            short, long = room // 2, room - room // 2
        keep = (long, short) if first > second else (short, long)
        return self.window(0, 0, keep[0]).window(1, 0, keep[1])
