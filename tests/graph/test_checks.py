"""A graph that would give wrong results is refused when it is built, in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edgeformer.errors import GraphError, UnsupportedModelError
from edgeformer.graph.architecture import Architecture
from edgeformer.graph.domains import TOKENS
from edgeformer.graph.graph import CacheSpec, Graph
from edgeformer.graph.position_bias import alibi_bias
from edgeformer.graph.values import Value

WIDTH = 32
SHAPES = dict.fromkeys(("embed.weight", "w.weight"), (WIDTH, WIDTH)) | {"wide.weight": (3 * WIDTH, WIDTH)}
Build = Callable[[Graph, Value], None]


def architecture(*builds: Build) -> Architecture:
    programs = {f"program{i}": Graph(SHAPES, "a.gguf") for i in range(len(builds))}
    for graph, build in zip(programs.values(), builds, strict=True):
        build(graph, graph.embed(TOKENS, "embed", WIDTH, WIDTH))
    return Architecture(programs, 16)


def cache(graph: Graph, lifetime: str = "sequence", layers: int = 2, name: str = "own") -> CacheSpec:
    return graph.cache(name, layers, 2, WIDTH // 2, WIDTH // 2, lifetime)


def attend(graph: Graph, x: Value, spec: CacheSpec, layer: int, *, causal: bool = True, **rest: Any) -> Value:
    return graph.attention(x, spec, layer, causal=causal, scale=0.25, **rest)


def forgotten_store(graph: Graph, x: Value) -> None:
    graph.output("hidden", attend(graph, x, cache(graph), 0))


def late_store(graph: Graph, x: Value) -> None:
    spec = cache(graph)
    graph.output("hidden", attend(graph, x, spec, 0))
    graph.store_kv(x, x, spec, 0)


def always_layer_0(graph: Graph, x: Value) -> None:
    spec = cache(graph)
    for layer in range(2):
        graph.store_kv(x, x, spec, 0)
        x = attend(graph, x, spec, layer)
    graph.output("hidden", x)


def stored_twice(graph: Graph, x: Value) -> None:
    spec = cache(graph)
    graph.store_kv(x, x, spec, 1)
    graph.store_kv(x, x, spec, 1)
    graph.output("hidden", x)


def too_high(graph: Graph, x: Value) -> None:
    graph.store_kv(x, x, cache(graph), 2)
    graph.output("hidden", x)


def undeclared(graph: Graph, x: Value) -> None:
    graph.store_kv(x, x, CacheSpec("other", 1, 2, 16, 16, "sequence"), 0)
    graph.output("hidden", x)


def unknown_output(graph: Graph, x: Value) -> None:
    graph.output("scores", x)


def part_of_a_tensor(graph: Graph, x: Value) -> None:
    for first in (0, 2 * WIDTH):
        graph.linear(x, "wide", WIDTH, first_row=first, num_rows=3 * WIDTH)
    graph.output("hidden", x)


@pytest.mark.parametrize(("build", "message"), [
    (forgotten_store, "an attention reads layer 0 of the cache 'own', which nothing has stored before it"),
    (late_store, "an attention reads layer 0 of the cache 'own', which nothing has stored before it"),
    (always_layer_0, "layer 0 of the cache 'own' is stored twice: the second overwrites the first"),
    (stored_twice, "layer 1 of the cache 'own' is stored twice: the second overwrites the first"),
    (too_high, "layer 2 of the cache 'own', which has 2, is used"),
    (undeclared, "the cache 'other' is used and not declared"),
    (unknown_output, "nobody asks for an output 'scores'; known are classes, hidden, logits, normalized, pooled, "
                     "spans, token_classes, words"),
    (part_of_a_tensor, "row 32 of wide.weight is not read, and those before it are"),
])  # fmt: skip
def test_a_program_that_contradicts_itself_is_refused(build: Build, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        architecture(build)
    assert str(caught.value) == f"a.gguf: program program0: {message}"
    assert caught.value.program == "program0"


def test_a_cache_of_one_run_is_stored_again_for_every_layer() -> None:
    def build(graph: Graph, x: Value) -> None:
        spec = cache(graph, "pass", 1)
        for _ in range(3):
            graph.store_kv(x, x, spec, 0)
            x = attend(graph, x, spec, 0)
        graph.output("hidden", x)

    assert architecture(build).whole == ["program0"]


def reads_sources(graph: Graph, x: Value) -> None:
    for layer in range(2):
        graph.store_kv(x, x, cache(graph, "source", name="cross") if layer == 0 else graph.caches[0], layer)
    graph.output("hidden", x)


def attends_to_sources(layers: int, **options: Any) -> Build:
    def build(graph: Graph, x: Value) -> None:
        own, cross = cache(graph, layers=1), cache(graph, "source", layers, "cross")
        graph.store_kv(x, x, own, 0)
        x = attend(graph, attend(graph, x, own, 0), cross, 1, **{"causal": False, **options})
        graph.output("logits", x)

    return build


def test_another_program_may_store_what_one_reads() -> None:
    assert architecture(reads_sources, attends_to_sources(2)).reader == "program0"
    with pytest.raises(GraphError, match="layer 1 of the cache 'cross', which nothing has stored before it"):
        architecture(attends_to_sources(2))
    with pytest.raises(GraphError, match="program1: the cache 'cross' has another shape in another program"):
        architecture(reads_sources, attends_to_sources(3))


@pytest.mark.parametrize("options", [{"causal": True}, {"window": 3}, {"bias": alibi_bias(2, 5)}])
def test_attention_over_a_source_has_no_positions_to_go_by(options: dict[str, Any]) -> None:
    what = "an attention over layer 1 of the cache 'cross' goes by the positions of its rows"
    with pytest.raises(GraphError, match=f"{what}, which are not stored there: it can have no mask"):
        architecture(reads_sources, attends_to_sources(2, **options))


def test_attention_by_positions_is_for_the_rows_that_were_stored() -> None:
    def build(graph: Graph, x: Value) -> None:
        spec = cache(graph, "pass", 1)
        graph.store_kv(x, x, spec, 0)
        graph.output("hidden", attend(graph, graph.select(x), spec, 0))

    with pytest.raises(GraphError, match="goes by the positions of its rows"):
        architecture(build)


@pytest.mark.parametrize(("build", "message"), [
    (lambda graph, x: graph.activation(x, "swish"), "activation 'swish' is not supported; known: none, relu"),
    (lambda graph, x: graph.gate(x, x, "swish"), "activation 'swish' is not supported; known: none, relu"),
    (lambda graph, x: graph.rope(x, graph.rotary(np.ones(8, np.float32)), 2, "half"),
     "pairing 'half' is not supported; known: halves, neighbours"),
    (lambda graph, x: graph.pool(x, "max"), "pooling 'max' is not supported; known: mean, first, last"),
    (lambda graph, x: graph.add(x, graph.columns(x, 0, 8)), "a sum of 32 and of 8 columns"),
    (lambda graph, x: graph.gate(x, graph.columns(x, 0, 8), "silu"), "a gate of 32 and of 8 columns"),
])  # fmt: skip
def test_what_no_op_does_is_named_where_it_is_asked_for(build: Build, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"^a.gguf: {message}"):
        architecture(build)
