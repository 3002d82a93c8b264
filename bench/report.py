"""What a run of the benches leaves behind: one JSON document, its version, and the lines that are printed.

The document (`version` 1)::

    {"schema": "edgeformer-bench", "version": 1, "created": "2026-01-31T12:00:00Z",
     "machine": {"cpu", "cores", "isa", "system", "python", "measured": [measurement, ...]},
     "settings": {...},
     "results": [{"row", "group", "model", "unit",
                  "figures": {label: {"group", "version", "value", "rounds": [figure], "seconds": [[s of a call]]}},
                  "checks": [{"kind", "against", "value", "rounds", "bound", "at_most"}],
                  "failures": {label: why}, "cost": {} or run.cost_of's}]}

A figure is in `unit`; its value is the median of the rounds, a round's the median of its repeats. A check's rounds hold
its value in every round. A measurement is machine.py's. Nothing here needs edgeformer.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

SCHEMA, VERSION = "edgeformer-bench", 1
DOCUMENT_FIELDS = {"schema": str, "version": int, "created": str, "machine": dict, "settings": dict, "results": list}


class ReportError(Exception):
    """A file is no report of the benches; the message says what is wrong with it."""


@dataclass
class Figure:
    """What one runtime reached in a row."""

    group: str
    version: str
    rounds: list[float]
    seconds: list[list[float]] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)


@dataclass
class Check:
    """A goal and what was reached of it.

    Attributes
    ----------
    kind, against : str
        What is compared with what (`rows.Goal`).
    value : float or None
        None where a runtime that it needs failed.
    rounds : list of float
    bound : float or None
        None where the value is only reported.
    at_most : bool
        Whether smaller is better.
    """

    kind: str
    against: str
    value: float | None
    rounds: list[float]
    bound: float | None
    at_most: bool = False

    @property
    def name(self) -> str:
        """The check's name within its row."""
        return f"{self.kind} {self.against}".strip()

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached, which it is not where a runtime failed; None without a goal."""
        if self.bound is None:
            return None
        if self.value is None:
            return False
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def text(self) -> str:
        """The check for people."""
        reached = "failed" if self.value is None else f"{self.value:.4g}"
        if self.bound is None:
            return f"{self.name} {reached}"
        sign = "<=" if self.at_most else ">="
        return f"{self.name} {reached} ({'' if self.met else 'NOT '}{sign} {self.bound:g})"


@dataclass
class Result:
    """One row's outcome."""

    row: str
    group: str
    model: str
    unit: str
    figures: dict[str, Figure]
    checks: list[Check]
    failures: dict[str, str] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """The result for people, one line and one more for every failure."""
        figures = "  ".join(f"{label} {figure.value:.4g}" for label, figure in self.figures.items())
        checks = "; ".join(check.text() for check in self.checks)
        lines = [f"{self.row:24} [{self.unit}] {figures} | {checks}"]
        return "\n".join(lines + [f"    {label} failed: {why}" for label, why in self.failures.items()])

    def document(self) -> dict[str, Any]:
        """For JSON."""
        document = asdict(self)
        for label, figure in self.figures.items():
            document["figures"][label]["value"] = figure.value
        return document


def result_of(document: dict[str, Any]) -> Result:
    """A result from its JSON.

    Raises
    ------
    ReportError
    """
    try:
        figures = {
            label: Figure(entry["group"], entry["version"], entry["rounds"], entry["seconds"])
            for label, entry in document["figures"].items()
        }
        checks = [Check(**entry) for entry in document["checks"]]
        return Result(
            document["row"],
            document["group"],
            document["model"],
            document["unit"],
            figures,
            checks,
            document["failures"],
            document["cost"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"a result is not as version {VERSION} has it: {type(error).__name__} {error}") from error


@dataclass
class Report:
    """A run's document."""

    created: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        document = {
            "schema": SCHEMA,
            "version": VERSION,
            "created": self.created,
            "machine": self.machine,
            "settings": self.settings,
            "results": [result.document() for result in self.results],
        }
        making = path.with_name(path.name + ".making")
        making.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
        making.replace(path)

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read it back.

        Raises
        ------
        ReportError
            The file is not one, or of another version.
        """
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ReportError(f"{path}: {error}") from error
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ReportError(f"{path} is no report of the benches")
        if document.get("version") != VERSION:
            raise ReportError(f"{path} has version {document.get('version')}; this program reads version {VERSION}")
        for name, kind in DOCUMENT_FIELDS.items():
            if not isinstance(document.get(name), kind):
                raise ReportError(f"{path}: {name} must be a {kind.__name__}")
        results = [result_of(entry) for entry in document["results"]]
        return cls(document["created"], document["machine"], document["settings"], results)


def fastest(figures: dict[str, Figure], group: str, unit: str) -> Figure | None:
    """The best of a group; None where it has none."""
    members = [figure for figure in figures.values() if figure.group == group]
    if not members:
        return None
    return max(members, key=lambda figure: figure.value if unit == "tok/s" else -figure.value)


def bound_of(bound: float) -> float | None:
    """JSON's way of saying that there is none."""
    return None if math.isnan(bound) else bound


def ratio_check(figures: dict[str, Figure], unit: str, ours: str, against: str, bound: float) -> Check:
    """How many times as fast the fastest of `ours` is as the fastest of `against`."""
    mine, theirs = fastest(figures, ours, unit), fastest(figures, against, unit)
    if mine is None or theirs is None:
        return Check("ratio", against, None, [], bound_of(bound))
    pairs = [(a, b) if unit == "tok/s" else (b, a) for a, b in zip(mine.rounds, theirs.rounds, strict=True)]
    value = mine.value / theirs.value if unit == "tok/s" else theirs.value / mine.value
    return Check("ratio", against, value, [a / b for a, b in pairs], bound_of(bound))


def bandwidth_check(mine: Figure | None, reading: Figure | None, weight_bytes: int, bound: float) -> Check:
    """Bytes of weights that decoding reads a second, over the bytes a second that the machine reads in the same round.

    `mine` is in tokens, `reading` in bytes a second.
    """
    if mine is None or reading is None:
        return Check("bandwidth", "", None, [], bound_of(bound))
    shares = [a * weight_bytes / b for a, b in zip(mine.rounds, reading.rounds, strict=True)]
    return Check("bandwidth", "", mine.value * weight_bytes / reading.value, shares, bound_of(bound))
