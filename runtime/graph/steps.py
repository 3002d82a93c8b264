"""A node of a graph on its way to an op of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .values import Value


@dataclass
class Step:
    """A node on its way to an op; the passes rewrite its fields."""

    kind: str
    inputs: list[Value]
    outputs: list[Value]  # several for a merged product
    tensors: list[tuple[str, ...]]  # one entry an output
    attributes: dict[str, Any]
    residual: Value | None = None
    activation: str = "none"
    gated: bool = False  # a product of gate and up, whose output is activation(gate) * up
    quantized: Value | None = None  # the value whose quantized rows this step leaves
    reads_quantized: bool = False
    row_scale: bool = False  # of the quantized rows that this step leaves
    float_output: bool = True

    @property
    def reads(self) -> list[Value]:
        """Everything that the step reads, quantized or not."""
        return self.inputs if self.residual is None else [*self.inputs, self.residual]
