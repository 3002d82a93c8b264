"""One file and one input give the same bits on every instruction set, thread count, batch mix and way of feeding."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.converters import convert
from edgeformer.engine.session import Session
from golden import cases

GOLDEN_FILES = [(name, type_name) for name, case in cases.CASES.items() for type_name in case["types"]]
CHECKPOINTS = ("stories260k-llama", "shakespeare-llama-5m", "transliterate-ar-en")
LENGTHS = (1, 5, 19, 40)


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    """Path of a golden checkpoint converted to a type."""
    return cases.converter(tmp_path_factory.mktemp("golden"))


@pytest.fixture(params=GOLDEN_FILES, ids="-".join)
def golden_file(request: pytest.FixtureRequest, golden_gguf: cases.GoldenPath) -> Path:
    """Every converted golden file in turn."""
    return golden_gguf(*request.param)


def draw(session: Session, lengths: tuple[int, ...]) -> list[list[int]]:
    """Ids valid for source and target, the same in every run."""
    vocab_size = min(session.vocab_size, session.source_vocab_size)
    generator = np.random.default_rng(7)
    return [generator.integers(3, vocab_size, n).tolist() for n in lengths]


def draw_rows(session: Session, lengths: tuple[int, ...]) -> list[np.ndarray]:
    """Float rows, the same in every run, of these lengths or as many as the model takes."""
    generator, width = np.random.default_rng(7), session.features_taken.width
    return [generator.standard_normal((min(n, session.n_ctx), width)).astype(np.float32) for n in lengths]


def head_of(session: Session) -> str | None:
    """The output of a model's head, if it has one."""
    found = {"classes", "token_classes", "spans", "words"} & (session.whole_outputs | session.step_outputs)
    return next(iter(found), None)


def everything(session: Session, lengths: tuple[int, ...] = LENGTHS) -> np.ndarray:
    """All that the model computes for some ragged inputs, as one batch."""
    if session.features_taken is not None:
        return np.concatenate(session.features(draw_rows(session, lengths)))
    inputs = draw(session, lengths)
    if head := head_of(session):
        return np.concatenate(session.outputs(head, inputs))
    if session.family == "encoder":
        return session.hidden(inputs)
    if session.family == "encoder-decoder":
        sequences = session.encode_source(inputs)
    else:
        sequences = [session.new_sequence() for _ in inputs]
    return session.forward(list(zip(sequences, reversed(inputs), strict=True)), outputs="all")


def digest(array: np.ndarray) -> str:
    assert array.dtype == np.float32 and np.isfinite(array).all()
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def assert_same_on_every_isa(path: Path, lengths: tuple[int, ...]) -> None:
    """The scalar kernels on one thread define the bits; everything else that runs here must equal them."""
    hashes = {}
    for isa in core.isa_names():
        for threads in (1, 2):
            session = Session.open(path, threads=threads, isa=isa)
            hashes[isa, threads] = digest(everything(session, lengths))
            session.close()
    assert set(hashes.values()) == {hashes["scalar", 1]}, hashes


def test_every_isa_and_thread_count(golden_file: Path) -> None:
    assert_same_on_every_isa(golden_file, LENGTHS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_isa_and_thread_count_on_trained_checkpoints(name: str, test_models: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.gguf"
    convert(test_models / name, path, type="q8_0")
    assert_same_on_every_isa(path, (1, 23))


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_numba_and_c_norms(golden_file: Path) -> None:
    hashes = set()
    for use_numba in (False, True):
        session = Session.open(golden_file, threads=2, use_numba=use_numba)
        hashes.add(digest(everything(session)))
        session.close()
    assert len(hashes) == 1


def test_alone_and_in_a_mixed_batch(golden_file: Path) -> None:
    session = Session.open(golden_file, threads=2)
    together, alone = everything(session), []
    if session.features_taken is not None:
        alone = [rows for sample in draw_rows(session, LENGTHS) for rows in session.features([sample])]
        assert digest(np.concatenate(alone)) == digest(together)
        return
    inputs = draw(session, LENGTHS)
    for source, target in zip(inputs, reversed(inputs), strict=True):
        if head := head_of(session):
            alone += session.outputs(head, [source])
            continue
        if session.family == "encoder":
            alone.append(session.hidden([source]))
            continue
        decoder = session.family == "decoder"
        sequence = session.new_sequence() if decoder else session.encode_source([source])[0]
        alone.append(session.forward([(sequence, target)], outputs="all"))
    assert digest(np.concatenate(alone)) == digest(together)


@pytest.mark.parametrize("kv_type", ["f16", "f32", "q8_0"])
@pytest.mark.parametrize("step", [1, 7, 16])
def test_prefill_and_piece_by_piece(kv_type: str, step: int, golden_gguf: cases.GoldenPath) -> None:
    session = Session.open(golden_gguf("llama-gqa-tied", "q8_0"), threads=2, kv_type=kv_type)
    (ids,) = draw(session, (140,))
    whole = session.forward([(session.new_sequence(), ids)], outputs="all")
    sequence = session.new_sequence()
    pieces = [session.forward([(sequence, ids[i : i + step])], outputs="all") for i in range(0, len(ids), step)]
    assert digest(np.concatenate(pieces)) == digest(whole)


@pytest.mark.parametrize("step", [1, 5])
def test_target_at_once_and_piece_by_piece(step: int, golden_gguf: cases.GoldenPath) -> None:
    session = Session.open(golden_gguf("transformer-prenorm-relu", "q8_0"), threads=2)
    source, target = draw(session, (133, 30))
    whole = session.forward([(session.encode_source([source])[0], target)], outputs="all")
    (sequence,) = session.encode_source([source])
    pieces = [session.forward([(sequence, target[i : i + step])], outputs="all") for i in range(0, len(target), step)]
    assert digest(np.concatenate(pieces)) == digest(whole)


def test_prefill_beside_decoding_sequences(golden_gguf: cases.GoldenPath) -> None:
    session = Session.open(golden_gguf("llama-gqa-tied", "q4_0"), threads=2)
    ids, other = draw(session, (60, 37))
    whole = session.forward([(session.new_sequence(), ids)], outputs="all")
    sequence, rows = session.new_sequence(), []
    for i, token in enumerate(ids):
        busy = [(session.new_sequence(), other[: 1 + i % 37]) for _ in range(i % 3)]
        rows.append(session.forward([*busy, (sequence, [token])], outputs="last")[-1])
    assert digest(np.stack(rows)) == digest(whole)


def test_forked_and_truncated_sequences(golden_gguf: cases.GoldenPath) -> None:
    session = Session.open(golden_gguf("llama-gqa-tied", "q8_0"), threads=2)
    prefix, first, second = draw(session, (21, 30, 18))
    base = session.new_sequence()
    session.forward([(base, prefix)])
    fork = base.fork()
    forked = session.forward([(base, first), (fork, second)], outputs="all")
    base.truncate(len(prefix))
    again = session.forward([(base, second)], outputs="all")
    fresh = [
        session.forward([(session.new_sequence(), prefix + rest)], outputs="all")[len(prefix) :]
        for rest in (first, second)
    ]
    assert digest(forked) == digest(np.concatenate(fresh))
    assert digest(again) == digest(fresh[1])
