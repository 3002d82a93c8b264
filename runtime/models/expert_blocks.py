"""What decoders with routed experts share: their sizes and their feed-forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._kernels import core
from ..errors import UnsupportedModelError
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Sizes, gated_product


@dataclass(frozen=True)
class Experts:
    """Sizes of routed experts, and how a row weighs those that it chooses. llama.cpp's key stands beside each size."""

    count: int  # expert_count
    used: int  # expert_used_count
    width: int  # expert_feed_forward_length: rows of an expert's first matrices
    scoring: str = "softmax"  # of `Graph.route`
    normalized: bool = True  # whether the weights of the chosen sum to 1


def read_experts(metadata: Metadata, *, width: int, scoring: str = "softmax", normalized: bool = True) -> Experts:
    """The sizes from the file's metadata; `width` is what an absent key means.

    Raises
    ------
    ModelFormatError
        A size is missing or out of bounds, or the experts come in groups.
    """
    count = metadata.integer("expert_count", high=core.EF_MAX_EXPERTS)
    metadata.integer("expert_group_count", 0, low=0, high=1)  # more would be chosen group by group
    return Experts(
        count=count,
        used=metadata.integer("expert_used_count", high=count),
        width=metadata.integer("expert_feed_forward_length", width),
        scoring=scoring,
        normalized=normalized,
    )


def routed_feed_forward(
    graph: Graph, x: Value, block: str, sizes: Sizes, experts: Experts, gate: Callable[[Value, Value], Value]
) -> Value:
    """Gated feed-forwards of the experts that each row chooses, weighted by their scores (Shazeer et al. 2017).

    `gate` makes one value of the results of an expert's first two matrices.
    """
    check_stacked(graph, block)
    routes = _routes(graph, x, block, experts)
    rows = graph.dispatch(x, routes)
    first, up = (
        graph.expert_linear(rows, routes, f"{block}.ffn_{part}_exps", experts.width, experts.count)
        for part in ("gate", "up")
    )
    down = graph.expert_linear(gate(first, up), routes, f"{block}.ffn_down_exps", sizes.hidden_size, experts.count)
    return graph.combine(down, routes)


def _routes(graph: Graph, x: Value, block: str, experts: Experts) -> Value:
    logits = graph.linear(x, f"{block}.ffn_gate_inp", experts.count)
    return graph.route(logits, experts.used, scoring=experts.scoring, normalized=experts.normalized)


def shared_expert(graph: Graph, x: Value, block: str, sizes: Sizes, width: int, activation: str) -> Value:
    """The gated feed-forward of the expert that every row has, times the sigmoid of a number that the row gives."""
    weights = graph.activation(graph.linear(x, f"{block}.ffn_gate_inp_shexp", 1), "sigmoid")
    y = gated_product(graph, x, f"{block}.ffn_{{}}_shexp", width, sizes.hidden_size, activation)
    return graph.weight_rows(y, weights)


def check_stacked(graph: Graph, block: str) -> None:
    """Refuse a file of before 2024 April, whose experts are tensors of their own, as llama.cpp does now."""
    if graph.has(f"{block}.ffn_gate.0.weight"):
        what = f"the experts of {block} are tensors of their own, as in the first files with experts"
        raise UnsupportedModelError(f"{graph.path}: {what}: convert the checkpoint again, or take a newer file")
