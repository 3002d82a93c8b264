"""What commands print, and how: results on stdout, everything else on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from .. import Model

SECONDS_BEFORE_A_BAR = 2.0


def _plain(value: Any) -> Any:
    """What `json` cannot write itself: dataclasses, and NumPy's numbers and arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, ensure_ascii=False, indent=2, default=_plain))


def stdout_console() -> Console:
    """For tables: as wide as the terminal, or 100 columns without one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100, highlight=False)


def human_bytes(count: float) -> str:
    """``1536`` -> ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


class Report(Protocol):
    """How far a long task is: ``report(done, total, what)``; `total` is None where it is not known."""

    def __call__(self, done: int, total: int | None, what: str = "", /) -> None: ...


class _Bar:
    """A bar on stderr that starts only when the task has taken `after` seconds."""

    def __init__(self, title: str, after: float) -> None:
        self.title = title
        self.after = after
        self.started = time.monotonic()
        self.progress: Progress | None = None

    def __call__(self, done: int, total: int | None, what: str = "", /) -> None:
        if self.progress is None:
            if not sys.stderr.isatty() or time.monotonic() - self.started < self.after:
                return
            from rich.console import Console
            from rich.progress import Progress

            # No refreshing thread: it would take its share of a core while a benchmark measures.
            self.progress = Progress(console=Console(stderr=True), transient=True, auto_refresh=False)
            self.progress.add_task(self.title)
            self.progress.start()
        self.progress.update(
            self.progress.task_ids[0], completed=done, total=total, description=f"{self.title} {what}", refresh=True
        )


@contextmanager
def progress(title: str, after: float | None = None) -> Iterator[Report]:
    """Give a `Report` for a task that may take long; the bar comes after so many seconds, two unless told, and is gone
    when the block ends.
    """
    bar = _Bar(title, SECONDS_BEFORE_A_BAR if after is None else after)
    try:
        yield bar
    finally:
        if bar.progress is not None:
            bar.progress.stop()


def print_rows(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table on stdout; a heading that starts with ``>`` stands to the right. No heading row if all are empty."""
    from rich.table import Table
    from rich.text import Text

    headings = list(columns)
    table = Table(title=title, title_justify="left", show_header=any(headings))
    for column in headings:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    stdout_console().print(table)


def load_model(path: str, **options: Any) -> Model:
    """`edgeformer.load` with a bar."""
    from ..model import load

    with progress("loading") as report:
        return load(path, progress=report, **options)
