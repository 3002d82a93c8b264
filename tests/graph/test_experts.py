"""Routed experts: what rows choose, and that a choice of the plan is that of the definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.engine.packing import pack
from edgeformer.engine.session import Session
from edgeformer.errors import ModelFormatError, UnsupportedModelError
from edgeformer.graph.domains import ROWS, Features
from edgeformer.graph.expert_ops import SCORINGS
from edgeformer.graph.graph import Graph
from golden import cases
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graph_runs import interpret_graph, random_tensors, run_graph

WIDTH, HIDDEN = 8, 24
ROWS_IN = Features("rows", WIDTH)


def mixture(num_experts: int, used: int, scoring: str, normalized: bool, bias: bool) -> tuple[Graph, dict]:
    """A router and a matrix with a bias for each expert."""
    shapes = {"router.weight": (num_experts, WIDTH), "up.weight": (num_experts, HIDDEN, WIDTH)}
    shapes |= {"up.bias": (num_experts, HIDDEN), "router_bias": (num_experts,)}
    graph, tensors = Graph(shapes), random_tensors(shapes, seed=num_experts)
    x = graph.features(ROWS_IN)
    given_bias = "router_bias" if bias else None
    logits = graph.linear(x, "router", num_experts)
    routes = graph.route(logits, used, scoring=scoring, normalized=normalized, scale=1.5, bias=given_bias)
    y = graph.expert_linear(graph.dispatch(x, routes), routes, "up", HIDDEN, num_experts)
    graph.output("y", graph.combine(y, routes))
    return graph, tensors


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, WIDTH)).astype(np.float32)


@settings(max_examples=60)
@given(
    st.integers(1, 20).flatmap(lambda experts: st.tuples(st.just(experts), st.integers(1, experts))),
    st.sampled_from(SCORINGS),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
)
def test_experts_give_the_interpreters_numbers(
    sizes: tuple[int, int], scoring: str, normalized: bool, bias: bool, count: int
) -> None:
    graph, tensors = mixture(*sizes, scoring, normalized and scoring != "chosen_softmax", bias)
    inputs, lengths = {"rows": rows(count)}, {ROWS: [count]}
    wanted = interpret_graph(graph, tensors, lengths, inputs)["y"]
    assert np.allclose(run_graph(graph, tensors, lengths, inputs)["y"], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_neighbours_threads_and_instruction_sets_do_not_matter(isa: str, scoring: str) -> None:
    graph, tensors = mixture(7, 3, scoring, scoring != "chosen_softmax", True)
    x = rows(90)
    together = run_graph(graph, tensors, {ROWS: [50, 40]}, {"rows": x}, isa=isa, threads=3)["y"]
    alone = [run_graph(graph, tensors, {ROWS: [1]}, {"rows": x[i : i + 1]}, isa="scalar")["y"][0] for i in range(90)]
    assert np.array_equal(together, np.stack(alone))


def test_of_equal_experts_the_lower_is_chosen() -> None:
    graph, tensors = mixture(4, 2, "softmax", True, False)
    tensors["router.weight"][:] = 0
    x = rows(5)
    experts = [x @ tensors["up.weight"][e].T + tensors["up.bias"][e] for e in (0, 1)]
    result = run_graph(graph, tensors, {ROWS: [5]}, {"rows": x})["y"]
    assert np.allclose(result, 0.75 * (experts[0] + experts[1]), atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_show_in_the_result(value: float) -> None:
    """They choose some expert, and nothing outside of the plan's memory."""
    graph, tensors = mixture(5, 2, "softmax", True, False)
    x = rows(3)
    x[1] = value
    result = run_graph(graph, tensors, {ROWS: [3]}, {"rows": x})["y"]
    assert np.isfinite(result[[0, 2]]).all() and not np.isfinite(result[1]).all()


def test_wrong_numbers_of_experts_are_told_while_building() -> None:
    graph = Graph({})
    logits = graph.features(ROWS_IN)
    for used in (0, WIDTH + 1):
        with pytest.raises(ModelFormatError, match=f"{used} of {WIDTH} experts"):
            graph.route(logits, used)
    with pytest.raises(UnsupportedModelError, match="scoring 'argmax' is not supported; known: softmax"):
        graph.route(logits, 1, scoring="argmax")


@pytest.mark.parametrize("type_name", ["f32", "q8_0"])
def test_experts_of_a_packed_file_are_mapped(tmp_path: Path, type_name: str) -> None:
    plain, packed = tmp_path / "plain.gguf", tmp_path / "packed.gguf"
    convert(cases.FOLDER / "llama-experts", plain, type=type_name)
    assert not any("exps" in name for stack in pack(plain, packed).copied for name in stack)
    logits = []
    for path in (plain, packed):
        session = Session.open(path, threads=1)
        logits.append(session.forward([(session.new_sequence(), [5, 6, 7])], outputs="all"))
    assert np.array_equal(*logits)
