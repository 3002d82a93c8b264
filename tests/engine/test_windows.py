"""Models whose attention sees a window keep the window alone, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.engine.cache import PAGE, SPAN, windowed_pages
from edgeformer.engine.memory_plan import plan_memory
from edgeformer.engine.session import CachedSequence, Session
from edgeformer.errors import InvalidInputError
from golden import cases
from support.checkpoints import write_folder

WINDOW, CONTEXT = 40, 4096


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Mistral with a window of 40 positions in every layer."""
    folder = tmp_path_factory.mktemp("windows")
    golden = cases.FOLDER / "llama-gqa-tied"
    with open_checkpoint(golden) as checkpoint:
        tensors = {name: checkpoint.read(name) for name in checkpoint.names()}
    config = json.loads((golden / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": WINDOW}
    config["max_position_embeddings"] = CONTEXT
    return Path(convert(write_folder(folder / "tiny", config, tensors), folder / "out.gguf", type="q8_0").path)


def ids(count: int) -> list[int]:
    return np.random.default_rng(count).integers(3, 60, count).tolist()


def opened(path: Path, *, keep_all: bool = False, **options: object) -> Session:
    session = Session.open(path, threads=2, **options)  # type: ignore[arg-type]
    assert session._runner.caches.windows == {"self": WINDOW}
    if keep_all:
        session._runner.caches.windows.clear()
    return session


def num_pages(sequence: CachedSequence) -> int:
    return len(sequence.tables["self"].pages)


def test_a_long_generation_holds_a_bounded_number_of_pages_and_changes_no_bit(path: Path) -> None:
    windowed, whole = opened(path), opened(path, keep_all=True)
    ours, theirs = windowed.new_sequence(), whole.new_sequence()
    prompt = ids(700)
    for step in [prompt[:200], prompt[200:230], *([token] for token in prompt[230:])]:
        assert np.array_equal(windowed.forward([(ours, step)]), whole.forward([(theirs, step)]))
        assert num_pages(ours) * PAGE <= WINDOW + SPAN + max(len(step), 30) + PAGE
    assert ours.length == 700 and num_pages(theirs) == 44 and num_pages(ours) <= 12


@pytest.mark.parametrize("kv_type", ["f32", "q8_0"])
def test_a_prompt_of_many_runs_and_batches_of_sequences_change_no_bit(path: Path, kv_type: str) -> None:
    windowed, whole = opened(path, kv_type=kv_type), opened(path, keep_all=True, kv_type=kv_type)
    lengths = (2000, 30, 513)
    results = []
    for session in (windowed, whole):
        feeds = [(session.new_sequence(), ids(length)) for length in lengths]
        first = session.forward(feeds, outputs="all")
        again = [(sequence, ids(7)) for sequence, _ in feeds]
        results.append(np.concatenate([first, session.forward(again, outputs="all")]))
    assert np.array_equal(*results)


def test_forks_go_on_from_a_window(path: Path) -> None:
    windowed, whole = opened(path), opened(path, keep_all=True)
    results = []
    for session in (windowed, whole):
        sequence = session.new_sequence()
        session.forward([(sequence, ids(500))])
        fork = sequence.fork()
        results.append([session.forward([(sequence, [5]), (fork, [token])]) for token in ids(300)])
    assert np.array_equal(*results)


def test_what_the_window_has_moved_past_cannot_be_truncated_to(path: Path) -> None:
    session = opened(path)
    sequence = session.new_sequence()
    session.forward([(sequence, ids(500))])
    session.forward([(sequence, ids(3))])  # what row 500 sees begins at 461: spans from 384 on are kept
    with pytest.raises(InvalidInputError, match="keeps a window, and 423 is the least"):
        sequence.truncate(422)
    wanted = session.forward([(sequence, ids(1))])
    sequence.truncate(503)
    assert np.array_equal(session.forward([(sequence, ids(1))]), wanted)
    sequence.truncate(0)
    assert num_pages(sequence) == 0
    fresh = session.new_sequence()
    assert np.array_equal(session.forward([(sequence, ids(90))]), session.forward([(fresh, ids(90))]))


def test_a_call_of_several_runs_that_fails_is_undone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(path)
    sequence = session.new_sequence()
    session.forward([(sequence, ids(300))])
    free = session._runner.caches.pools["self"].num_free
    run, calls = session._runner._run, []

    def fails(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise MemoryError
        return run(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(session._runner, "_run", fails)
        with pytest.raises(MemoryError):
            session.forward([(sequence, ids(1700))])
    assert len(calls) == 3 and sequence.length == 300
    assert session._runner.caches.pools["self"].num_free == free
    fresh = session.new_sequence()
    session.forward([(fresh, ids(300))])
    assert np.array_equal(session.forward([(sequence, ids(9))]), session.forward([(fresh, ids(9))]))


def test_the_memory_plan_counts_the_window(path: Path) -> None:
    """The cache reserves what the plan says, and a context that fills it fits, also after a conversation."""
    plan = plan_memory(path, threads=2)
    session = opened(path, max_memory=plan.total)
    assert session.contexts == 1 and session.n_ctx == CONTEXT
    pool = session._runner.caches.pools["self"]
    assert plan.cache == pool.memory.num_pages * pool.memory.page_bytes
    assert pool.memory.num_pages == windowed_pages(CONTEXT, WINDOW, plan.batch) < CONTEXT // PAGE / 3
    sequence = session.new_sequence()
    for count in (200, 1, CONTEXT - 202, 1):
        session.forward([(sequence, ids(count))])
    assert sequence.length == CONTEXT


def test_a_short_context_is_kept_whole(path: Path) -> None:
    session = opened(path, n_ctx=100, max_memory=plan_memory(path, n_ctx=100, threads=2).total)
    sequence = session.new_sequence()
    session.forward([(sequence, ids(100))])
    assert num_pages(sequence) == 7
