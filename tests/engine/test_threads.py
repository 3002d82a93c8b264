"""Whose threads a session computes with."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer.host.limits import default_threads
from golden import cases

COUNT = """
import sys
import edgeformer, numpy  # which starts threads of its own
def threads():
    return int(open("/proc/self/status").read().split("Threads:")[1].split()[0])
options = {"threads": int(sys.argv[2])} if len(sys.argv) > 2 else {}
before = threads()
models = [edgeformer.load(sys.argv[1], **options) for _ in range(3)]
for model in models:
    model.logits([1, 2, 3])
running = threads() - before
models[0].close()
models[1].logits([1, 2, 3])
left = threads() - before
for model in models:
    model.close()
print(running, left, threads() - before)
"""


@pytest.fixture(scope="module")
def golden_gguf(tmp_path_factory: pytest.TempPathFactory) -> cases.GoldenPath:
    return cases.converter(tmp_path_factory.mktemp("golden"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="threads are counted by Linux's /proc")
@pytest.mark.parametrize("asked", [None, 3], ids=["by default", "of one's own"])
def test_models_share_the_threads_that_nobody_asked_for(asked: int | None, golden_gguf: cases.GoldenPath) -> None:
    arguments = [str(golden_gguf("llama-gqa-tied", "q8_0")), *([str(asked)] if asked else [])]
    command = [sys.executable, "-c", COUNT, *arguments]
    counted = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    besides = (asked or default_threads()) - 1  # the caller computes, too
    pools = 3 if asked else 1
    assert [int(number) for number in counted] == [pools * besides, max(pools - 1, 1) * besides, 0]


def test_models_that_share_threads_give_what_each_gives_alone(golden_gguf: cases.GoldenPath) -> None:
    paths = [golden_gguf(name, "q8_0") for name in ("llama-gqa-tied", "llama-untied-biases")]
    models = [edgeformer.load(path) for path in paths]
    prompts = [[3, 9, 27, 4], [5] * 60]
    alone = [[model.logits(prompt) for prompt in prompts] for model in models]
    with ThreadPoolExecutor(4) as executor:
        futures = [
            [executor.submit(lambda m=model, p=prompt: [m.logits(p) for _ in range(10)]) for prompt in prompts]
            for model in models
        ]
        for model_futures, wanted in zip(futures, alone, strict=True):
            for future, rows in zip(model_futures, wanted, strict=True):
                assert all(np.array_equal(got, rows) for got in future.result())
    for model in models:
        model.close()
