"""Sequences whose first rows see one another both ways, in a model made for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.engine.session import Session
from edgeformer.errors import InvalidInputError, UnsupportedModelError
from edgeformer.graph.graph import Graph, Value
from edgeformer.graph.interpreter import interpret, text_inputs
from edgeformer.tools.reference import ReferenceModel
from golden import cases


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cases.converter(tmp_path_factory.mktemp("prefixes"))("llama-gqa-tied")


@pytest.fixture
def prefixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders are built with attention that takes a prefix."""
    plain = Graph.attention

    def attention(self: Graph, *arguments: Any, **options: Any) -> Value:
        return plain(self, *arguments, **{**options, "prefix": options["causal"]})

    monkeypatch.setattr(Graph, "attention", attention)


def ids(count: int) -> list[int]:
    return np.random.default_rng(count).integers(3, 60, count).tolist()


def opened(path: Path, max_rows: int | None = None) -> Session:
    session = Session.open(path, threads=2, kv_type="f32")
    for program in session._runner.programs.values():
        program.max_rows = max_rows or program.max_rows
    return session


def alone(session: Session, count: int, prefix: int) -> np.ndarray:
    return session.forward([(session.new_sequence(), ids(count))], outputs="all", prefixes=[prefix])


@pytest.mark.usefixtures("prefixed")
def test_a_prefix_is_seen_both_ways(path: Path) -> None:
    reference = ReferenceModel(path)
    tensors = {name: np.asarray(tensor, np.float64) for name, tensor in reference.tensors.items()}
    for prefix in (0, 1, 20, 50):
        graph = reference.architecture.programs["decode"]
        wanted = interpret(graph, tensors, *text_inputs(ids(50)), {}, prefix=prefix)["logits"]
        assert cases.relative_error(alone(opened(path), 50, prefix), wanted) < cases.TOLERANCE["f32"]


@pytest.mark.usefixtures("prefixed")
@pytest.mark.parametrize("max_rows", [30, 64, 512])
def test_batches_and_runs_of_any_size_change_no_bit(path: Path, max_rows: int) -> None:
    session, feeds = opened(path), ((50, 20), (7, 7), (90, 0), (40, 30))
    wanted = np.concatenate([alone(session, count, prefix) for count, prefix in feeds])
    cut = opened(path, max_rows)
    together = [(cut.new_sequence(), ids(count)) for count, _ in feeds]
    assert np.array_equal(cut.forward(together, outputs="all", prefixes=[prefix for _, prefix in feeds]), wanted)


@pytest.mark.usefixtures("prefixed")
def test_what_follows_a_prefix_comes_in_any_number_of_calls(path: Path) -> None:
    session = opened(path)
    wanted, sequence = alone(session, 50, 20), session.new_sequence()
    parts = [session.forward([(sequence, ids(50)[:20])], outputs="all", prefixes=[20])]
    parts += [session.forward([(sequence, [token])]) for token in ids(50)[20:]]
    assert np.array_equal(np.concatenate(parts), wanted)


@pytest.mark.usefixtures("prefixed")
def test_prefixes_that_make_no_sense_are_refused(path: Path) -> None:
    session = opened(path, 30)
    new = session.new_sequence()
    wrong = [
        ([51], r"prefixes\[0\] is 51; it must be 0 to 50"),
        ([-1], "is -1"),
        ([1, 1], "2 for 1"),
        ([31], r"feeds\[0\]: a prefix of 31 rows, of which one run takes 30 at most"),
    ]
    for prefixes, message in wrong:
        with pytest.raises(InvalidInputError, match=message):
            session.forward([(new, ids(50))], prefixes=prefixes)
    assert new.length == 0
    session.forward([(new, ids(20))])
    with pytest.raises(InvalidInputError, match="it must be 0 to 0, rows of a new sequence"):
        session.forward([(new, ids(5))], prefixes=[5])
    assert new.length == 20


def test_a_model_without_such_attention_takes_no_prefix(path: Path) -> None:
    session = opened(path)
    with pytest.raises(UnsupportedModelError, match="this llama model takes no prefix"):
        alone(session, 20, 5)
    assert np.array_equal(alone(session, 20, 0), session.forward([(session.new_sequence(), ids(20))], outputs="all"))
