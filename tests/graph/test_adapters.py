"""Low-rank products beside matrices: the definition's numbers, and the same matrices in the plan."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer.errors import UnsupportedModelError
from edgeformer.graph.adapters import LowRank, adapted
from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.domains import ROWS, TOKENS, Features
from edgeformer.graph.graph import Graph
from support.graph_runs import interpret_graph, random_tensors, run_graph

WIDTH, HIDDEN = 24, 40
SHAPES = {
    **{f"{part}.weight": (WIDTH, WIDTH) for part in "qkvo"},
    "q.bias": (WIDTH,),
    "up.weight": (HIDDEN, WIDTH),
    "gate.weight": (HIDDEN, WIDTH),
    "down.weight": (WIDTH, HIDDEN),
    "fused.weight": (2 * WIDTH, WIDTH),
    "table.weight": (9, WIDTH),
}
MATRICES = ("q", "v", "o", "gate", "down", "fused")


def block(graph: Graph) -> None:
    """Products that are merged, gated, activated, and added to what was there."""
    x = graph.features(Features("rows", WIDTH))
    q, k, v = (graph.linear(x, part, WIDTH) for part in "qkv")
    active = graph.activation(graph.linear(x, "o", WIDTH), "silu")
    h = graph.add(graph.add(graph.multiply(q, k), v), active)
    up = graph.linear(h, "up", HIDDEN)
    gated = graph.gate(graph.linear(h, "gate", HIDDEN), up, "gelu")
    h = graph.add(h, graph.linear(gated, "down", WIDTH))
    low, high = (graph.linear(h, "fused", WIDTH, first_row=first, num_rows=2 * WIDTH) for first in (0, WIDTH))
    graph.output("hidden", graph.multiply(low, high))


def parts(rank: int, scale: float) -> tuple[dict[str, LowRank], dict[str, tuple[int, ...]]]:
    added, shapes = {}, {}
    for name in MATRICES:
        rows, columns = SHAPES[f"{name}.weight"]
        added[f"{name}.weight"] = LowRank(f"{name}.a", f"{name}.b", rank, scale)
        shapes |= {f"{name}.a": (rank, columns), f"{name}.b": (rows, rank)}
    return added, shapes


def f32(name: str) -> int:
    return 0


@pytest.mark.parametrize(("rank", "scale"), [(1, 1.0), (5, 0.5), (16, 2.0)])
def test_beside_is_the_sum_of_the_products(rank: int, scale: float) -> None:
    graph = Graph(SHAPES)
    block(graph)
    added, shapes = parts(rank, scale)
    other = adapted(graph, added, shapes, f32)
    tensors = {name: t / np.sqrt(np.float32(t.shape[-1])) for name, t in random_tensors(SHAPES | shapes).items()}
    merged = dict(tensors)
    for name in MATRICES:
        product = tensors[f"{name}.b"].astype(np.float64) @ tensors[f"{name}.a"]
        merged[f"{name}.weight"] = (tensors[f"{name}.weight"] + scale * product).astype(np.float32)
    inputs = {"rows": np.random.default_rng(rank).standard_normal((7, WIDTH)).astype(np.float32)}
    wanted = interpret_graph(graph, merged, {ROWS: [7]}, inputs)["hidden"]
    for got in (
        run_graph(other, tensors, {ROWS: [7]}, inputs)["hidden"],
        interpret_graph(other, tensors, {ROWS: [7]}, inputs)["hidden"],
    ):
        assert np.abs(got - wanted).max() < 1e-5 * np.ptp(wanted)
    plain = interpret_graph(graph, tensors, {ROWS: [7]}, inputs)["hidden"]
    assert np.abs(plain - wanted).max() > 1e-2 * np.ptp(wanted)


def test_matrices_are_stacked_as_without() -> None:
    graph = Graph(SHAPES)
    block(graph)
    added, shapes = parts(3, 1.0)
    for chosen in (added, {"gate.weight": added["gate.weight"]}, {"o.weight": added["o.weight"]}):
        plans = [
            compile_graph(one, ("hidden",), lambda name: False, f32)
            for one in (graph, adapted(graph, chosen, shapes, f32))
        ]
        own = {part.down for part in chosen.values()} | {part.up for part in chosen.values()}
        stacks = [{stack for stack in plan.matrices if stack[0].name not in own} for plan in plans]
        assert stacks[0] == stacks[1]


def test_tables_are_refused() -> None:
    graph = Graph(SHAPES)
    graph.output("hidden", graph.embed(TOKENS, "table", 9, WIDTH))
    pair = {"table.weight": LowRank("a", "b", 2, 1.0)}
    with pytest.raises(UnsupportedModelError, match=r"table\.weight, which embed reads: merge it"):
        adapted(graph, pair, {"a": (2, WIDTH), "b": (9, 2)}, f32)
