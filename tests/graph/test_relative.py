"""What rows themselves add to scores of attention, and products of parts of the columns, as graphs say them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError, ModelFormatError, UnsupportedModelError
from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.domains import TOKENS
from edgeformer.graph.graph import Graph
from edgeformer.graph.interpreter import interpret, text_inputs
from edgeformer.graph.position_bias import DistanceBuckets, alibi_bias
from support.graph_program import GraphProgram
from support.kernel_inputs import rows, same_bits

WIDTH, HEADS, VOCAB, COUNT = 32, 4, 50, 16
TENSORS = {
    "embed.weight": rows(0, VOCAB, WIDTH),
    "qk.weight": rows(1, 2 * WIDTH, WIDTH, scale=0.3),
    "relative.weight": rows(2, 2 * HEADS * COUNT, WIDTH // HEADS, scale=0.5),
}
BUCKETS = DistanceBuckets(np.random.default_rng(3).integers(0, COUNT, 41), 20, COUNT)


def make_graph(width: int = 2 * HEADS * COUNT, groups: int = 2 * HEADS, **options: Any) -> Graph:
    """One layer of attention in which queries and keys meet vectors of distances, its output "y"."""
    graph = Graph({name: array.shape for name, array in TENSORS.items()}, "graph")
    cache = graph.cache("own", 1, HEADS, WIDTH // HEADS, WIDTH // HEADS, "pass")
    x = graph.embed(TOKENS, "embed", VOCAB, WIDTH)
    both = graph.linear(x, "qk", 2 * WIDTH)
    relative = graph.grouped_linear(both, "relative", width, groups)
    graph.store_kv(graph.columns(both, WIDTH, WIDTH), x, cache, 0)
    given = {"causal": False, "relative": (relative, BUCKETS)} | options
    if given["relative"] == "of queries alone":
        given["relative"] = graph.columns(relative, 0, HEADS * COUNT), BUCKETS
    graph.output("y", graph.attention(graph.columns(both, 0, WIDTH), cache, 0, scale=0.5, **given))
    return graph


def ids(seed: int, count: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, count).tolist()


def test_the_plan_gives_the_interpreters_numbers_and_the_same_bits_everywhere(tmp_path: Path) -> None:
    graph, sequences = make_graph(), [ids(4, 3), ids(5, 150), ids(6, 1)]
    tensors = {name: array.astype(np.float64) for name, array in TENSORS.items()}
    alone = [interpret(graph, tensors, *text_inputs(one), {})["y"] for one in sequences]
    results = []
    for isa in core.isa_names():
        for threads in (1, 2):
            program = GraphProgram(graph, TENSORS, tmp_path, isa=isa, threads=threads)
            results.append(program.run([(number, 0, one) for number, one in enumerate(sequences)]))
    assert np.allclose(results[0], np.concatenate(alone), rtol=1e-4, atol=1e-4)
    assert all(same_bits(result, results[0]) for result in results)


def test_rows_that_do_not_see_one_another_are_refused(tmp_path: Path) -> None:
    program = GraphProgram(make_graph(), TENSORS, tmp_path)
    program.run([(0, 0, ids(0, 5))])
    with pytest.raises(InvalidInputError, match="5 rows from position 5 that see 10; they must see one another"):
        program.run([(0, 5, ids(0, 5))])


@pytest.mark.parametrize(
    "options", [{"causal": True}, {"bias": alibi_bias(HEADS, 5)}, {"relative": "of queries alone"}]
)
def test_what_goes_with_no_relative_scores_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="relative scores"):
        make_graph(**options)


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelFormatError, match="not whole tiles of 16"):
        make_graph(width=2 * HEADS * 8)
    with pytest.raises(ModelFormatError, match="3 groups of 64 columns"):
        make_graph(groups=3)


def test_quantized_matrices_of_groups_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"relative\.weight.*has to be of floats"):
        compile_graph(make_graph(), ["y"], lambda name: name == "relative.weight", lambda name: core.EF_Q8_0)
