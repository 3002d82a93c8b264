"""One picture of several evaluations: quality against time and bytes, and confusion matrices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError
from ...host.packages import required
from .metrics import Confusion
from .run import Evaluation

__all__ = ["draw"]


def draw(evaluations: Sequence[Evaluation], path: str | os.PathLike[str]) -> None:
    """Draw the files' primary figure over the time of an item and over the bytes of the file; of classes, the
    confusion matrix of each file below.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        Of one task.
    path : path
        Of the picture; its ending says the format, e.g. ``.png`` or ``.svg``.

    Raises
    ------
    InvalidInputError
        There is nothing to draw, or matplotlib does not know the format.
    MissingDependencyError
        matplotlib is not installed (the extra ``evaluate``).
    """
    if not evaluations:
        raise InvalidInputError("draw: there are no evaluations")
    with required("matplotlib", "evaluate"):
        from matplotlib.figure import Figure

    matrices = [entry for entry in evaluations if entry.confusion is not None]
    columns = max(2, len(matrices))
    figure = Figure(figsize=(4.5 * columns, 8 if matrices else 4), layout="constrained")
    grid = figure.add_gridspec(2 if matrices else 1, columns)
    for place, (name, label) in enumerate((("ms_per_item", "ms an item"), ("file_bytes", "MB of the file"))):
        axes = figure.add_subplot(grid[0, place])
        scale = 1e-6 if name == "file_bytes" else 1.0
        for entry in evaluations:
            axes.plot([entry[name] * scale], [entry.figures[entry.primary]], "o", label=Path(entry.path).name)
        axes.set_xlabel(label)
        axes.set_ylabel(entry.primary)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    for place, entry in enumerate(matrices):
        _draw_matrix(figure.add_subplot(grid[1, place]), entry.confusion, Path(entry.path).name)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise InvalidInputError(f"{os.fspath(path)}: {error}") from error


def _draw_matrix(axes: Any, confusion: Confusion | None, name: str) -> None:
    """Shares of each class that is there, and the counts in them."""
    assert confusion is not None
    shares = [[count / max(sum(row), 1) for count in row] for row in confusion.counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(confusion.labels))
    axes.set_xticks(places, confusion.labels, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(places, confusion.labels, fontsize=7)
    axes.set_xlabel("found")
    axes.set_ylabel("there")
    axes.set_title(name, fontsize=8)
    for i in places:
        for j in places if len(confusion.labels) <= 20 else ():
            color = "white" if shares[i][j] > 0.5 else "black"
            axes.text(j, i, str(confusion.counts[i][j]), ha="center", va="center", color=color, fontsize=7)
