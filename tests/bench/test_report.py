"""The benches' report: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bench.report", reason="the benches are not beside the tests")

from bench.page import PAGE, page
from bench.report import Check, Figure, Report, ReportError, Result, bandwidth_check, fastest, ratio_check


def figure(group: str, *rounds: float) -> Figure:
    return Figure(group, "1.0", list(rounds), [[1 / value] for value in rounds])


def example() -> Report:
    figures = {"edgeformer": figure("edgeformer", 10, 12, 11), "slow": figure("peer", 4, 5, 6)}
    result = Result(
        "decode",
        "decode-1b",
        "llama-1b q4_0",
        "tok/s",
        figures,
        [ratio_check(figures, "tok/s", "edgeformer", "peer", 2.0)],
        {"other": "not installed"},
        {"weight_bytes": 100},
    )
    return Report("2026-01-31T12:00:00Z", {"cpu": "a CPU", "measured": []}, {"threads": 2}, [result])


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    example().write(tmp_path / "report.json")
    assert Report.read(tmp_path / "report.json") == example()
    document = json.loads((tmp_path / "report.json").read_text())
    assert (document["schema"], document["version"]) == ("edgeformer-bench", 1)
    assert document["results"][0]["figures"]["slow"]["value"] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "other"}, "no report"),
        ({"version": 2}, "version 2"),
        ({"results": {}}, "results must be a list"),
        ({"results": [{"row": "decode"}]}, "KeyError 'figures'"),
        ({"results": [None]}, "TypeError"),
    ],
)
def test_other_documents_are_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    path = tmp_path / "report.json"
    example().write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReportError, match=complaint):
        Report.read(path)


@pytest.mark.parametrize("text", ["", "[1, 2]", "\x00"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ReportError, match=r"report\.json"):
        Report.read(tmp_path / "report.json")


def test_the_fastest_of_a_group_counts() -> None:
    figures = {"a": figure("peer", 4, 4, 4), "b": figure("peer", 5, 1, 5), "c": figure("edgeformer", 10, 9, 10)}
    assert fastest(figures, "peer", "tok/s") is figures["b"]
    assert fastest(figures, "peer", "ms") is figures["a"]
    assert fastest(figures, "nobody", "ms") is None
    by_speed = ratio_check(figures, "tok/s", "edgeformer", "peer", 2.0)
    assert (by_speed.value, by_speed.rounds, by_speed.met) == (2.0, [2.0, 9.0, 2.0], True)
    by_time = ratio_check(figures, "ms", "edgeformer", "peer", float("nan"))
    assert (by_time.value, by_time.rounds[1], by_time.bound, by_time.met) == (0.4, 4 / 9, None, None)


def test_what_was_not_measured_is_not_reached() -> None:
    check = ratio_check({"c": figure("edgeformer", 10)}, "tok/s", "edgeformer", "peer", 2.0)
    assert check.value is None and check.met is False and "failed" in check.text()
    assert bandwidth_check(figure("edgeformer", 1), None, 1, 0.9).met is False


def test_bandwidth_is_taken_round_by_round() -> None:
    check = bandwidth_check(figure("edgeformer", 10, 20, 30), figure("reader", 2000, 2500, 3000), 100, 0.9)
    assert check.value == 0.8 and check.rounds == [0.5, 0.8, 1.0] and check.met is False


def test_smaller_is_better_where_the_goal_says_so() -> None:
    assert Check("figure", "", 50.0, [50.0], 60.0, at_most=True).met is True
    assert Check("figure", "", 70.0, [70.0], 60.0, at_most=True).met is False
    assert "(NOT <= 60)" in Check("figure", "", 70.0, [70.0], 60.0, at_most=True).text()


def test_a_result_says_what_failed() -> None:
    [result] = example().results
    assert "ratio peer 2.2 (>= 2)" in result.line() and "other failed: not installed" in result.line()


def test_the_page_shows_every_row_of_the_files(tmp_path: Path) -> None:
    example().write(tmp_path / "2026-01-31.json")
    counts = {
        "created": "2026-01-31",
        "made_with": {"compiler": "GCC 12"},
        "rows": {"a": {"all": 2_500_000, "kernels": 5}},
    }
    (tmp_path / "instructions.json").write_text(json.dumps(counts))
    made = page(tmp_path)
    assert "## 2026-01-31" in made and all(f"| `{result.row}` |" in made for result in example().results)
    assert "| a | 2.50 | 0.00 |" in made and made.index("## 2026") < made.index("## instructions")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ReportError, match=r"other\.json"):
        page(tmp_path)


def test_the_kept_page_is_what_the_files_give() -> None:
    assert PAGE.read_text() == page()
