"""Regressions between two reports of the benches: what counts as a change, and what is only noise."""

from __future__ import annotations

import pytest

pytest.importorskip("bench.compare", reason="the benches are not beside the tests")

from bench.compare import Comparison, comparisons, table, verdict
from bench.report import Check, Report, Result


def check(value: float | None, *rounds: float, at_most: bool = False) -> Check:
    return Check("ratio", "peer", value, list(rounds), 2.0, at_most)


def report(**checks: Check) -> Report:
    results = [Result(row, "", "", "tok/s", {}, [one]) for row, one in checks.items()]
    return Report("", {}, {}, results)


OLD = check(2.0, 1.9, 2.0, 2.1)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (check(2.0, 1.9, 2.0, 2.1), "same"),
        (check(1.7, 1.6, 1.7, 1.95), "same"),  # rounds overlap
        (check(1.7, 1.6, 1.7, 1.8), "worse"),
        (check(2.5, 2.4, 2.5, 2.6), "better"),
        (check(None), "gone"),
    ],
)
def test_a_change_is_beyond_all_rounds(new: Check, expected: str) -> None:
    assert verdict(OLD, new) == expected


def test_a_failure_that_stays_is_no_change() -> None:
    assert verdict(check(None), check(None)) == "same"
    assert verdict(check(None), OLD) == "new"


def test_a_small_change_is_none_however_quiet_the_machine() -> None:
    assert verdict(check(2.0, 2.0, 2.0), check(1.95, 1.95, 1.95)) == "same"
    assert verdict(check(2.0, 2.0, 2.0), check(1.9, 1.9, 1.9)) == "worse"


def test_less_is_better_for_times_and_losses() -> None:
    old = check(50.0, 49.0, 51.0, at_most=True)
    assert verdict(old, check(70.0, 69.0, 71.0, at_most=True)) == "worse"
    assert verdict(old, check(30.0, 29.0, 31.0, at_most=True)) == "better"


def test_rows_of_either_report_are_listed() -> None:
    found = comparisons(report(a=OLD, b=OLD), report(b=check(1.0, 1.0), c=OLD))
    assert [(one.row, one.verdict) for one in found] == [("a", "gone"), ("b", "worse"), ("c", "new")]
    assert found[1] == Comparison("b", "ratio peer", 2.0, 1.0, "worse") and found[1].change == 0.5
    lines = table(found).splitlines()
    assert len(lines) == 5 and lines[2].endswith("0.500 worse")
    assert lines[-1] == "0 better, 1 worse, 1 gone, 1 new, of 3"
