"""Whole models on this machine: a small Llama with random weights, and the golden encoder-decoder.

pytest bench --benchmark-enable --benchmark-only
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edgeformer.converters import convert
from edgeformer.engine.session import Session

from bench.model_files import write_model
from bench.token_ids import token_ids

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"


@pytest.fixture(scope="module", params=["q4_0", "q8_0"])
def llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A Llama of 15 million random weights."""
    path = tmp_path_factory.mktemp("models") / "llama.gguf"
    write_model("llama-15m", request.param, path)
    session = Session.open(path, n_ctx=512)
    yield session
    session.close()


def test_bench_prefill(benchmark: Any, llama: Session) -> None:
    ids = token_ids(128)
    benchmark(lambda: llama.forward([(llama.new_sequence(), ids)]))


def test_bench_decode(benchmark: Any, llama: Session) -> None:
    ids = token_ids(16)

    def decode() -> None:
        sequence = llama.new_sequence()
        for token in ids:
            llama.forward([(sequence, [token])])

    benchmark(decode)


def test_bench_load(benchmark: Any, tmp_path: Path) -> None:
    path = tmp_path / "llama.gguf"
    write_model("llama-15m", "q8_0", path)
    benchmark(lambda: Session.open(path, n_ctx=64).close())


def test_bench_encode_and_decode(benchmark: Any, tmp_path: Path) -> None:
    path = tmp_path / "transformer.gguf"
    convert(GOLDEN / "transformer-prenorm-relu", path, type="q8_0")
    session = Session.open(path)
    source, target = list(range(3, 43)), list(range(3, 19))

    def translate() -> None:
        (sequence,) = session.encode_source([source])
        for token in target:
            session.forward([(sequence, [token])])

    benchmark(translate)
    session.close()
