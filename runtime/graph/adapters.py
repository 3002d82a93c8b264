"""A graph with low-rank products beside some of its matrices: LoRA (Hu et al. 2021), y = W x + scale * B (A x).

The matrices themselves stay as the plan of the graph has them, stacked with the same neighbours, so that both plans
share them in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import UnsupportedModelError
from .compiler import fuse, gate, merge
from .graph import Graph
from .values import Node


class LowRank(NamedTuple):
    """What is added to one matrix [outputs, inputs]: names of the tensors A [rank, inputs] and B [outputs, rank]."""

    down: str
    up: str
    rank: int
    scale: float


def adapted(
    graph: Graph,
    added: Mapping[str, LowRank],
    shapes: Mapping[str, tuple[int, ...]],
    type_of: Callable[[str], int],
) -> Graph:
    """The same program with the products `added` to matrices, by the names of their tensors.

    Parameters
    ----------
    graph : Graph
    added : mapping of str to LowRank
    shapes : mapping of str to tuple of int
        Of the tensors that `added` names.
    type_of : callable
        As for `compile_graph`, of the graph's own tensors.

    Raises
    ------
    UnsupportedModelError
        A matrix is read by something else than a product: experts, embeddings.
    """
    stacks = _stacks(graph, type_of)
    other = copy.copy(graph)
    other.tensor_shapes, other.nodes = {**graph.tensor_shapes, **shapes}, []
    for node in graph.nodes:
        name = node.tensors[0] if node.tensors else ""
        if node.kind == "linear":
            stack = stacks.get((name, node.attributes["first_row"]))
            node = Node(node.kind, node.inputs, node.output, node.tensors, {**node.attributes, "stack": stack})
            if name in added and node.attributes["groups"] == 1:
                _add_beside(other, node, added[name])
                continue
        if any(tensor in added for tensor in node.tensors):
            what = f"an adapter changes {name}, which {node.kind} reads: merge it into the checkpoint instead"
            raise UnsupportedModelError(f"{graph.path}: {what}")
        other.nodes.append(node)
    return other


def _stacks(graph: Graph, type_of: Callable[[str], int]) -> dict[tuple[str, int], tuple[tuple[str, int], ...]]:
    """The parts of tensors that lie in one matrix of the graph's plan, by each of them."""
    stacks: dict[tuple[str, int], tuple[tuple[str, int], ...]] = {}
    for step in merge(gate(fuse(graph), graph, type_of), type_of):
        if step.kind == "linear":
            stack = tuple((names[0], first) for names, first in zip(step.tensors, step.first_rows, strict=True))
            stacks |= dict.fromkeys(stack, stack)
    return stacks


def _add_beside(graph: Graph, node: Node, part: LowRank) -> None:
    """The nodes of one product and of what is added to it."""
    x, y = node.inputs[0], node.output
    assert y is not None  # as every product has
    own = graph._value(y.width, y.domain)
    graph.nodes.append(Node("linear", (x,), own, node.tensors, node.attributes))
    low = graph._add("linear", [x], part.rank, tensors=(part.down,), first_row=0, groups=1)
    scaled = low if part.scale == 1.0 else graph.scale(low, part.scale)
    first = node.attributes["first_row"]
    beside = graph._add("linear", [scaled], y.width, tensors=(part.up,), first_row=first, groups=1)
    graph.nodes.append(Node("add", (own, beside), y))
