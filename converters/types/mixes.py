"""What ``--type`` may name: one type for most matrices, and better ones where llama-quantize takes better ones.

The rules are those of llama.cpp's ``llama-quantize`` for the architectures here (``llama_tensor_get_type`` in
``llama-quant.cpp``), so the same name means the same file. `tests/converters/test_mixes.py` holds them against a table
that llama.cpp made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...quants import TYPES

__all__ = ["MIXES", "Matrix", "Mix"]


@dataclass(frozen=True)
class Matrix:
    """What a matrix does in its model.

    Attributes
    ----------
    role : str
        ``"output"``, ``"token_embd"``, ``"attn_v"`` (stacked query, key and value too), ``"attn_output"``,
        ``"ffn_down"`` or ``""`` for any other.
    layer, num_layers : int
        Its layer in its stack, and how many those are.
    heads_per_value : int
        Query heads that share one key and value head.
    weighted : bool
        Whether there are importance weights.
    """

    role: str
    layer: int = 0
    num_layers: int = 1
    heads_per_value: int = 1
    weighted: bool = False


Condition = Callable[[Matrix], bool]


@dataclass(frozen=True)
class Rule:
    """Matrices of `role` that fulfil the condition have a type of their own."""

    role: str
    type: str
    applies: Condition = lambda matrix: True


@dataclass(frozen=True)
class Mix:
    """A way to quantize a model.

    Attributes
    ----------
    name : str
    file_type : int
        ``general.file_type``.
    type : str
        Of the matrices that no rule names.
    output : str or None
        Of the output matrix, or the token embeddings where they serve as that; None: as all others.
    rules : tuple of Rule
        The first that fits counts.
    """

    name: str
    file_type: int
    type: str
    output: str | None = "q6_k"
    rules: tuple[Rule, ...] = ()

    def type_of(self, matrix: Matrix) -> str:
        """Name of the type of a matrix, if its rows fit."""
        if matrix.role == "output" and self.output is not None:
            return self.output
        fitting = (rule.type for rule in self.rules if rule.role == matrix.role and rule.applies(matrix))
        chosen = next(fitting, self.type)
        if matrix.role == "attn_v" and matrix.num_layers == 80 and matrix.heads_per_value > 1:
            return {"q3_k": "q5_k", "q4_k": "q5_k"}.get(chosen, chosen)  # Llama 70B: a small matrix that matters
        return chosen


def _first(part: int) -> Condition:
    """In the first 1 / `part` of the layers."""
    return lambda matrix: matrix.layer < matrix.num_layers // part


def _before(layer: int) -> Condition:
    return lambda matrix: matrix.layer < layer


def _spread(matrix: Matrix) -> bool:
    """In the first and last eighth of the layers, and every third between."""
    eighth = matrix.num_layers // 8
    return matrix.layer < eighth or matrix.layer >= 7 * matrix.num_layers // 8 or (matrix.layer - eighth) % 3 == 2


def _shared(matrix: Matrix) -> bool:
    """Values shared by four query heads or more."""
    return matrix.heads_per_value >= 4


def _first_unweighted(matrix: Matrix) -> bool:
    return _first(8)(matrix) and not matrix.weighted


def _first_weighted(matrix: Matrix) -> bool:
    return _first(8)(matrix) and matrix.weighted


_MORE_BITS = (Rule("attn_v", "q6_k", _spread), Rule("ffn_down", "q6_k", _spread))
_NONLINEAR = (Rule("attn_v", "q5_k", _shared), Rule("ffn_down", "q5_k", _first_unweighted))

MIXES: dict[str, Mix] = {
    mix.name: mix
    for mix in (
        Mix("f32", 0, "f32", output=None),
        Mix("f16", 1, "f16", output=None),
        Mix("bf16", 32, "bf16", output=None),
        Mix("q8_0", 7, "q8_0", output="q8_0"),
        Mix("q4_0", 2, "q4_0", rules=(Rule("ffn_down", "q4_1", _first_weighted),)),
        Mix("q4_1", 3, "q4_1"),
        Mix("q5_0", 8, "q5_0", rules=(Rule("ffn_down", "q5_1", _first_weighted),)),
        Mix("q5_1", 9, "q5_1"),
        Mix(
            "q2_k",
            10,
            "q2_k",
            rules=(
                Rule("attn_v", "q4_k", _shared),
                Rule("attn_v", "q3_k"),
                Rule("ffn_down", "q3_k"),
                Rule("attn_output", "q3_k"),
            ),
        ),
        Mix("q2_k_s", 21, "q2_k", rules=(Rule("attn_v", "q4_k", _shared), Rule("ffn_down", "q4_k", _first(8)))),
        Mix("q3_k_s", 11, "q3_k"),
        Mix(
            "q3_k_m",
            12,
            "q3_k",
            rules=(
                Rule("attn_v", "q5_k", _before(2)),
                Rule("attn_v", "q4_k"),
                Rule("ffn_down", "q5_k", _first(16)),
                Rule("ffn_down", "q4_k"),
                Rule("attn_output", "q4_k"),
            ),
        ),
        Mix(
            "q3_k_l",
            13,
            "q3_k",
            rules=(Rule("attn_v", "q5_k"), Rule("ffn_down", "q5_k"), Rule("attn_output", "q5_k")),
        ),
        Mix("q4_k_s", 14, "q4_k", rules=(Rule("attn_v", "q5_k", _before(4)), Rule("ffn_down", "q5_k", _first(8)))),
        Mix("q4_k_m", 15, "q4_k", rules=_MORE_BITS),
        Mix("q5_k_s", 16, "q5_k"),
        Mix("q5_k_m", 17, "q5_k", rules=_MORE_BITS),
        Mix("q6_k", 18, "q6_k"),
        Mix("iq4_nl", 25, "iq4_nl", rules=_NONLINEAR),
        Mix("iq4_xs", 30, "iq4_xs", rules=_NONLINEAR),
        Mix("tq1_0", 36, "tq1_0", rules=(Rule("token_embd", "q4_k"),)),
        Mix("tq2_0", 37, "tq2_0", rules=(Rule("token_embd", "q4_k"),)),
        # llama-quantize gives this type to experts only, and Q8_0 to all that a model without experts has.
        Mix("mxfp4", 38, "mxfp4", output="q8_0"),
    )
}
"""Mixes by name."""

# A type that no mix begins with is one of ours: every matrix has it, and its own number is the file's.
MIXES |= {kind.name: Mix(kind.name, kind.id, kind.name, output=None) for kind in TYPES.values()
          if kind.name not in {mix.type for mix in MIXES.values()}}  # fmt: skip
MIXES |= {"q3_k": MIXES["q3_k_m"], "q4_k": MIXES["q4_k_m"], "q5_k": MIXES["q5_k_m"]}
