"""The page of kept results, bench/results/README.md, made from the JSON files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .report import Check, Figure, Report, Result

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = RESULTS / "README.md"
HEAD = """# Kept results

`python bench page` makes this page from the JSON files beside it. Figures of time hold for their machine and their
date; only ratios of one run can be compared. [The page above](../README.md) says how they are taken.
"""


def number(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def checked(check: Check) -> str:
    """A check's value beside its goal."""
    against = f" of {check.against}" if check.against else ""
    reached = "failed" if check.value is None else f"{check.value:.2f}"
    bound = "" if check.bound is None else f" (goal {'≤' if check.at_most else '≥'} {check.bound:g})"
    return f"{check.kind}{against} {reached}{bound}"


def shown(label: str, figure: Figure) -> str:
    """A figure, with the range of its rounds where there are several."""
    spread = f" ({number(min(figure.rounds))}-{number(max(figure.rounds))})" if len(figure.rounds) > 1 else ""
    return f"{label} {number(figure.value)}{spread}"


def result_line(result: Result) -> str:
    """A row of the table."""
    figures = "; ".join(shown(label, figure) for label, figure in result.figures.items())
    return f"| `{result.row}` | {result.unit} | {figures} | {'; '.join(map(checked, result.checks))} |"


def timed(path: Path) -> str:
    """A report of `python bench run`."""
    report = Report.read(path)
    machine, settings = report.machine, report.settings
    facts = [machine["cpu"], f"{settings['threads']} threads", *([machine["system"]] if "system" in machine else [])]
    lines = [f"## {path.stem}", "", f"{report.created[:10]}, {', '.join(facts)}.", *settings.get("notes", [])]
    lines += ["", "| row | unit | figures: median (range of the rounds) | checks |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(result_line, report.results)])


def counted(path: Path) -> str:
    """Kept counts of `python bench instructions`."""
    document: dict[str, Any] = json.loads(path.read_text())
    made = ", ".join(f"{name} {version}" for name, version in document["made_with"].items())
    lines = [f"## {path.stem}", "", f"{document['created']}; {made}."]
    lines += ["Millions of instructions on one thread: all of them, and those of the C files."]
    lines += ["", "| row | all | C files |", "|---|---|---|"]
    rows = (
        f"| {name} | {row['all'] / 1e6:.2f} | {row['kernels'] / 1e6:.2f} |" for name, row in document["rows"].items()
    )
    return "\n".join([*lines, *rows])


def page(folder: Path = RESULTS) -> str:
    """The whole page, newest runs first, counts last.

    Raises
    ------
    ReportError
        A file is neither a report nor kept counts.
    """
    counts = [path for path in sorted(folder.glob("*.json")) if "instructions" in path.stem]
    runs = [path for path in sorted(folder.glob("*.json"), reverse=True) if path not in counts]
    return "\n\n".join([HEAD.strip(), *map(timed, runs), *map(counted, counts)]) + "\n"


def write(check: bool) -> int:
    """Write the page, or say whether it is what the files give; the exit status."""
    if not check:
        PAGE.write_text(page())
        return 0
    current = PAGE.exists() and PAGE.read_text() == page()
    if not current:
        print(f"{PAGE} is old: `python bench page` makes it again")
    return int(not current)
