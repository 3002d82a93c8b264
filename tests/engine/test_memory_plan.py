"""The memory plan against what loading and running really take."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.engine.memory_plan import cache_page_bytes, plan_memory
from edgeformer.engine.session import Session
from edgeformer.errors import InvalidOptionError, NotEnoughMemoryError
from edgeformer.graph.graph import CacheSpec
from golden import cases
from support.random_llama import write_random_llama

GROWTH = """
import sys
from edgeformer.engine.session import Session
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
path, n_ctx = sys.argv[1], int(sys.argv[2])
warm = Session.open(path, threads=1, n_ctx=16, use_numba=False)  # code and libraries, and a first look at everything
warm.forward([(warm.new_sequence(), [1, 2])])
before = resident()
session = Session.open(path, threads=1, n_ctx=n_ctx, use_numba=False)
session.forward([(session.new_sequence(), [1] * n_ctx)])
print(resident() - before)
"""


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    """Path of a golden checkpoint converted to a type."""
    return cases.converter(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("name", ["llama-gqa-tied", "bert-gelu-mean", "transformer-prenorm-relu"])
def test_weights_and_pages_are_what_was_planned(name: str, kv_type: str, golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf(name, "q8_0")
    plan, session = plan_memory(path, kv_type=kv_type), Session.open(path, kv_type=kv_type)
    assert plan.weights == session.memory["weights"]
    caches = session._runner.caches.memories
    pages = {name: cache.num_pages if name == "pass" else -(-plan.n_ctx // 16) for name, cache in caches.items()}
    assert plan.cache == sum(pages[name] * cache.page_bytes for name, cache in caches.items())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["llama-gqa-tied", "bert-gelu-mean", "transformer-prenorm-relu"])
def test_runs_take_no_more_scratch_than_was_planned(name: str, threads: int, golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf(name, "q8_0")
    session, plan = Session.open(path, threads=threads), plan_memory(path, threads=threads)
    ids = [1 + i % 7 for i in range(session.n_ctx)]
    most = [ids] * max(plan.batch // len(ids), 1) if session.whole_outputs else [ids]
    results = [session.hidden(most)]
    if "pooled" in session.whole_outputs:
        results += [session.hidden(most, pooled=True, normalize=normalize) for normalize in (False, True)]
    if session.step_outputs:
        sequence = session.encode_source([ids])[0] if session.needs_source else session.new_sequence()
        results.append(session.forward([(sequence, ids)]))
    taken = sum(program.nbytes for program in session._runner.programs.values()) + sum(r.nbytes for r in results)
    assert plan.scratch // 2 <= taken <= plan.scratch == session.memory["scratch"]


def test_a_process_grows_by_no_more_than_was_planned(tmp_path: Path) -> None:
    path = write_random_llama(tmp_path / "random.gguf", context=4096, vocabulary=400_000)  # about 100 MB
    plan = plan_memory(path)
    command = [sys.executable, "-c", GROWTH, str(path), str(plan.n_ctx)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.9 * plan.total < grown <= plan.total


def test_cached_types_have_the_bytes_of_their_format() -> None:
    """Heads of 32 columns, one page of sixteen positions, in Q8_0 34 bytes for each 32 numbers."""
    spec = CacheSpec("self", 3, 2, 32, 32, "sequence")
    numbers = 3 * 2 * 16 * (32 + 32)
    assert {kind: cache_page_bytes(spec, kind) for kind in ("f32", "f16", "q8_0")} == {
        "f32": 4 * numbers,
        "f16": 2 * numbers,
        "q8_0": numbers * 34 // 32,
    }


def test_an_unknown_cached_type_is_refused(golden_gguf: cases.GoldenPath) -> None:
    for call in (plan_memory, Session.open):
        with pytest.raises(InvalidOptionError, match="f32, f16, q8_0"):
            call(golden_gguf("llama-gqa-tied"), kv_type="q4_0")


@pytest.mark.parametrize("name", ["n_ctx", "batch", "sequences", "threads"])
@pytest.mark.parametrize("value", [0, -3, True, "8"])
def test_a_plan_for_less_than_one_is_refused(name: str, value: Any, golden_gguf: cases.GoldenPath) -> None:
    with pytest.raises(InvalidOptionError, match=f"{name} must be a positive integer"):
        plan_memory(golden_gguf("llama-gqa-tied"), **{name: value})


def test_a_context_beyond_the_models_is_refused(golden_gguf: cases.GoldenPath) -> None:
    with pytest.raises(InvalidOptionError, match="positions that the model was made for"):
        plan_memory(golden_gguf("llama-gqa-tied"), n_ctx=10**6)


def test_a_limit_below_the_plan_is_refused_before_loading(golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf("llama-gqa-tied")
    plan = plan_memory(path, n_ctx=16)
    with pytest.raises(NotEnoughMemoryError, match="smaller n_ctx"):
        Session.open(path, n_ctx=16, max_memory=plan.total - 1)
    Session.open(path, n_ctx=16, max_memory=plan.total).close()


def test_an_encoder_short_of_memory_takes_fewer_sequences_at_a_time(golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf("bert-gelu-mean")
    sentences = [[1 + i % 7] * 9 for i in range(300)]
    roomy, plan = Session.open(path), plan_memory(path)
    tight = Session.open(path, max_memory=plan.total - 1)
    assert tight.batch < roomy.batch == plan.batch
    assert np.array_equal(tight.hidden(sentences), roomy.hidden(sentences))


def test_closing_frees_the_model_whoever_still_holds_the_session(golden_gguf: cases.GoldenPath) -> None:
    session = Session.open(golden_gguf("llama-gqa-tied"))
    programs = [weakref.ref(program) for program in session._runner.programs.values()]
    pools = [weakref.ref(pool) for pool in session._runner.caches.pools.values()]
    session.close()
    gc.collect()
    assert [reference() for reference in (*programs, *pools)] == [None] * (len(programs) + len(pools))
