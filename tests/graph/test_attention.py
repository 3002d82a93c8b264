"""Attention as graphs say it: masks, bias, soft cap and sinks, by the plan against the interpreter and the kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.engine.packing import _packable
from edgeformer.errors import InvalidInputError, ModelFormatError, NumericError
from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.domains import TOKENS
from edgeformer.graph.graph import Graph
from edgeformer.graph.interpreter import interpret, text_inputs
from edgeformer.graph.position_bias import PositionBias, alibi_bias, bucket_bias, relative_buckets
from support.graph_program import GraphProgram
from support.kernel_inputs import Floats, rows, same_bits

WIDTH, HEADS, VOCAB = 32, 4, 50
TENSORS = {
    "embed.weight": rows(0, VOCAB, WIDTH),
    "q.weight": rows(1, WIDTH, WIDTH, scale=0.3),
    "k.weight": rows(2, WIDTH // 2, WIDTH, scale=0.3),
    "v.weight": rows(3, WIDTH // 2, WIDTH, scale=0.3),
    "sinks": rows(4, HEADS),
    "table": rows(5, 8, HEADS, scale=3),
}
DENSE = PositionBias(np.random.default_rng(6).integers(0, 8 * HEADS, (HEADS, 150, 150)), tensor="table")
CASES: dict[str, dict[str, Any]] = {
    "plain": {"causal": True},
    "window": {"causal": True, "window": 20},
    "window both ways": {"causal": False, "window": 20},
    "prefix": {"causal": True, "prefix": True},
    "prefix and window": {"causal": True, "prefix": True, "window": 9},
    "soft cap": {"causal": True, "soft_cap": 2.0},
    "sinks": {"causal": True, "sinks": "sinks"},
    "buckets": {
        "causal": False,
        "bias": bucket_bias("table", HEADS, relative_buckets(8, 40, bidirectional=True), 40),
    },
    "buckets of the past": {
        "causal": True,
        "bias": bucket_bias("table", HEADS, relative_buckets(8, 40, bidirectional=False), 40),
    },
    "alibi": {"causal": True, "bias": alibi_bias(HEADS, 150)},
    "alibi both ways": {"causal": False, "bias": alibi_bias(HEADS, 150, 150)},
    "dense": {"causal": False, "bias": DENSE},
    "all": {
        "causal": True,
        "bias": alibi_bias(HEADS, 150),
        "soft_cap": 3.0,
        "sinks": "sinks",
        "window": 33,
        "prefix": True,
    },
}


def make_graph(**options: Any) -> Graph:
    """One layer of attention, its output "y"."""
    graph = Graph({name: array.shape for name, array in TENSORS.items()}, "graph")
    cache = graph.cache("own", 1, HEADS // 2, WIDTH // HEADS, WIDTH // HEADS, "sequence")
    x = graph.embed(TOKENS, "embed", VOCAB, WIDTH)
    query, key, value = (graph.linear(x, name, len(TENSORS[f"{name}.weight"])) for name in "qkv")
    graph.store_kv(key, value, cache, 0)
    graph.output("y", graph.attention(query, cache, 0, scale=0.7, **options))
    return graph


def ids(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, count).tolist()


def interpreted(graph: Graph, token_ids: list[int], prefix: int) -> np.ndarray:
    tensors = {name: array.astype(np.float64) for name, array in TENSORS.items()}
    return interpret(graph, tensors, *text_inputs(token_ids), {}, prefix=prefix)["y"]


@pytest.mark.parametrize("name", CASES)
def test_the_plan_says_what_the_interpreter_says(tmp_path: Path, name: str) -> None:
    graph = make_graph(**CASES[name])
    prefix = 23 if CASES[name].get("prefix") else 0
    result = GraphProgram(graph, TENSORS, tmp_path).run([(0, 0, ids(0, 150))], prefix)
    wanted = interpreted(graph, ids(0, 150), prefix)
    assert np.abs(result - wanted).max() < 1e-5
    if name != "plain":  # each of them changes something
        plain = interpreted(make_graph(causal=CASES[name]["causal"]), ids(0, 150), prefix)
        assert np.abs(wanted - plain).max() > 1e-2


@pytest.mark.parametrize("kv_type", [core.EF_F32, core.EF_F16, core.EF_Q8_0])
@pytest.mark.parametrize("name", CASES)
def test_ragged_batches_threads_and_instruction_sets_change_no_bit(tmp_path: Path, name: str, kv_type: int) -> None:
    graph, lengths = make_graph(**CASES[name]), (30, 150, 24, 61)
    prefix = 23 if CASES[name].get("prefix") else 0
    one = GraphProgram(graph, TENSORS, tmp_path, isa="scalar", kv_type=kv_type)
    alone = [one.run([(0, 0, ids(n, n))], prefix) for n in lengths]
    feeds = [(number, 0, ids(n, n)) for number, n in enumerate(lengths)]
    for isa in core.isa_names():
        together = GraphProgram(graph, TENSORS, tmp_path, isa=isa, kv_type=kv_type, threads=3)
        assert same_bits(together.run(feeds, prefix), np.concatenate(alone)), isa


@pytest.mark.parametrize("name", [name for name, options in CASES.items() if options["causal"]])
def test_token_by_token_gives_the_same_bits(tmp_path: Path, name: str) -> None:
    """After the prefix, which is one run; with threads, a token's heads are split over spans."""
    graph, tokens = make_graph(**CASES[name]), ids(0, 150)
    prefix = 23 if CASES[name].get("prefix") else 0
    whole = GraphProgram(graph, TENSORS, tmp_path).run([(0, 0, tokens)], prefix)
    program = GraphProgram(graph, TENSORS, tmp_path, threads=4)
    parts = [program.run([(0, 0, tokens[:23])], prefix)]
    parts += [program.run([(0, at, tokens[at : at + 1])], prefix) for at in range(23, 150)]
    assert same_bits(np.concatenate(parts), whole)


def test_a_prefix_sees_itself_both_ways_and_nothing_after_it(tmp_path: Path) -> None:
    program = GraphProgram(make_graph(causal=True, prefix=True), TENSORS, tmp_path)
    tokens = ids(0, 40)
    result = program.run([(0, 0, tokens)], 10)
    last_of_prefix, first_after = tokens.copy(), tokens.copy()
    last_of_prefix[9] = (tokens[9] + 1) % VOCAB
    first_after[10] = (tokens[10] + 1) % VOCAB
    assert (program.run([(0, 0, last_of_prefix)], 10)[:10] != result[:10]).any(axis=1).all()
    assert same_bits(program.run([(0, 0, first_after)], 10)[:10], result[:10])


def test_a_prefix_that_a_run_does_not_hold_is_refused(tmp_path: Path) -> None:
    program = GraphProgram(make_graph(causal=True, prefix=True), TENSORS, tmp_path)
    with pytest.raises(InvalidInputError, match="prefix of 41, where 40 is the most"):
        program.run([(0, 0, ids(0, 40))], 41)
    with pytest.raises(InvalidInputError, match="prefix of -1"):
        program.run([(0, 0, ids(0, 40))], -1)


def test_positions_that_a_dense_bias_has_no_values_for_are_refused(tmp_path: Path) -> None:
    program = GraphProgram(make_graph(causal=False, bias=DENSE), TENSORS, tmp_path)
    with pytest.raises(InvalidInputError, match="a bias is for 150 that see 150"):
        program.run([(0, 0, ids(0, 151))])


def test_layers_share_the_table_of_a_bias() -> None:
    graph = make_graph(causal=True, bias=DENSE)
    cache, query = graph.caches[0], graph.nodes[1].output
    assert query is not None
    graph.output("y", graph.attention(query, cache, 0, causal=True, scale=1.0, bias=DENSE))
    recipe = compile_graph(graph, ["y"], lambda name: False, lambda name: core.EF_F32)
    assert len(recipe.vectors) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": alibi_bias(3, 5)}, "a bias of 3 heads, not of 4"),
        ({"bias": bucket_bias("tabel", HEADS, np.zeros(5, int), 4)}, "tabel: the tensor is missing"),
        ({"bias": bucket_bias("table", HEADS, np.full(5, 8), 4)}, r"table: shape \[8, 4\], and its element 35"),
        ({"sinks": "table"}, r"table: shape \[8, 4\], expected \[4\]"),
    ],
)
def test_what_the_tensors_do_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        make_graph(causal=True, **options)


def test_tensors_of_attention_are_used_and_are_not_packed() -> None:
    """What a bias or a sink reads stays floats, also where the same tensor is a matrix elsewhere."""
    graph = make_graph(causal=True, bias=bucket_bias("embed.weight", HEADS, np.arange(5), 4), sinks="sinks")
    assert {"embed.weight", "sinks"} <= {name for node in graph.nodes for name in node.tensors}
    recipe = compile_graph(graph, ["y"], lambda name: False, lambda name: core.EF_F32)
    assert _packable([recipe], recipe.matrices) == ["q.weight", "k.weight", "v.weight"]


def test_a_bias_with_infinite_elements_is_refused(tmp_path: Path) -> None:
    wrong: dict[str, Floats] = TENSORS | {"table": np.full((8, HEADS), np.inf, np.float32)}
    with pytest.raises(NumericError, match="table holds NaN or infinity"):
        GraphProgram(make_graph(**CASES["buckets"]), wrong, tmp_path)
