"""What a session promises about sequences, rows that are asked for, room in its caches, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.engine.memory_plan import plan_memory
from edgeformer.engine.session import Session
from edgeformer.errors import InvalidInputError, InvalidOptionError, UnsupportedModelError
from golden import cases
from support.small_models import MODELS

DECODER, ENCODER, ENCODER_DECODER = "llama-gqa-tied", "bert-gelu-mean", "transformer-prenorm-relu"


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    return cases.converter(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def decoder(golden_gguf: cases.GoldenPath) -> Session:
    return Session.open(golden_gguf(DECODER, "q8_0"), threads=2)


def free_pages(session: Session) -> dict[str, int]:
    return {name: pool.num_free for name, pool in session._runner.caches.pools.items()}


# -- rows that are asked for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outputs", "counts"), [(3, [3, 3, 3]), ([0, 1, 7], [0, 1, 7]), ([0, 0, 0], [0, 0, 0])])
def test_the_last_rows_of_each_feed_are_those_of_all_rows(
    decoder: Session, outputs: int | list[int], counts: list[int]
) -> None:
    feeds = [[5, 9, 3], [7] * 40, [1, 2, 3, 4, 5, 6, 7]]
    rows = [decoder.forward([(decoder.new_sequence(), ids)], outputs="all") for ids in feeds]
    wanted = np.concatenate([all_rows[len(all_rows) - count :] for all_rows, count in zip(rows, counts, strict=True)])
    got = decoder.forward([(decoder.new_sequence(), ids) for ids in feeds], outputs=outputs)
    assert got.shape == wanted.shape and np.array_equal(got, wanted)


def test_rows_are_appended_where_no_result_is_asked_for(decoder: Session) -> None:
    sequence, other = decoder.new_sequence(), decoder.new_sequence()
    assert decoder.forward([(sequence, [4, 5, 6])], outputs=0).shape == (0, decoder.vocab_size)
    wanted = decoder.forward([(other, [4, 5, 6, 7])])
    assert sequence.length == 3 and np.array_equal(decoder.forward([(sequence, [7])]), wanted)


@pytest.mark.parametrize("outputs", [4, -1, [1], [1, 2, 3], "some", [1, 1.5], True])
def test_rows_that_a_feed_does_not_have_are_refused(decoder: Session, outputs: object) -> None:
    feeds = [(decoder.new_sequence(), [1, 2]), (decoder.new_sequence(), [3, 4, 5])]
    with pytest.raises(InvalidInputError, match="outputs: "):
        decoder.forward(feeds, outputs=outputs)  # type: ignore[arg-type]
    assert [sequence.length for sequence, _ in feeds] == [0, 0]


def test_no_feeds_give_no_rows(decoder: Session) -> None:
    assert decoder.forward([]).shape == (0, decoder.vocab_size)


# -- sequences --------------------------------------------------------------------------------------------------------


def test_a_freed_sequence_is_refused_and_its_pages_come_back(decoder: Session) -> None:
    before = free_pages(decoder)
    sequence = decoder.new_sequence()
    decoder.forward([(sequence, [1] * 20)])
    sequence.free()
    for call in (
        lambda: decoder.forward([(sequence, [1])]),
        sequence.fork,
        lambda: sequence.truncate(0),
    ):
        with pytest.raises(InvalidInputError, match="freed"):
            call()
    assert free_pages(decoder) == before


def test_a_sequence_of_another_session_is_refused(decoder: Session, golden_gguf: cases.GoldenPath) -> None:
    with_it = Session.open(golden_gguf(DECODER, "q8_0"), threads=1)
    sequence = with_it.new_sequence()
    with pytest.raises(InvalidInputError, match="another session"):
        decoder.forward([(sequence, [1, 2])])
    assert sequence.length == 0 and len(with_it.forward([(sequence, [1, 2])])) == 1
    with_it.close()


@pytest.mark.parametrize("no_sequence", [None, 0, [1, 2]])
def test_what_is_no_sequence_is_refused(decoder: Session, no_sequence: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"feeds\[0\]: a sequence of this session is needed"):
        decoder.forward([(no_sequence, [1])])


def test_a_sequence_twice_in_a_batch_is_refused(decoder: Session) -> None:
    sequence = decoder.new_sequence()
    with pytest.raises(InvalidInputError, match="twice"):
        decoder.forward([(sequence, [1]), (sequence, [2])])


# -- room in the caches -----------------------------------------------------------------------------------------------


def tight_limit(path: Path, contexts: int, **options: object) -> int:
    """A limit of memory that leaves room for so many contexts."""
    one, two = (plan_memory(path, sequences=count, **options).cache for count in (1, 2))  # type: ignore[arg-type]
    return plan_memory(path, **options).total + (contexts - 1) * (two - one)  # type: ignore[arg-type]


@pytest.mark.parametrize("contexts", [1, 2, 5])
@pytest.mark.parametrize("name", [DECODER, ENCODER_DECODER])
def test_a_session_says_how_many_contexts_it_holds(name: str, contexts: int, golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf(name, "q8_0")
    session = Session.open(path, threads=2, max_memory=tight_limit(path, contexts, threads=2))
    assert session.contexts == contexts
    longest = [3] * session.n_ctx
    new = (lambda: session.encode_source([longest])[0]) if session.needs_source else session.new_sequence
    sequences = [new() for _ in range(contexts)]
    session.forward([(sequence, longest) for sequence in sequences])
    with pytest.raises(edgeformer.NotEnoughMemoryError):
        session.forward([(new(), longest)])


@pytest.mark.parametrize("more", [{}, {"num_beams": 2}, {"temperature": 1.0, "seed": 4}], ids=str)
@pytest.mark.parametrize(("prompt", "max_tokens"), [(150, 4), (2, 120)], ids=["long prompts", "long texts"])
@pytest.mark.parametrize("name", [DECODER, ENCODER_DECODER])
def test_eight_prompts_with_room_for_two(
    name: str, prompt: int, max_tokens: int, more: dict[str, Any], golden_gguf: cases.GoldenPath
) -> None:
    path = golden_gguf(name, "q8_0")
    prompts = [[3 + index] * prompt for index in range(8)]
    options = {"max_tokens": max_tokens, **more}
    with edgeformer.load(path, threads=2) as roomy:
        wanted = [result.token_ids for result in roomy.generate(prompts, **options)]
    with edgeformer.load(path, threads=2, max_memory=tight_limit(path, 2, threads=2)) as model:
        assert model.session.contexts == 2
        before = free_pages(model.session)
        assert [result.token_ids for result in model.generate(prompts, **options)] == wanted
        if "num_beams" not in more:
            with model.generate(prompts, stream=True, **options) as stream:
                chunks = list(stream)
            for index, ids in enumerate(wanted):
                assert [token for chunk in chunks if chunk.index == index for token in chunk.token_ids] == ids
        assert free_pages(model.session) == before


# -- options that would change nothing --------------------------------------------------------------------------------


def test_a_decoder_refuses_what_only_pooling_models_do(decoder: Session) -> None:
    with pytest.raises(UnsupportedModelError, match="cannot give"):
        decoder.hidden([[1, 2]], pooled=True)
    with pytest.raises(InvalidOptionError, match="normalize"):
        decoder.hidden([[1, 2]], normalize=True)
    with pytest.raises(InvalidOptionError, match="token_types"):
        decoder.hidden([[1, 2]], token_types=[[0, 0]])


def test_lengths_are_normalized_of_pooled_vectors_alone(golden_gguf: cases.GoldenPath) -> None:
    session = Session.open(golden_gguf(ENCODER, "q8_0"), threads=2)
    with pytest.raises(InvalidOptionError, match="pooled=True"):
        session.hidden([[1, 2]], normalize=False)
    long = session.hidden([[1, 2, 3]], pooled=True, normalize=False)
    unit = session.hidden([[1, 2, 3]], pooled=True, normalize=True)
    assert np.allclose(unit, long / np.linalg.norm(long), atol=1e-6)
    session.close()


@pytest.mark.parametrize("sample", ["a", [["a"]], [[1.0], [1.0, 2.0]], None, [[object()]]])
def test_samples_that_are_no_numbers_are_named(tmp_path: Path, sample: Any) -> None:
    session = Session.open(MODELS["vit"]().write(tmp_path / "a.gguf"), threads=1)
    with pytest.raises(InvalidInputError, match=r"samples\[0\]"):
        session.features([sample])


@pytest.mark.parametrize("types", [["a", 0], [2**40, 0], [0.5, 0], [-1, 0]])
def test_token_types_that_are_no_numbers_are_named(tmp_path: Path, types: list[Any]) -> None:
    session = Session.open(MODELS["bert"]().write(tmp_path / "a.gguf"), threads=1)
    with pytest.raises(InvalidInputError):
        session.hidden([[1, 2]], token_types=[types])


def test_logits_may_take_memory_that_is_there(decoder: Session) -> None:
    def step(out: np.ndarray | None) -> np.ndarray:
        sequences = [decoder.new_sequence() for _ in range(2)]
        try:
            return decoder.forward(list(zip(sequences, [[3, 4], [5]], strict=True)), out=out)
        finally:
            for sequence in sequences:
                sequence.free()

    wanted = step(None)
    memory = np.full((3, decoder.vocab_size), 7, np.float32)
    found = step(memory)
    assert np.shares_memory(found, memory) and np.array_equal(found, wanted) and (memory[2] == 7).all()
    for small in (memory[:1], np.zeros((3, 4), np.float32)):
        assert np.array_equal(step(small), wanted)
