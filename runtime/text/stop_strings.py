"""Strings that end a text wherever they appear in it."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Finds stop strings in text that arrives in pieces, and holds back what may turn out to be the start of one.

    Parameters
    ----------
    strings : sequence of str
        None of them empty.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(strings)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """Add `piece`; give the text that is safe to show. Once a stop string is complete, `found` names it (the one
        that starts first; of those, the longest) and the text before it is all that is shown.
        """
        if not self._strings:
            return piece
        text = self._held + piece
        hits = [(text.find(string), -len(string), string) for string in self._strings if string in text]
        if hits:
            start, _, self.found = min(hits)
            self._held = ""
            return text[:start]
        keep = max(self._partial(text, string) for string in self._strings)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _partial(text: str, string: str) -> int:
        """Length of the longest end of `text` that `string` starts with, shorter than `string`."""
        longest = min(len(text), len(string) - 1)
        return next((size for size in range(longest, 0, -1) if text.endswith(string[:size])), 0)
