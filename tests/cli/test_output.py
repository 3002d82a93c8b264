"""Printing: bars appear only where they help, and numbers read well."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from edgeformer.cli import output


class Terminal:
    """A stderr that says it is a terminal and keeps what it is given."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_a_long_task_at_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(output, "SECONDS_BEFORE_A_BAR", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress("converting") as report:
        report(1, 2, "a.weight")
    assert "converting a.weight" in terminal.text and "50%" in terminal.text


def test_a_short_task_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress("converting") as report:
        report(1, 2, "a.weight")
    assert terminal.text == ""


def test_a_pipe_gets_no_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "SECONDS_BEFORE_A_BAR", 0.0)
    with output.progress("converting") as report:
        report(1, 2, "a.weight")
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_taken_down_when_the_task_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(output, "SECONDS_BEFORE_A_BAR", 0.0)
    with pytest.raises(KeyboardInterrupt), output.progress("converting") as report:
        report(1, 2)
        raise KeyboardInterrupt
    assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l"), "the cursor must be visible again"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_bytes_are_shown_in_binary_units(count: int, text: str) -> None:
    assert output.human_bytes(count) == text


def test_json_takes_dataclasses_and_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Point:
        name: str
        place: np.ndarray

    output.print_json({"point": Point("café", np.array([1, 2])), "size": np.float32(0.5)})
    out = capsys.readouterr().out
    assert json.loads(out) == {"point": {"name": "café", "place": [1, 2]}, "size": 0.5}
    assert "café" in out
