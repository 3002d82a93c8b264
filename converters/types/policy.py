"""Which type each tensor gets."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...errors import ConversionError, InvalidOptionError, quote
from ...quants import QuantizationType, by_name
from .mixes import MIXES, Matrix, Mix

__all__ = ["Choice", "Policy", "mix_by_name"]

# Vectors and small tables are added or multiplied in float32 row by row; quantizing them saves next to nothing.
_EXACT = (
    "*_norm.weight",
    "*.bias",
    "*position_embd.weight",
    "*token_types.weight",
    "rope_freqs.weight",
    "rope_factors_*.weight",
    "*attn_rel_b.weight",
    "*attn_rel.weight",
    "*ffn_gate_inp*.weight",
)

_BLOCK = re.compile(r"^(?P<stack>.*?)blk\.(?P<layer>\d{1,6})\.")

# Parts of the names of matrices that mixes treat apart, as llama-quantize finds them.
_ROLES = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_output.weight", "attn_output"),
    ("attn_o.weight", "attn_output"),
    ("ffn_down", "ffn_down"),
)

_FALLBACKS = {
    "q2_k": "q4_0",
    "q3_k": "q4_0",
    "tq1_0": "q4_0",
    "tq2_0": "q4_0",
    "q4_k": "q5_0",
    "q5_k": "q5_1",
    "q6_k": "q8_0",
    "iq4_xs": "iq4_nl",
}
"""Types of blocks of 32 in place of those of 256, for rows that are not whole blocks; llama-quantize's."""


_OTHER_NAMES = {
    "int8": ("q8_0", "i8_row"),
    "int4": ("q4_0", "q4_k_m"),
    "fp32": ("f32",),
    "float32": ("f32",),
    "fp16": ("f16",),
    "float16": ("f16",),
    "half": ("f16",),
    "bfloat16": ("bf16",),
}
"""What other programs call types like these."""


@dataclass(frozen=True)
class Choice:
    """A tensor's type, and why where it is not the one that was asked for."""

    type: QuantizationType
    reason: str = ""


def mix_by_name(name: str) -> Mix:
    """The mix of that name; upper case is the same.

    Raises
    ------
    InvalidOptionError
        There is no such mix; the message lists those there are.
    """
    if name.lower() not in MIXES:
        near = [known for known in MIXES if known.startswith(name.lower())] if name else []
        near = [*near, *_OTHER_NAMES.get(name.lower(), ()), *difflib.get_close_matches(name.lower(), MIXES, 2)]
        hint = f"did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
        raise InvalidOptionError(f"unknown weight type {quote(name)}: {hint}The types are {', '.join(MIXES)}")
    return MIXES[name.lower()]


class Policy:
    """Norms, biases, positions and everything with one axis in F32; matrices as the mix says.

    Parameters
    ----------
    type : str
        Name of a mix, for the matrices, token embeddings among them.
    overrides : mapping of str to str, optional
        Types by pattern of the tensor's name (``"blk.*.ffn_down.weight"``); the first that matches counts.
    weighted : bool
        Whether there are importance weights, on which llama-quantize's choice depends.

    Raises
    ------
    InvalidOptionError
        A type is not known.
    """

    def __init__(self, type: str, overrides: Mapping[str, str] | None = None, *, weighted: bool = False) -> None:
        self.mix = mix_by_name(type)
        self._overrides = {pattern: by_name(name) for pattern, name in (overrides or {}).items()}
        self._weighted = weighted

    def choose(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        heads_per_value: int = 1,
        stored: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Choice]:
        """The type of every tensor of a model.

        Parameters
        ----------
        shapes : mapping of str to tuple of int
            By name, rows first.
        heads_per_value : int
            Query heads that share one key and value head.
        stored : mapping of str to str
            The types of tensors that the source has quantized. They stay so in all mixes but those of floats.

        Raises
        ------
        ConversionError
            An override asks for a block type, and the blocks do not fit the tensor's rows.
        InvalidOptionError
            An override matches no tensor.
        """
        unmatched = [p for p in self._overrides if not any(fnmatch.fnmatchcase(name, p) for name in shapes)]
        if unmatched:
            raise InvalidOptionError(f"overrides match no tensor: {', '.join(map(quote, sorted(unmatched)))}")
        layers = _layers(shapes)
        tied = "output.weight" not in shapes
        choices = {}
        for name, shape in shapes.items():
            role = _role(name, tied)
            stack, layer = _place(name)
            matrix = Matrix(role, layer, layers.get(stack, 1), heads_per_value, self._weighted)
            kept = self._kept(stored.get(name))
            choices[name] = self._overridden(name, shape) or kept or self._chosen(name, shape, matrix)
        return choices

    def notes(self) -> list[str]:
        """What the user should know about the mix."""
        if by_name(self.mix.type).is_own:
            return [f"{self.mix.type} is edgeformer's own type: other readers of GGUF refuse the file"]
        if self.mix.name == "q2_k_s" and not self._weighted:
            return ["q2_k_s loses much without importance weights: llama-quantize refuses it then"]
        return []

    def _overridden(self, name: str, shape: tuple[int, ...]) -> Choice | None:
        for pattern, override in self._overrides.items():
            if fnmatch.fnmatchcase(name, pattern):
                if shape[-1] % override.block_size:
                    raise ConversionError(f"{name}: rows of {shape[-1]} are no whole blocks of {override.name}")
                return Choice(override, f"override {pattern}")
        return None

    def _kept(self, stored: str | None) -> Choice | None:
        if stored is None or by_name(self.mix.type).block_size == 1:
            return None
        reason = f"the checkpoint has it in {stored}, and to quantize twice loses twice"
        return Choice(by_name(stored), "" if stored == self.mix.type else reason)

    def _chosen(self, name: str, shape: tuple[int, ...], matrix: Matrix) -> Choice:
        if len(shape) == 1 or any(fnmatch.fnmatchcase(name, pattern) for pattern in _EXACT):
            return Choice(by_name("f32"))
        base = by_name(self.mix.type)
        wanted = by_name(self.mix.type_of(matrix))
        if matrix.role == "output" and shape[-1] % base.block_size and wanted is not base:
            wanted = by_name("q8_0")
        fitting = _fitting(wanted, shape[-1])
        if fitting is not wanted:
            return Choice(fitting, f"rows of {shape[-1]} are no whole blocks of {wanted.block_size}")
        if wanted is not base:
            return Choice(wanted, f"{self.mix.name} has this matrix in {wanted.name}")
        return Choice(wanted)


def _fitting(wanted: QuantizationType, num_columns: int) -> QuantizationType:
    """The type if its blocks fit rows of that length, else its fallback, else F16."""
    if num_columns % wanted.block_size == 0:
        return wanted
    fallback = by_name(_FALLBACKS.get(wanted.name, "f16"))
    return fallback if num_columns % fallback.block_size == 0 else by_name("f16")


def _role(name: str, tied: bool) -> str:
    """The part that a matrix plays; `tied`: the token embeddings are the output matrix, too."""
    if name == "output.weight":
        return "output"
    if name.endswith("token_embd.weight"):
        return "output" if tied else "token_embd"
    return next((role for part, role in _ROLES if part in name), "")


def _place(name: str) -> tuple[str, int]:
    """Stack and layer of a tensor, e.g. ``("enc.", 3)``; outside of layers the name and 0."""
    found = _BLOCK.match(name)
    return (found["stack"], int(found["layer"])) if found else (name, 0)


def _layers(names: Iterable[str]) -> dict[str, int]:
    """Number of layers of every stack."""
    counts: dict[str, int] = {}
    for name in names:
        stack, layer = _place(name)
        counts[stack] = max(counts.get(stack, 0), layer + 1)
    return counts
