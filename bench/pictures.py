"""The pictures: ratios beside their goals, and the roofline. Drawn by matplotlib, which the extra `bench` brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import Report, ReportError
from .roofline import limits, points

INTENSITIES = (0.5, 5000.0)  # operations per byte: the picture's width
REACHED, MISSED, LIMIT = "#2a7f62", "#b5482f", "#5f6b76"


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes, no display needed.

    Raises
    ------
    ReportError
        matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ReportError(f"{error}; pictures need the extra: pip install edgeformer[bench]") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def subtitle(report: Report) -> str:
    """What the figures were taken on."""
    limit = limits(report)
    best = next(iter(limit.peaks))
    return (
        f"{report.machine['cpu']}, {report.settings['threads']} threads, reads {limit.bandwidth / 1e9:.0f} GB/s, "
        f"int8 {limit.peaks[best] / 1e9:.0f} Gop/s ({best}), {report.created[:10]}"
    )


def draw_ratios(report: Report, path: Path) -> None:
    """A bar for every ratio, its goal as a mark."""
    bars = [
        (f"{result.row}  / {check.against}", check)
        for result in report.results
        for check in result.checks
        if check.kind == "ratio" and check.value is not None and not check.at_most
    ]
    figure, axes = canvas(9, 1.5 + 0.22 * len(bars))
    for place, (_, check) in enumerate(bars):
        axes.barh(place, check.value, color=MISSED if check.met is False else REACHED)
        if check.bound is not None:
            axes.plot([check.bound] * 2, [place - 0.45, place + 0.45], color="black", linewidth=1.5)
    axes.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=7)
    axes.set_ylim(max(len(bars), 1) - 0.5, -0.5)  # a report without ratios gives axes without bars
    axes.axvline(1, color=LIMIT, linewidth=0.8)
    axes.set_xlabel("times as fast as the peer; the black mark is the goal")
    figure.suptitle("edgeformer against its peers\n" + subtitle(report), fontsize=9)
    figure.savefig(path)


def draw_roofline(report: Report, path: Path) -> None:
    """Every model's prompt and decode under the two limits, both axes logarithmic."""
    limit = limits(report)
    figure, axes = canvas(9, 6)
    for isa, peak in limit.peaks.items():
        knee = peak / limit.bandwidth
        if isa != "scalar":
            axes.plot(
                [INTENSITIES[0], knee, INTENSITIES[1]],
                [INTENSITIES[0] * limit.bandwidth / 1e9, peak / 1e9, peak / 1e9],
                color=LIMIT,
                linewidth=1,
            )
            axes.annotate(f"{isa} int8", (INTENSITIES[1], peak / 1e9), ha="right", va="bottom", fontsize=7, color=LIMIT)
    for number, point in enumerate(points(report), 1):
        axes.plot(point.intensity, point.reached / 1e9, "o", markersize=4, label=f"{number} {point.row}")
        axes.annotate(
            str(number), (point.intensity, point.reached / 1e9), fontsize=7, xytext=(4, -2), textcoords="offset points"
        )
    axes.set(xscale="log", yscale="log", xlim=INTENSITIES, xlabel="operations per byte of weights", ylabel="Gop/s")
    figure.legend(fontsize=6, loc="outside lower center", ncols=4)
    figure.suptitle("Between memory and arithmetic\n" + subtitle(report), fontsize=9)
    figure.savefig(path)
