"""Turns of the benches' engines: a runtime that is missing or fails costs its own figures and nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bench.run", reason="the benches are not beside the tests")

from edgeformer.errors import InvalidOptionError

from bench import commands
from bench.peers import PeerError, Worker, prepare, tail
from bench.report import Report, Result
from bench.rows import LLAMA, OURS, OWN_PYTHON, PEER_PYTHON, READER, Contest, Engine, Goal, Row, Settings, Work
from bench.run import run_contest

BYTES = 1 << 20


def no_file() -> Path:
    raise InvalidOptionError("no such type")


def contest_of(*engines: Engine) -> Contest:
    row = Row("row", "group", Work({"decode": 4}, 4, 2, "tok/s"), (Goal("ratio", 2.0, LLAMA), Goal("bandwidth", 0.9)))
    return Contest("model", engines, (row,))


def reader(label: str, group: str) -> Engine:
    """An engine that needs no model."""
    return Engine(label, group, "memory-reader", OWN_PYTHON, {"threads": 1, "nbytes": BYTES})


def test_what_fails_is_named_and_the_rest_goes_on() -> None:
    contest = contest_of(
        reader(OURS, OURS),
        Engine("unmade", OURS, "edgeformer-decoder", OWN_PYTHON, {"path": no_file}),
        Engine("missing", LLAMA, "llama.cpp", PEER_PYTHON, {}),
        Engine("broken", LLAMA, "edgeformer-decoder", OWN_PYTHON, {"path": "/no/file", "threads": 1, "context": 8}),
        reader(READER, READER),
    )
    [result] = run_contest(contest, list(contest.rows), Settings(None, rounds=3))
    assert set(result.figures) == {OURS} and len(result.figures[OURS].rounds) == 3
    assert [len(calls) for calls in result.figures[OURS].seconds] == [2, 2, 2]
    assert result.failures["missing"] == "--peer-python is not given"
    assert "no such type" in result.failures["unmade"]
    assert "ModelNotFoundError" in result.failures["broken"]
    assert [check.met for check in result.checks] == [False, False]
    assert result.cost["read_bandwidth"] > 0


def test_ratios_come_from_the_rounds() -> None:
    contest = contest_of(reader(OURS, OURS), reader(LLAMA, LLAMA))
    [result] = run_contest(contest, list(contest.rows), Settings(None, rounds=3))
    assert result.checks[0].value is not None and len(result.checks[0].rounds) == 3


def test_a_worker_that_gives_no_answer_is_left() -> None:
    with pytest.raises(PeerError, match="no answer in 0 s"):
        Worker(sys.executable, "memory-reader", {"threads": 1, "nbytes": BYTES}, 0.0)
    with pytest.raises(PeerError, match="/no/python"):
        Worker("/no/python", "memory-reader", {}, 1.0)


def test_preparing_needs_an_interpreter_that_can() -> None:
    with pytest.raises(PeerError, match="--peer-python is needed"):
        prepare(None, "minilm-checkpoint")
    with pytest.raises(PeerError, match=r"usage: PYTHON -m bench.prepare_peers"):
        prepare(sys.executable, "something")


def test_complaints_are_cut_to_what_matters() -> None:
    assert tail("Traceback (most recent call last):\n  File\nValueError: why\n") == "ValueError: why"
    assert tail("\n".join("abcdefg")) == "c\nd\ne\nf\ng"
    assert tail("") == "no message"


def test_every_result_is_written_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"read_bandwidth": {"1": 1.0}, "peaks": {}}
    monkeypatch.setattr("bench.machine.measure", lambda threads: measured)
    path = tmp_path / "report.json"

    def results(patterns: list[str], settings: Any) -> Any:
        yield Result("first", "", "", "ms", {}, [])
        assert [result.row for result in Report.read(path).results] == ["first"]
        yield commands.alone(Row("second", "", Work({}, 0, 1, "ms"), (Goal("figure", 60.0),)), fail, settings)

    def fail(row: Row, settings: Any) -> Result:
        raise PeerError("not here")

    monkeypatch.setattr(commands, "results_of", results)
    options = argparse.Namespace(
        rows=["all"],
        models=tmp_path,
        peer_python=None,
        avx2_peer_python=None,
        test_models=None,
        json=path,
        plot=None,
        rounds=5,
        threads=1,
        prefill=8,
        long_prefill=8,
        decode=8,
        encoder_types="q8_0",
        timeout=9.0,
    )
    assert commands.run(options) == 0
    report = Report.read(path)
    assert [result.row for result in report.results] == ["first", "second"] and len(report.machine["measured"]) == 2
    assert "0 of 1 goals reached" in capsys.readouterr().out
