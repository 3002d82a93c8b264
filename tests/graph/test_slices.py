"""Rows of tensors and columns of values: fused projections keep what separate ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgeformer.errors import ModelFormatError, UnsupportedModelError
from edgeformer.graph.domains import TOKENS
from edgeformer.graph.graph import Graph, rotary_frequencies
from edgeformer.graph.recipe import MatrixPart, Recipe
from edgeformer.graph.values import Value
from support.graph_runs import run_file
from support.small_models import SmallModel

VOCABULARY, WIDTH = 40, 64
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def kinds(recipe: Recipe) -> list[str]:
    return [op.kind for op in recipe.ops]


def written(tmp_path: Path, shapes: dict[str, tuple[int, ...]], type: str = "f32") -> tuple[Path, Graph, Value]:
    """A file of these tensors, and a graph over it with its first value."""
    model = SmallModel("none", {}, {"token_embd.weight": (VOCABULARY, WIDTH), **shapes})
    for name, shape in shapes.items():
        model = model.with_type(name, type if len(shape) == 2 else "f32")
    graph = Graph(model.shapes, "small")
    return model.write(tmp_path / "a.gguf"), graph, graph.embed(TOKENS, "token_embd", VOCABULARY, WIDTH)


def close(actual: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(actual, wanted, atol=1e-5 * np.ptp(wanted))


@pytest.mark.parametrize("gate_first", [True, False])
def test_a_fused_gate_and_up_are_the_gated_product_that_separate_ones_are(tmp_path: Path, gate_first: bool) -> None:
    path, graph, x = written(tmp_path, {"ffn_up.weight": (192, WIDTH), "ffn_up.bias": (192,)})
    parts = [graph.linear(x, "ffn_up", 96, first_row=first, num_rows=192) for first in (0, 96)]
    graph.output("h", graph.gate(*(parts if gate_first else parts[::-1]), "silu"))
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert kinds(recipe) == ["embed", "linear"]
    assert recipe.ops[1].fields["gated"]
    close(actual["h"], wanted["h"])


def test_a_fused_projection_is_one_matrix_in_memory_and_in_a_packed_file(tmp_path: Path) -> None:
    path, graph, x = written(tmp_path, {"qkv.weight": (96, WIDTH), "qkv.bias": (96,)}, "q8_0")
    for name, first, width in (("q", 0, 64), ("k", 64, 16), ("v", 80, 16)):
        graph.output(name, graph.linear(x, "qkv", width, first_row=first, num_rows=96))
    recipe, plain, wanted = run_file(graph, path, IDS)
    stack = tuple(MatrixPart("qkv.weight", first, rows) for first, rows in ((0, 64), (64, 16), (80, 16)))
    assert stack in recipe.matrices
    for name, rows in wanted.items():
        np.testing.assert_allclose(plain[name], rows, atol=0.02 * np.ptp(rows))


def test_columns_are_read_where_they_lie(tmp_path: Path) -> None:
    """By products of floats and of quantized weights, norms and sums, also columns of columns, and as results."""
    shapes = {"both.weight": (80, WIDTH), "one.weight": (16, 32), "norm.weight": (24,), "narrow.weight": (24, 40)}
    path, graph, x = written(tmp_path, shapes)
    both = graph.linear(x, "both", 80)
    middle = graph.columns(both, 16, 40)
    graph.output("product", graph.linear(graph.columns(both, 48, 32), "one", 16))
    graph.output("norm", graph.rms_norm(graph.columns(middle, 8, 24), "norm", 1e-5))
    graph.output("sum", graph.add(graph.linear(middle, "narrow", 24), graph.columns(both, 3, 24)))
    graph.output("itself", graph.columns(middle, 1, 39))
    graph.output("whole", both)
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert "columns" not in kinds(recipe)
    for name, rows in wanted.items():
        close(actual[name], rows)


@pytest.mark.parametrize("type", ["q8_0", "q4_0", "i8_row"])
def test_columns_are_quantized_for_quantized_weights(tmp_path: Path, type: str) -> None:
    shapes = {"both.weight": (96, WIDTH), "one.weight": (16, 32), "two.weight": (16, 32)}
    path, graph, x = written(tmp_path, shapes, type)
    both = graph.linear(x, "both", 96)
    graph.output("one", graph.linear(graph.columns(both, 0, 32), "one", 16))
    graph.output("two", graph.linear(graph.columns(both, 64, 32), "two", 16))
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert kinds(recipe).count("quantize") >= 2
    for name, rows in wanted.items():
        np.testing.assert_allclose(actual[name], rows, atol=0.06 * np.ptp(rows))


@pytest.mark.parametrize("reader", ["output", "product", "overlap", "apart", "none"])
def test_a_rotated_value_that_is_read_as_it_was_is_copied(tmp_path: Path, reader: str) -> None:
    path, graph, x = written(tmp_path, {"both.weight": (96, WIDTH), "one.weight": (16, 96), "two.weight": (16, 32)})
    angles = graph.rotary(rotary_frequencies(16, 10000.0))
    both = graph.linear(x, "both", 96)
    graph.output("rotated", graph.rope(graph.columns(both, 0, 32), angles, 2, "halves"))
    if reader == "output":
        graph.output("whole", both)
    elif reader == "product":
        graph.output("product", graph.linear(both, "one", 16))
    elif reader != "none":
        graph.output("part", graph.linear(graph.columns(both, 24 if reader == "overlap" else 32, 32), "two", 16))
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert kinds(recipe).count("activate") == (reader in ("output", "product", "overlap"))
    for name, rows in wanted.items():
        close(actual[name], rows)


def test_a_value_is_rotated_twice(tmp_path: Path) -> None:
    path, graph, x = written(tmp_path, {})
    for name, base in (("near", 100.0), ("far", 10000.0)):
        angles = graph.rotary(rotary_frequencies(WIDTH, base))
        graph.output(name, graph.rope(x, angles, 1, "neighbours"))
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert kinds(recipe).count("activate") == 1
    for name, rows in wanted.items():
        close(actual[name], rows)


def test_slices_that_are_not_there_are_named(tmp_path: Path) -> None:
    _, graph, x = written(tmp_path, {"qkv.weight": (96, WIDTH)})
    for first, width in ((64, 48), (-1, 16), (0, 97)):
        with pytest.raises(ModelFormatError, match=r"qkv\.weight.*rows .* are not within its 96"):
            graph.linear(x, "qkv", width, first_row=first, num_rows=96)
    with pytest.raises(ModelFormatError, match=r"shape \[96, 64\], expected \[80, 64\]"):
        graph.linear(x, "qkv", 16, first_row=32, num_rows=80)
    for first, width in ((60, 5), (-1, 2)):
        with pytest.raises(UnsupportedModelError, match=r"columns .* of a value of 64"):
            graph.columns(x, first, width)
