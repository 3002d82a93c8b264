"""Where models stand between a machine's two limits: numbers for the picture, from a report alone.

A call that reads `weight_bytes` and does `operations` for each of its `tokens` has an intensity, operations per byte.
It cannot exceed the intensity times the bytes a second that the machine reads, nor the operations a second it does.
Keys, values and activations are left out on both sides: they stay in the caches at these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .report import Report, fastest

OURS = "edgeformer"


@dataclass(frozen=True)
class Point:
    """A row: operations per byte and operations a second that were reached."""

    row: str
    group: str
    intensity: float
    reached: float


@dataclass(frozen=True)
class Limits:
    """Bytes a second and, for every instruction set, int8 operations a second."""

    bandwidth: float
    peaks: dict[str, float]

    def roof(self, intensity: float, isa: str) -> float:
        """Operations a second that nothing of this intensity exceeds."""
        return min(self.peaks[isa], intensity * self.bandwidth)


def limits(report: Report) -> Limits:
    """The best of the run's measurements, on the threads of the run."""
    threads = str(report.settings["threads"])
    measured: list[dict[str, Any]] = report.machine["measured"]
    bandwidth = max(one["read_bandwidth"][threads] for one in measured)
    peaks = {isa: max(one["peaks"][isa]["int8"][threads] for one in measured) for isa in measured[0]["peaks"]}
    return Limits(bandwidth, peaks)


def points(report: Report) -> list[Point]:
    """A point for every row of ours in tokens a second whose cost is known."""
    found = []
    for result in report.results:
        ours = fastest(result.figures, OURS, result.unit)
        if ours is None or result.unit != "tok/s" or not result.cost:
            continue
        cost = result.cost
        intensity = cost["operations"] * cost["tokens"] / cost["weight_bytes"]
        found.append(Point(result.row, result.group, intensity, ours.value * cost["operations"]))
    return found
