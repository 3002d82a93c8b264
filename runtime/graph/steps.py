"""A node of a graph on its way to an op of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .graph import Graph
from .values import Value


class Views:
    """Values that are columns of others. No op makes them: they are read where they lie."""

    def __init__(self, graph: Graph) -> None:
        self._places: dict[int, tuple[Value, int]] = {}
        for node in graph.nodes:
            if node.kind == "columns" and node.output is not None:
                root, first = self.place(node.inputs[0])
                self._places[node.output.index] = root, first + node.attributes["first"]

    def place(self, value: Value) -> tuple[Value, int]:
        """The value that some op makes, and the first column in it."""
        return self._places.get(value.index) or (value, 0)

    def root(self, value: Value) -> Value:
        """The value that some op makes."""
        return self._places[value.index][0] if value.index in self._places else value

    def overlap(self, one: Value, other: Value) -> bool:
        """Whether some columns are in both."""
        (root, first), (other_root, other_first) = self.place(one), self.place(other)
        return root == other_root and first < other_first + other.width and other_first < first + one.width


@dataclass
class Step:
    """A node on its way to an op; the passes rewrite its fields."""

    kind: str
    inputs: list[Value]
    outputs: list[Value]  # several for a merged product
    tensors: list[tuple[str, ...]]  # one entry an output; of a gated product, one of gate and one of up
    attributes: dict[str, Any]
    first_rows: list[int] = field(default_factory=list)  # beside tensors: where in them the output's matrix begins
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
