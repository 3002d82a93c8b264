"""Models of other forms than those in `models/`: what they take and give decides what a session does with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edgeformer.engine.loading import LoadOptions, load_model
from edgeformer.engine.session import Session
from edgeformer.errors import ContextOverflowError, GraphError, InvalidInputError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from edgeformer.graph.architecture import Architecture
from edgeformer.graph.domains import ROWS, TOKENS, Features, Places
from edgeformer.graph.graph import Graph
from edgeformer.graph.interpreter import interpret, text_inputs
from edgeformer.tasks.base import verbs_of
from support.small_models import MODELS

WIDTH, VOCABULARY, CONTEXT = 32, 24, 40
Build = Callable[[Graph], None]


class Opened:
    """A session of an architecture built here, and the interpreter's numbers for it."""

    def __init__(self, path: Path, shapes: dict[str, tuple[int, ...]], programs: dict[str, Build]) -> None:
        generator = np.random.default_rng(3)
        with GGUFWriter(path, "made-here") as writer:
            for name, shape in shapes.items():
                writer.declare(name, shape, 0)
            for name, shape in shapes.items():
                writer.write(name, generator.normal(0, 0.3, shape).astype(np.float32))
        graphs = {name: Graph(shapes, str(path)) for name in programs}
        for name, build in programs.items():
            build(graphs[name])
        self.architecture = Architecture(graphs, CONTEXT)
        with GGUFFile(path) as file:
            self.tensors = {name: file.dequantize(name).astype(np.float64) for name in file.tensors}
            self.session = Session(load_model(file, self.architecture, LoadOptions(threads=2, kv_type="f32")))

    def expected(self, program: str, output: str, ids: list[int]) -> np.ndarray:
        return interpret(self.architecture.programs[program], self.tensors, *text_inputs(ids), {})[output]


SHAPES = {
    "embed.weight": (VOCABULARY, WIDTH),
    **{f"{layer}.{part}.weight": (WIDTH, WIDTH) for layer in (0, 1) for part in ("q", "k", "v")},
    "head.weight": (VOCABULARY, WIDTH),
}


def two_kinds_of_layers(graph: Graph) -> None:
    """A decoder whose layers have two heads of sixteen and one of thirty-two: each has a cache of its own."""
    x = graph.embed(TOKENS, "embed", VOCABULARY, WIDTH)
    for layer, (name, heads, window) in enumerate((("wide", 1, 0), ("narrow", 2, 5))):
        cache = graph.cache(name, 1, heads, WIDTH // heads, WIDTH // heads, "sequence")
        query, key, value = (graph.linear(x, f"{layer}.{part}", WIDTH) for part in ("q", "k", "v"))
        graph.store_kv(key, value, cache, 0)
        x = graph.add(x, graph.attention(query, cache, 0, causal=True, scale=0.2, window=window))
    graph.output("hidden", x)
    graph.output("logits", graph.linear(graph.select(x), "head", VOCABULARY))


def no_attention(graph: Graph) -> None:
    """A bag of words: embeddings, their sums of two, their mean."""
    x = graph.embed(TOKENS, "embed", VOCABULARY, WIDTH)
    x = graph.add(x, graph.activation(graph.linear(x, "0.q", WIDTH), "relu"))
    graph.output("hidden", x)
    pooled = graph.pool(x, "mean")
    graph.output("pooled", pooled)
    graph.output("normalized", graph.l2_norm(pooled))


def test_a_decoder_with_two_kinds_of_caches(tmp_path: Path) -> None:
    opened = Opened(tmp_path / "two.gguf", SHAPES, {"decode": two_kinds_of_layers})
    session, ids = opened.session, [(7 * i + 2) % VOCABULARY for i in range(30)]
    wanted = opened.expected("decode", "logits", ids)
    sequence = session.new_sequence()
    pools = session._runner.caches.pools
    before = {name: pool.num_free for name, pool in pools.items()}
    got = np.concatenate([session.forward([(sequence, ids[i : i + 7])], outputs="all") for i in range(0, 30, 7)])
    assert np.allclose(got, wanted, atol=1e-4)
    fork = sequence.fork()
    fork.truncate(17)
    assert (sequence.length, fork.length) == (30, 17)
    again = session.forward([(fork, ids[17:20]), (sequence, [1])], outputs=[3, 0])
    assert np.array_equal(again, got[17:20])
    sequence.free()
    fork.free()
    assert {name: pool.num_free for name, pool in pools.items()} == before and len(before) == 2
    assert np.allclose(session.hidden([ids, ids[:3]])[:30], opened.expected("decode", "hidden", ids), atol=1e-4)
    assert verbs_of(session)[:4] == ("generate", "agenerate", "logits", "hidden_states")
    session.close()


def test_an_encoder_without_attention(tmp_path: Path) -> None:
    opened = Opened(tmp_path / "bag.gguf", SHAPES, {"encode": no_attention})
    session, sentences = opened.session, [[1, 2, 3], [4] * 20, [5]]
    for output, normalize in (("pooled", False), ("normalized", True)):
        got = session.hidden(sentences, pooled=True, normalize=normalize)
        wanted = np.concatenate([opened.expected("encode", output, ids) for ids in sentences])
        assert np.allclose(got, wanted, atol=1e-5)
    assert (session.contexts, session.embedding_width, session.vocab_size) == (0, WIDTH, VOCABULARY)
    assert verbs_of(session) == ("encode", "similarity", "hidden_states", "tokenize", "detokenize")
    with pytest.raises(UnsupportedModelError, match="no sequences"):
        session.new_sequence()
    session.close()


def test_rows_are_numbered_where_no_other_rows_follow_from_them(tmp_path: Path) -> None:
    """Patches with positions of their own, and nothing else that would ask for grids."""

    def patches(graph: Graph) -> None:
        x = graph.linear(graph.features(Features("patches", WIDTH)), "0.q", WIDTH)
        graph.output("hidden", graph.embed(Places(ROWS), "embed", VOCABULARY, WIDTH, add=x))

    opened = Opened(tmp_path / "patches.gguf", SHAPES, {"encode": patches})
    samples = [np.random.default_rng(count).normal(size=(count, WIDTH)).astype(np.float32) for count in (3, 7)]
    for sample, rows in zip(samples, opened.session.features(samples), strict=True):
        wanted = sample @ opened.tensors["0.q.weight"].T + opened.tensors["embed.weight"][: len(sample)]
        assert np.allclose(rows, wanted, atol=1e-5)


def test_two_programs_that_step_are_refused(tmp_path: Path) -> None:
    programs = {"first": two_kinds_of_layers, "second": two_kinds_of_layers}
    with pytest.raises(GraphError, match="program second: first appends rows to sequences already"):
        Opened(tmp_path / "two.gguf", SHAPES, programs)


def test_a_model_that_gives_classes_alone_says_what_it_cannot_give(tmp_path: Path) -> None:
    def classify(graph: Graph) -> None:
        x = graph.embed(TOKENS, "embed", VOCABULARY, WIDTH)
        graph.output("classes", graph.linear(graph.pool(x, "mean"), "head", VOCABULARY))

    opened = Opened(tmp_path / "classes.gguf", SHAPES, {"encode": classify})
    for call in (lambda: opened.session.hidden([[1]]), lambda: opened.session.hidden([[1]], pooled=True)):
        with pytest.raises(UnsupportedModelError, match="cannot give"):
            call()
    assert verbs_of(opened.session) == ("classify", "tokenize", "detokenize")


def test_more_caches_than_the_kernels_take_are_refused(tmp_path: Path) -> None:
    def many(graph: Graph) -> None:
        x = graph.embed(TOKENS, "embed", VOCABULARY, WIDTH)
        for index in range(5):
            cache = graph.cache(f"cache{index}", 1, 1, WIDTH, WIDTH, "sequence")
            graph.store_kv(x, x, cache, 0)
            x = graph.attention(x, cache, 0, causal=True, scale=1.0)
        graph.output("hidden", x)

    with pytest.raises(UnsupportedModelError, match="5 caches; at most 4"):
        Opened(tmp_path / "many.gguf", SHAPES, {"decode": many})


def test_models_of_float_rows_and_of_tokens_say_what_they_take(tmp_path: Path) -> None:
    vision = Session.open(MODELS["vit"]().write(tmp_path / "vit.gguf"), threads=1)
    taken = vision.features_taken
    assert taken is not None and (taken.name, taken.width) == ("patches", 32)
    with pytest.raises(UnsupportedModelError, match=r"takes float rows \(patches\), not token ids"):
        vision.hidden([[1, 2]])
    with pytest.raises(InvalidInputError, match=r"samples\[1\]: rows of 32 numbers \(patches\) .* not .* \[2, 31\]"):
        vision.features([np.ones((2, 32)), np.ones((2, 31))])
    with pytest.raises(InvalidInputError, match=r"samples\[0\]: there are NaN"):
        vision.features([np.full((2, 32), np.nan)])
    with pytest.raises(ContextOverflowError):
        vision.features([np.ones((10, 32))])
    with pytest.raises(UnsupportedModelError, match="cannot give boxes"):
        vision.features([np.ones((2, 32))], output="boxes")
    text = Session.open(MODELS["bert"]().write(tmp_path / "bert.gguf"), threads=1)
    with pytest.raises(UnsupportedModelError, match="takes no float rows; it takes token ids"):
        text.features([np.ones((2, 32))])
