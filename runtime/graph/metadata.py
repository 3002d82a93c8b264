"""What a file says of its model, read with types and bounds."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from ..errors import ModelFormatError, UnsupportedModelError, quote

MAX_LAYERS, MAX_WIDTH, MAX_CONTEXT = 1024, 1 << 20, 1 << 22  # far beyond any real model; bounds what a file can ask for


class Metadata:
    """Typed, bounded access to a model's metadata under its architecture's prefix, for the model files."""

    def __init__(
        self, get: Callable[..., Any], known: Container[str], prefix: str, path: str, n_ctx: int | None = None
    ) -> None:
        self._get, self._known, self._prefix, self.path, self._n_ctx = get, known, prefix, path, n_ctx

    @property
    def context(self) -> int:
        """Positions of the context that was asked for; the model's own where none was."""
        return self._n_ctx or self.integer("context_length", high=MAX_CONTEXT)

    def key(self, key: str) -> str:
        """The key's full name in the file."""
        return f"{self._prefix}.{key}"

    def has(self, key: str) -> bool:
        """Whether the file has this key."""
        return self.key(key) in self._known

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_WIDTH) -> int:
        """An integer within [low, high]; missing without a default or out of bounds raises `ModelFormatError`."""
        value = self._fetch(key, int, default)
        if not low <= value <= high:
            raise ModelFormatError(self.path, None, self.key(key), f"{value} is outside {low}..{high}")
        return value

    def number(self, key: str, default: float | None = None, *, low: float = 0.0, high: float = 1e12) -> float:
        """A finite number within [low, high]."""
        value = float(self._fetch(key, float, default))
        if not low <= value <= high:  # false for NaN
            raise ModelFormatError(self.path, None, self.key(key), f"{value} is outside {low:g}..{high:g}")
        return value

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """A boolean."""
        return bool(self._fetch(key, bool, default))

    def booleans(self, key: str, default: list[bool]) -> list[bool]:
        """As many booleans as the default has."""
        values: list[bool] = self._fetch(key, list[bool], default)
        if len(values) != len(default):
            what = f"{len(values)} booleans, expected {len(default)}"
            raise ModelFormatError(self.path, None, self.key(key), what)
        return values

    def string(self, key: str, default: str | None = None, *, choices: Sequence[str] = ()) -> str:
        """A string, one of `choices` where they are given."""
        value = self._fetch(key, str, default)
        if choices and value not in choices:
            known = ", ".join(choices)
            raise UnsupportedModelError(f"{self.path}: {self.key(key)} is {quote(value)}; supported: {known}")
        return value

    def strings(self, key: str, default: Sequence[str]) -> list[str]:
        """An array of strings."""
        return list(self._get(self.key(key), list[str], list(default)))

    def _fetch(self, key: str, kind: type, default: Any) -> Any:
        full = self.key(key)
        return self._get(full, kind) if default is None else self._get(full, kind, default)
