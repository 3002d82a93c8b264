"""Functions of rows and of their elements: what the plan computes is what NumPy does in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import ModelFormatError, UnsupportedModelError
from edgeformer.graph import interpreter
from edgeformer.graph.domains import TOKENS
from edgeformer.graph.graph import Graph
from edgeformer.graph.recipe import Recipe
from edgeformer.graph.values import Value
from support.graph_runs import run_file
from support.small_models import SmallModel

VOCABULARY, WIDTH = 40, 64
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
SHAPES = {
    "token_embd.weight": (VOCABULARY, WIDTH),
    "norm.weight": (WIDTH,),
    "norm.bias": (WIDTH,),
    "ls.gamma": (WIDTH,),
    "heads.weight": (WIDTH // 4,),
    "next.weight": (48, WIDTH),
    "other.weight": (WIDTH, WIDTH),
    "one.weight": (WIDTH,),
}
OPS: dict[str, Callable[[Graph, Value], Value]] = {
    "LayerNorm": lambda graph, x: graph.layer_norm(x, "norm", 1e-5),
    "LayerNorm without bias": lambda graph, x: graph.layer_norm(x, "norm", 1e-5, bias=False),
    "LayerNorm without weight": lambda graph, x: graph.layer_norm(x, None, 1e-5),
    "RMSNorm": lambda graph, x: graph.rms_norm(x, "norm", 1e-5),
    "RMSNorm without weight": lambda graph, x: graph.rms_norm(x, None, 1e-5),
    "RMSNorm of heads": lambda graph, x: graph.rms_norm(x, "heads", 1e-5, groups=4),
    "l2": lambda graph, x: graph.l2_norm(x),
    "scale": lambda graph, x: graph.scale(x, -2.5),
    "LayerScale": lambda graph, x: graph.affine(x, weight="ls.gamma"),
    "vector": lambda graph, x: graph.affine(x, bias="ls.gamma"),
    "affine": lambda graph, x: graph.affine(x, factor=0.5, weight="ls.gamma", bias="norm.bias"),
    "soft cap": lambda graph, x: graph.soft_cap(graph.scale(x, 20), 5.0),
    "clip": lambda graph, x: graph.clip(graph.scale(x, 20), 1.5),
    "softmax": lambda graph, x: graph.softmax(x, scale=3.0),
    "softmax of groups": lambda graph, x: graph.softmax(x, groups=8),
    "product": lambda graph, x: graph.multiply(x, graph.linear(x, "other", WIDTH)),
    "gate with a limit": lambda graph, x: graph.gate(
        graph.scale(x, 9), graph.linear(x, "other", WIDTH), "quick_gelu", limit=1.5, offset=1.0
    ),
    "weights of rows": lambda graph, x: graph.weight_rows(x, graph.activation(graph.linear(x, "one", 1), "sigmoid")),
    **{name: lambda graph, x, name=name: graph.activation(x, name) for name in core.ACTIVATIONS},
}


def written(tmp_path: Path, type: str = "f32") -> tuple[Path, Graph, Value]:
    """A file of the tensors, and a graph over it with its first value."""
    model = SmallModel("none", {}, SHAPES).with_type("next.weight", type)
    graph = Graph(model.shapes, "small")
    return model.write(tmp_path / "a.gguf"), graph, graph.embed(TOKENS, "token_embd", VOCABULARY, WIDTH)


def function64(name: str, x: np.ndarray) -> np.ndarray:
    """A few of the ops, as their papers write them, of rows of float64."""
    if name == "LayerNorm without weight":
        return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    if name == "RMSNorm without weight":
        return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5)
    if name == "soft cap":
        return 5 * np.tanh(x * 20 / 5)
    weights = np.exp(x.reshape(len(x), 8, -1)) if name == "softmax of groups" else np.exp(3 * x)[:, None]
    return (weights / weights.sum(-1, keepdims=True)).reshape(x.shape)


@pytest.mark.parametrize("name", OPS)
def test_the_plan_computes_what_the_interpreter_does(tmp_path: Path, name: str) -> None:
    path, graph, x = written(tmp_path)
    graph.output("y", OPS[name](graph, x))
    _, actual, wanted = run_file(graph, path, IDS)
    np.testing.assert_allclose(actual["y"], wanted["y"], atol=1e-5 * np.ptp(wanted["y"]))


@pytest.mark.parametrize(
    "name", ["LayerNorm without weight", "RMSNorm without weight", "soft cap", "softmax", "softmax of groups"]
)
def test_the_interpreter_does_what_the_papers_say(tmp_path: Path, name: str) -> None:
    path, graph, x = written(tmp_path)
    graph.output("x", x)
    graph.output("y", OPS[name](graph, x))
    _, _, wanted = run_file(graph, path, IDS)
    np.testing.assert_allclose(wanted["y"], function64(name, wanted["x"].astype(np.float64)), rtol=1e-6, atol=1e-9)


def kinds(recipe: Recipe) -> list[str]:
    return [op.kind for op in recipe.ops]


@pytest.mark.parametrize("type", ["q8_0", "i8_row"])
@pytest.mark.parametrize("name", [name for name in OPS if "of " not in name and name != "none"])
def test_quantized_products_take_what_the_op_quantizes_itself(tmp_path: Path, name: str, type: str) -> None:
    path, graph, x = written(tmp_path, type)
    graph.output("y", graph.linear(OPS[name](graph, x), "next", 48))
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert "quantize" not in kinds(recipe)
    np.testing.assert_allclose(actual["y"], wanted["y"], atol=0.03 * np.ptp(wanted["y"]))


def test_a_product_of_two_projections_is_made_by_the_product(tmp_path: Path) -> None:
    """The bilinear gate (Dauphin et al. 2017, Shazeer 2020) is the gated product without an activation."""
    path, graph, x = written(tmp_path)
    graph.output("y", graph.multiply(graph.linear(x, "other", WIDTH), graph.linear(x, "other", WIDTH)))
    recipe, actual, wanted = run_file(graph, path, IDS)
    assert kinds(recipe) == ["embed", "linear"] and recipe.ops[1].fields == {"activation": 0, "gated": 1}
    np.testing.assert_allclose(actual["y"], wanted["y"], atol=1e-5 * np.ptp(wanted["y"]))


def test_the_interpreter_knows_every_row_function() -> None:
    assert set(interpreter.ROW_FUNCTIONS) == set(core.ROW_FUNCTIONS)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    _, graph, x = written(tmp_path)
    with pytest.raises(ModelFormatError, match=r"heads\.weight.*expected \[64\]"):
        graph.rms_norm(x, "heads", 1e-5)
    with pytest.raises(ModelFormatError, match=r"heads\.bias.*missing"):
        graph.layer_norm(graph.columns(x, 0, 16), "heads", 1e-5)
    with pytest.raises(ModelFormatError, match="5 groups do not divide 64 columns"):
        graph.softmax(x, groups=5)
    for cap in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UnsupportedModelError, match="soft cap"):
            graph.soft_cap(x, cap)
        with pytest.raises(UnsupportedModelError, match="clipped at"):
            graph.clip(x, cap)
