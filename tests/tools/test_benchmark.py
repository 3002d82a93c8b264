"""`bench`: llama-bench's rows, with the arithmetic checked against the samples they carry."""

from __future__ import annotations

import datetime
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.engine.session import Session
from edgeformer.errors import ContextOverflowError, InvalidOptionError, ModelNotFoundError
from edgeformer.tools.benchmark import bench
from edgeformer.tools.demo import CHECKPOINT

# The fields of llama-bench's JSON that mean something on a CPU.
LLAMA_BENCH_FIELDS = {
    "build_commit", "build_number", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "model_size",
    "model_n_params", "n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "n_prompt", "n_gen", "n_depth",
    "flash_attn",
    "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts",
}  # fmt: skip
OUR_FIELDS = {"test", "isa", "p50_ms", "p90_ms", "p99_ms", "time_to_first_token_ms", "peak_memory_bytes"}


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's encoder-decoder (context 64)."""
    path = tmp_path_factory.mktemp("bench") / "dates.gguf"
    convert(CHECKPOINT, path, type="q8_0")
    return str(path)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, test_models: Path) -> str:
    path = tmp_path_factory.mktemp("bench") / "llama.gguf"
    convert(test_models / "stories260k-llama", path, type="q8_0")
    return str(path)


def check_row(row: dict[str, Any], repetitions: int) -> None:
    """What every row promises."""
    assert row.keys() == LLAMA_BENCH_FIELDS | OUR_FIELDS
    tokens = row["n_prompt"] + row["n_gen"]
    assert len(row["samples_ns"]) == len(row["samples_ts"]) == repetitions
    assert row["samples_ts"] == pytest.approx([tokens * 1e9 / ns for ns in row["samples_ns"]])
    assert row["avg_ns"] == pytest.approx(np.mean(row["samples_ns"]), abs=1)
    assert row["avg_ts"] == pytest.approx(np.mean(row["samples_ts"]))
    assert row["stddev_ns"] == pytest.approx(statistics.stdev(row["samples_ns"]), abs=1)
    assert row["stddev_ts"] == pytest.approx(statistics.stdev(row["samples_ts"]))
    assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] <= max(row["samples_ns"]) / 1e6
    assert row["peak_memory_bytes"] is None or row["peak_memory_bytes"] > 1 << 20
    datetime.datetime.strptime(row["test_time"], "%Y-%m-%dT%H:%M:%SZ")


def test_a_decoder_has_a_prompt_row_and_a_generation_row(llama: str) -> None:
    prompt, generation = bench(llama, 32, 8, threads=1, repetitions=3)
    for row in (prompt, generation):
        check_row(row, 3)
        assert row["model_filename"] == llama and row["n_threads"] == 1 and row["type_k"] == "f16"
        assert row["model_type"].startswith("llama ") and row["model_type"].endswith("Q8_0")
    assert (prompt["n_prompt"], prompt["n_gen"], prompt["test"]) == (32, 0, "pp32")
    assert (generation["n_prompt"], generation["n_gen"], generation["test"]) == (0, 8, "tg8")
    # One call reads the whole prompt, so the time to the first token is the median sample.
    assert prompt["time_to_first_token_ms"] == pytest.approx(statistics.median(prompt["samples_ns"]) / 1e6)


def test_sizes_of_zero_leave_a_test_out(llama: str) -> None:
    [row] = bench(llama, 0, 4, repetitions=2, n_depth=16)
    assert row["test"] == "tg4 @ d16" and row["n_depth"] == 16
    with pytest.raises(InvalidOptionError, match="nothing to measure"):
        bench(llama, 0, 0, repetitions=1)


def test_lists_of_sizes_give_all_combinations(llama: str) -> None:
    rows = bench(llama, [8, 12], [2, 0], repetitions=1, n_prompt_gen=[(4, 3)], n_depth=[0, 16])
    kinds = ("pp8", "pp12", "tg2", "pp4+tg3")
    assert [row["test"] for row in rows] == [*kinds, *(f"{kind} @ d16" for kind in kinds)]
    both = rows[3]
    assert (both["n_prompt"], both["n_gen"]) == (4, 3)
    assert both["samples_ts"] == pytest.approx([7e9 / both["samples_ns"][0]])
    assert both["time_to_first_token_ms"] < both["samples_ns"][0] / 1e6


def test_prompts_are_given_in_batches(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    forward = Session.forward

    def counting(session: Session, feeds: Any, **options: Any) -> Any:
        calls.append(len(feeds[0][1]))
        return forward(session, feeds, **options)

    monkeypatch.setattr(Session, "forward", counting)
    rows = bench(llama, 20, 0, repetitions=1, n_batch=[16, 2048], n_ubatch=[8, 12])
    assert [(row["n_batch"], row["n_ubatch"]) for row in rows] == [(16, 8), (16, 12), (2048, 8), (2048, 12)]
    assert calls == [8, 8, 4, 8, 8, 4, 12, 8, 12, 8] * 2
    calls.clear()
    [row] = bench(llama, 20, 0, repetitions=1)
    assert calls == [20, 20] and row["n_batch"] == 512
    with pytest.raises(InvalidOptionError, match="a run takes at most"):
        bench(llama, 20, 0, n_ubatch=1 << 20)


def test_an_encoder_decoder_reads_its_source_in_one_run(dates: str) -> None:
    with pytest.raises(InvalidOptionError, match="in one run"):
        bench(dates, 20, 4, n_batch=8)
    rows = bench(dates, 20, 4, repetitions=1, n_prompt_gen=[(10, 2)], n_depth=[0, 6])
    assert [row["test"] for row in rows] == ["pp20", "tg4 @ d20", "pp10+tg2", "tg4 @ d6"]


def test_an_encoder_decoder_times_its_encoder_and_its_decoders_steps(dates: str) -> None:
    prompt, generation = bench(dates, 20, 11, repetitions=2)
    check_row(prompt, 2)
    check_row(generation, 2)
    assert (prompt["test"], generation["test"]) == ("pp20", "tg11 @ d20")


def test_defaults_fit_the_context(dates: str) -> None:
    prompt, generation = bench(dates, repetitions=1)
    assert prompt["n_prompt"] == generation["n_gen"] == 64
    assert prompt["stddev_ns"] == 0


def test_sizes_that_do_not_fit_are_refused(dates: str, llama: str) -> None:
    with pytest.raises(ContextOverflowError, match="65"):
        bench(dates, 65, 0)
    with pytest.raises(ContextOverflowError, match="601"):
        bench(llama, 1, 1, n_depth=600)
    with pytest.raises(ContextOverflowError, match="520"):
        bench(llama, 0, 0, n_prompt_gen=[(500, 20)])


def test_wrong_options_are_refused(dates: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError):
        bench(dates, repetitions=0)
    with pytest.raises(InvalidOptionError):
        bench(dates, n_prompt=-1)
    with pytest.raises(InvalidOptionError, match="n_gen"):
        bench(dates, n_gen=[4, True])
    with pytest.raises(ModelNotFoundError):
        bench(tmp_path / "absent.gguf")


def test_progress_counts_to_the_end(dates: str) -> None:
    calls: list[tuple[int, int, str]] = []
    bench(dates, 4, 4, repetitions=2, progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert {total for _, total, _ in calls} == {6}
