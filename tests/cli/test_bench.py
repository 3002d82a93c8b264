"""`edgeformer bench`: llama-bench's flags, lists of values, and its formats."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from edgeformer.cli import main
from edgeformer.cli.bench import numbers
from edgeformer.converters import convert
from edgeformer.tools.demo import CHECKPOINT


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's encoder-decoder (context 64)."""
    path = tmp_path_factory.mktemp("bench") / "it's, dates.gguf"
    convert(CHECKPOINT, path, type="q8_0")
    return str(path)


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """stdout of a bench that succeeds and writes nothing on stderr."""
    capsys.readouterr()
    code = main(["bench", "-r", "1", *arguments])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def bench_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(bench(capsys, *arguments, "-o", "json"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """stderr of a bench whose arguments are wrong."""
    capsys.readouterr()
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


def test_lists_and_repeats_are_run_in_all_combinations(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    types = ("-ctk", "f16,q8_0", "-ctv", "f16", "-ctv", "q8_0")
    rows = bench_json(capsys, "-m", dates, "-p", "4,6", "-p", "8", "-n", "2", "-t", "1,2", *types)
    assert [(row["type_k"], row["n_threads"], row["test"]) for row in rows] == [
        (kind, threads, test)
        for kind in ("f16", "q8_0")
        for threads in (1, 2)
        for test in ("pp4", "pp6", "pp8", "tg2 @ d8")
    ]


def test_flags_of_llama_bench_that_mean_nothing_here_may_say_so(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("-m", dates, "-p", "0", "-n", "0", "-pg", "8,2", "-pg", "4,3", "-fa", "1", "-ngl", "0")
    rows = bench_json(capsys, *arguments, "-b", "2048", "-ub", "64")
    assert [(row["test"], row["n_batch"], row["n_ubatch"]) for row in rows] == [
        ("pp8+tg2", 2048, 64),
        ("pp4+tg3", 2048, 64),
    ]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-p", "64,x"], ["--n-prompt", "'x'"]),
        (["-p", "-1"], ["--n-prompt", "'-1'"]),
        (["-t", "0"], ["--threads", "at least 1"]),
        (["-n", "1-8*1"], ["--n-gen", "does not grow"]),
        (["-pg", "512"], ["-pg", "'512'"]),
        (["-fa", "0"], ["--flash-attn", "give 1"]),
        (["-fa", "1,0"], ["--flash-attn", "give 1"]),
        (["-ngl", "99"], ["--n-gpu-layers", "no GPU"]),
        (["-mmp", "0"], ["No such option: -mmp"]),
        (["-nkvo", "0"], ["No such option: -nkvo"]),
        (["-o", "xml"], ["--output"]),
    ],
)
def test_what_cannot_be_had_is_refused(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(capsys, "-m", "absent.gguf", *arguments)
    assert all(part in error for part in parts)


def test_nothing_to_measure_is_an_error(dates: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-m", dates, "-p", "0", "-n", "0"]) == 1
    assert "nothing to measure" in capsys.readouterr().err


def test_ranges_are_those_of_llama_bench() -> None:
    assert numbers(["1-4", "8,16-32+8"], "-t", 1) == [1, 2, 3, 4, 8, 16, 24, 32]
    assert numbers(["1-9*2"], "-t", 1) == [1, 2, 4, 8]
    assert numbers(None, "-t", 1) == []


@pytest.mark.parametrize("output", ["json", "jsonl", "csv", "sql", "md"])
def test_every_format_has_every_row(dates: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = bench(capsys, "-m", dates, "-p", "16", "-n", "4", "-t", "1", "-ub", "64", "-o", output)
    tests = ["pp16", "tg4 @ d16"]
    if output == "json":
        assert [row["test"] for row in json.loads(out)] == tests
    elif output == "jsonl":
        assert [json.loads(line)["test"] for line in out.splitlines()] == tests
    elif output == "csv":
        rows = list(csv.DictReader(out.splitlines()))
        assert [row["test"] for row in rows] == tests and rows[0]["model_filename"] == dates
        assert "samples_ns" not in rows[0]
    elif output == "sql":
        with closing(sqlite3.connect(":memory:")) as database:
            database.executescript(out)
            rows = database.execute(
                "SELECT test, model_filename, typeof(avg_ts), flash_attn FROM llama_bench"
            ).fetchall()
        assert rows == [(test, dates, "real", 1) for test in tests]
    else:
        heading, rule, *rows = out.splitlines()
        assert {line.count("|") for line in (heading, rule, *rows)} == {13}
        assert "| n_ubatch |" in heading and [row.split(" | ")[6] for row in rows] == tests


def test_rows_are_printed_when_they_are_known(dates: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "-m", dates, "-m", str(tmp_path / "absent.gguf"), "-p", "4", "-n", "0", "-o", "jsonl"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["test"] == "pp4" and "absent.gguf" in err


def test_a_terminal_sees_how_far_it_is(
    dates: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["bench", "-m", dates, "-p", "4", "-n", "2", "-r", "1"]) == 0
    out, err = capsys.readouterr()
    assert "pp4" in err and "tg2" in err and "measuring" not in out
