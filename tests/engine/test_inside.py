"""What is asked for of a model's inside: states between layers and attention, against the interpreter."""

from __future__ import annotations

from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer.engine.memory_plan import plan_memory
from edgeformer.errors import InvalidInputError, InvalidOptionError, NotEnoughMemoryError, UnsupportedModelError
from edgeformer.graph.graph import Graph
from edgeformer.graph.interpreter import interpret, text_inputs
from edgeformer.tools.reference import ReferenceModel
from golden import cases

DECODER, ENCODER, ENCODER_DECODER = "llama-gqa-tied", "bert-gelu-mean", "transformer-prenorm-relu"
IDS, SOURCE = [5, 9, 3, 7, 7, 20, 4] * 11, [3, 30, 8, 15, 6]
CASES = {"decoder": (DECODER, None), "encoder": (ENCODER, None), "source": (ENCODER_DECODER, None),
         "target": (ENCODER_DECODER, SOURCE)}  # fmt: skip


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    return cases.converter(tmp_path_factory.mktemp("golden"))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, golden_gguf: cases.GoldenPath) -> tuple[Path, list[int], list[int] | None]:
    """A file, the ids that are looked at, and the source that they stand over."""
    name, source = CASES[request.param]
    return golden_gguf(name), IDS, source


def program_of(model: ReferenceModel, source: list[int] | None) -> Graph:
    """The program whose inside is looked at."""
    programs = model.architecture.programs
    return programs["decode" if source is not None or "encode" not in programs else "encode"]


def interpreted(path: Path, ids: list[int], source: list[int] | None) -> tuple[np.ndarray, Graph]:
    """The interpreter's states before and after each layer."""
    model = ReferenceModel(path)
    caches: dict = {}
    if source is not None:
        interpret(model.architecture.programs["encode"], model.tensors, *text_inputs(source), caches)
    graph = program_of(model, source)
    values = {str(index): value for index, value in enumerate(graph.taps["layers"])}
    states = interpret(graph.showing(values), model.tensors, *text_inputs(ids), caches)
    return np.stack(list(states.values())), graph


def looked(model: edgeformer.Model, ids: list[int], source: list[int] | None) -> tuple[list[int], list[int] | None]:
    """The arguments of the verbs."""
    return (ids, None) if source is None else (source, ids)


def test_states_of_every_layer_are_the_interpreters(case: tuple[Path, list[int], list[int] | None]) -> None:
    path, ids, source = case
    wanted, _ = interpreted(path, ids, source)
    with edgeformer.load(path, threads=2, kv_type="f32") as model:
        arguments = looked(model, ids, source)
        got = model.hidden_states(*arguments, layers=True)
        assert got.shape == wanted.shape and got.dtype == np.float32 and len(got) >= 3
        assert np.allclose(got, wanted, atol=1e-4)
        assert np.array_equal(model.hidden_states(*arguments, layers=True), got)


@pytest.mark.parametrize("name", [name for name in cases.ALL if name not in cases.FEATURES])
def test_every_architecture_shows_its_layers(name: str, golden_gguf: cases.GoldenPath) -> None:
    with edgeformer.load(golden_gguf(name), threads=2) as model:
        programs = model.session._model.programs
        states = model.hidden_states(IDS[:9], layers=True)
        assert states.shape[1] == 9 and len(states) == len(next(iter(programs.values())).taps["layers"]) > 1
        assert all(weights.shape[1] == 9 for weights in model.attention_weights(IDS[:9]))
        if model.session.needs_source:
            assert model.hidden_states(SOURCE, IDS[:9], layers=True).shape[1] == 9
            assert {w.shape[2] for w in model.attention_weights(SOURCE, IDS[:9])} == {9, len(SOURCE)}


@pytest.mark.parametrize("name", cases.FEATURES)
def test_images_and_sounds_show_their_layers(name: str, golden_gguf: cases.GoldenPath) -> None:
    samples, reference = cases.samples(name), ReferenceModel(golden_gguf(name))
    [(program, graph)] = reference.architecture.programs.items()
    reference.architecture.programs[program] = graph.showing(  # type: ignore[index]
        {str(index): value for index, value in enumerate(graph.taps["layers"])}
    )
    with edgeformer.load(golden_gguf(name), threads=2, kv_type="f32") as model:
        together = model.session.features(samples, layers=True)
        for sample, states in zip(samples, together, strict=True):
            wanted = np.stack(list(reference.features(sample).values()))
            assert states.shape == wanted.shape and np.allclose(states, wanted, atol=1e-4)
            assert np.array_equal(model.hidden_states(sample, layers=True), states)
            attention = model.attention_weights(sample)
            assert len(attention) == len(states) - 1
            assert all(weights.shape[1:] == (states.shape[1],) * 2 for weights in attention)
            assert all(np.allclose(weights.sum(-1), 1, atol=1e-5) for weights in attention)
        with pytest.raises(InvalidOptionError, match="layers"):
            model.session.features(samples, output="classes", layers=True)


def test_the_state_after_the_last_layer_is_what_a_post_norm_model_gives(golden_gguf: cases.GoldenPath) -> None:
    with edgeformer.load(golden_gguf(ENCODER, "q8_0"), threads=2) as model:
        assert np.array_equal(model.hidden_states(IDS, layers=True)[-1], model.hidden_states(IDS))


def test_looking_inside_changes_no_result(golden_gguf: cases.GoldenPath) -> None:
    with edgeformer.load(golden_gguf(DECODER, "q4_0"), threads=2) as model:
        before = model.logits(IDS)
        model.hidden_states(IDS, layers=True)
        model.attention_weights(IDS)
        assert np.array_equal(model.logits(IDS), before)


def softmax_attention(
    model: ReferenceModel, graph: Graph, ids: list[int], source: list[int] | None
) -> list[np.ndarray]:
    """The weights of each attention by the definition, row by row."""
    caches: dict = {}
    if source is not None:
        interpret(model.architecture.programs["encode"], model.tensors, *text_inputs(source), caches)
    nodes = [node for node in graph.nodes if node.kind == "attention"]
    values = {str(index): node.inputs[0] for index, node in enumerate(nodes)}
    values |= {
        f"key {node.attributes['cache']} {node.attributes['layer']} {number}": node.inputs[0]
        for number, node in enumerate(graph.nodes)
        if node.kind == "store_kv"
    }
    rows = interpret(graph.showing(values), model.tensors, *text_inputs(ids), caches)
    found = []
    for index, node in enumerate(nodes):
        a = node.attributes
        stored = [
            rows[f"key {a['cache']} {a['layer']} {number}"]
            for number, other in enumerate(graph.nodes[: graph.nodes.index(node)])
            if other.kind == "store_kv" and other.attributes["cache"] == a["cache"]
            and other.attributes["layer"] == a["layer"]
        ]  # fmt: skip
        key = stored[-1] if stored else caches[a["cache"], a["layer"]][0]
        dim = rows[str(index)].shape[1] // a["num_heads"]
        weights = np.zeros((a["num_heads"], len(ids), len(key)))
        for head in range(a["num_heads"]):
            shared = head * (key.shape[1] // dim) // a["num_heads"]
            for row in range(len(ids)):
                seen = row + 1 if a["causal"] else len(key)
                query = rows[str(index)][row, head * dim : (head + 1) * dim]
                scores = np.array([query @ key[p, shared * dim : (shared + 1) * dim] for p in range(seen)]) * a["scale"]
                weights[head, row, :seen] = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        found.append(weights)
    return found


def test_attention_weights_are_those_of_the_definition(case: tuple[Path, list[int], list[int] | None]) -> None:
    path, ids, source = case
    reference = ReferenceModel(path)
    wanted = softmax_attention(reference, program_of(reference, source), ids, source)
    with edgeformer.load(path, threads=2, kv_type="f32") as model:
        got = model.attention_weights(*looked(model, ids, source))
    assert len(got) == len(wanted) > 1
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == np.float32
        assert np.allclose(ours, theirs, atol=1e-4) and np.allclose(ours.sum(-1), 1, atol=1e-5)


def test_memory_for_layers_is_taken_and_counted_when_they_are_asked_for(golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf(DECODER, "q8_0")
    with edgeformer.load(path, threads=2) as model:
        before, programs = model.memory, set(model.session._runner.programs)
        assert before["scratch"] == plan_memory(path, threads=2).scratch
        states = model.hidden_states(IDS, layers=True)
        [added] = set(model.session._runner.programs) - programs
        taken = model.session._runner.programs[added].nbytes + states.nbytes
        assert taken <= model.memory["scratch"] - before["scratch"]
        after = model.memory
        model.hidden_states(IDS, layers=True)
        assert model.memory == after


def test_layers_beyond_the_memory_that_was_granted_are_refused(golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf(DECODER, "q8_0")
    with edgeformer.load(path, threads=2, max_memory=plan_memory(path, threads=2).total) as model:
        wanted = model.hidden_states(IDS)
        with pytest.raises(NotEnoughMemoryError, match="layers"):
            model.hidden_states(IDS, layers=True)
        assert np.array_equal(model.hidden_states(IDS), wanted)


def test_what_makes_no_sense_together_is_refused(golden_gguf: cases.GoldenPath) -> None:
    with edgeformer.load(golden_gguf(ENCODER), threads=2) as model:
        with pytest.raises(InvalidOptionError, match="layers"):
            model.session.hidden([IDS], pooled=True, layers=True)
        with pytest.raises(InvalidInputError, match="target"):
            model.hidden_states(IDS, IDS)
        with pytest.raises(InvalidOptionError, match="sources"):
            model.session.hidden([IDS], sources=[IDS])
    model = edgeformer.load(golden_gguf(ENCODER_DECODER), threads=2)
    with pytest.raises(InvalidInputError, match="sources: 2 for 1"):
        model.session.hidden([IDS], sources=[SOURCE, SOURCE])
    model.close()
    with pytest.raises(InvalidInputError, match="closed"):
        model.attention_weights(IDS, SOURCE)


def test_an_architecture_without_named_layers_says_so(golden_gguf: cases.GoldenPath) -> None:
    with edgeformer.load(golden_gguf(DECODER), threads=2) as model:
        model.session._model.programs["decode"].taps.clear()
        with pytest.raises(UnsupportedModelError, match="layers"):
            model.hidden_states(IDS, layers=True)
