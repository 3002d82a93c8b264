"""Which type each tensor gets."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

from edgeformer.errors import ConversionError, InvalidOptionError, quote
from edgeformer.quants import I8_ROW, TYPES, QuantizationType, by_name

__all__ = ["FILE_TYPES", "Choice", "Policy"]

FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32, TYPES[I8_ROW].name: I8_ROW}
"""Values of ``general.file_type``, by the type of most matrices."""

# Vectors and small tables are added or multiplied in float32 row by row; quantizing them saves next to nothing.
_EXACT = ("*_norm.weight", "*.bias", "*position_embd.weight", "*token_types.weight", "rope_freqs.weight")


@dataclass(frozen=True)
class Choice:
    """A tensor's type, and why where it is not the one that was asked for."""

    type: QuantizationType
    reason: str = ""


def _writable(name: str) -> QuantizationType:
    """The type of that name. Raises InvalidOptionError for one that is unknown or only read."""
    wanted = by_name(name)
    if wanted.encode is None:
        known = ", ".join(t.name for t in TYPES.values() if t.encode is not None)
        raise InvalidOptionError(f"edgeformer reads {wanted.name} and does not write it: choose one of {known}")
    return wanted


class Policy:
    """Norms, biases, positions and everything with one axis in F32; matrices in the type that was asked for.

    Parameters
    ----------
    type : str
        For the matrices, token embeddings among them.
    overrides : mapping of str to str, optional
        Types by pattern of the tensor's name (``"blk.*.ffn_down.weight"``); the first that matches counts.

    Raises
    ------
    InvalidOptionError
        A type is not known.
    """

    def __init__(self, type: str, overrides: Mapping[str, str] | None = None) -> None:
        self.type = _writable(type)
        self._overrides = {pattern: _writable(name) for pattern, name in (overrides or {}).items()}
        self._unmatched = set(self._overrides)

    def choose(self, name: str, shape: tuple[int, ...]) -> Choice:
        """The type of a tensor.

        Raises
        ------
        ConversionError
            An override asks for a block type, and the blocks do not fit the tensor's rows.
        """
        for pattern, override in self._overrides.items():
            if fnmatch.fnmatchcase(name, pattern):
                self._unmatched.discard(pattern)
                if shape[-1] % override.block_size:
                    raise ConversionError(f"{name}: rows of {shape[-1]} are no whole blocks of {override.name}")
                return Choice(override, f"override {pattern}")
        if len(shape) == 1 or any(fnmatch.fnmatchcase(name, pattern) for pattern in _EXACT):
            return Choice(by_name("f32"))
        if shape[-1] % self.type.block_size:
            reason = f"rows of {shape[-1]} are no whole blocks of {self.type.block_size}"
            return Choice(by_name("f16"), reason)
        if name.endswith("token_embd.weight") and self.type.block_size > 1:
            return Choice(self.type, "token embeddings are quantized too")
        return Choice(self.type)

    def finish(self) -> None:
        """Refuse overrides that have matched no tensor.

        Raises
        ------
        InvalidOptionError
        """
        if self._unmatched:
            raise InvalidOptionError(f"overrides match no tensor: {', '.join(map(quote, sorted(self._unmatched)))}")
