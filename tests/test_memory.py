"""The memory plan against what loading and running really take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from edgeformer.errors import InvalidOptionError, NotEnoughMemoryError
from edgeformer.memory import plan_memory
from edgeformer.session import Session
from golden import cases
from random_llama import write_random_llama

GROWTH = """
import sys
from edgeformer.session import Session
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


@pytest.mark.parametrize("name", ["llama-gqa-tied", "bert-gelu-mean", "transformer-prenorm-relu"])
def test_weights_and_pages_are_what_was_planned(name: str, golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf(name, "q8_0")
    plan, session = plan_memory(path), Session.open(path)
    assert plan.weights == session.memory["weights"]
    pages = {name: pool.memory.page_bytes for name, pool in session._page_pools.items()}
    positions = {name: plan.batch if name == "pass" else plan.n_ctx for name in pages}
    assert plan.cache == sum(-(-positions[name] // 16) * page_bytes for name, page_bytes in pages.items())


def test_a_process_grows_by_what_was_planned(tmp_path: Path) -> None:
    path = write_random_llama(tmp_path / "random.gguf", context=4096, vocabulary=400_000)  # about 100 MB
    plan = plan_memory(path)
    command = [sys.executable, "-c", GROWTH, str(path), str(plan.n_ctx)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown == pytest.approx(plan.total, rel=0.05)


def test_a_context_beyond_the_models_is_refused(golden_gguf: cases.GoldenPath) -> None:
    with pytest.raises(InvalidOptionError, match="positions that the model was made for"):
        plan_memory(golden_gguf("llama-gqa-tied"), n_ctx=10**6)


def test_a_limit_below_the_plan_is_refused_before_loading(golden_gguf: cases.GoldenPath) -> None:
    path = golden_gguf("llama-gqa-tied")
    plan = plan_memory(path, n_ctx=16)
    with pytest.raises(NotEnoughMemoryError, match="smaller n_ctx"):
        Session.open(path, n_ctx=16, max_memory=plan.total - 1)
    Session.open(path, n_ctx=16, max_memory=plan.total).close()
