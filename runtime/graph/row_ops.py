"""Ops of a graph that take rows from elsewhere: inputs, rows asked for, grids, sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._kernels import core
from ..errors import ModelFormatError
from .domains import (
    OUTPUT_ROWS,
    Domain,
    Features,
    Index,
    Joined,
    JoinedRows,
    PerSegment,
    Split,
    Unfolded,
    UnwindowedRows,
    Window,
    Windowed,
    WindowedRows,
    Zeros,
)
from .values import Value


class RowOps:
    """Part of `Graph`: its ops that move rows from one domain into another."""

    path: str

    if TYPE_CHECKING:

        def _add(self, kind: str, inputs: Sequence[Value], width: int, **rest: Any) -> Value: ...
        def _check_known(self, what: str, name: str, known: Sequence[str]) -> None: ...
        def embed(self, source: Index, name: str, rows: int, width: int) -> Value: ...

    def features(self, source: Features) -> Value:
        """Float rows that a run gives: patches, frames."""
        return self._add("features", [], source.width, domain=source.domain, source=source)

    def repeat(self, name: str, width: int, domain: Domain) -> Value:
        """The one row of the table `name`.weight [1, width] for every row of a domain: a class token."""
        return self.embed(Zeros(domain), name, 1, width)

    def gather(self, x: Value, index: Index, more: Value | None = None) -> Value:
        """For every row of the index's domain the row of `x` with that number, zeros where it is negative; numbers from
        the rows of `x` on are those of `more`.
        """
        inputs, more_rows = [x] if more is None else [x, more], None if more is None else more.domain
        if more is not None and more.width != x.width:
            raise ModelFormatError(self.path, None, "gather", f"rows of {x.width} and of {more.width} columns")
        from_rows = {"rows": x.domain, "more_rows": more_rows}
        return self._add("gather", inputs, x.width, domain=index.domain, source=index, **from_rows)

    def select(self, x: Value) -> Value:
        """The rows whose results were asked for."""
        return self.gather(x, OUTPUT_ROWS)

    def join(self, first: Value, second: Value) -> Value:
        """The rows of each sequence in `first`, then those in `second`: a class token before patches."""
        return self.gather(first, JoinedRows(Joined(first.domain, second.domain)), second)

    def windows(self, x: Value, size: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> Value:
        """The same rows window by window, in whose segments attention stays."""
        return self.gather(x, WindowedRows(Windowed(x.domain, size, shift)))

    def unwindow(self, x: Value) -> Value:
        """Rows of `windows` back in their order."""
        domain = x.domain
        if not isinstance(domain, Windowed):
            raise ModelFormatError(self.path, None, "unwindow", "the rows are in no windows")
        return self.gather(x, UnwindowedRows(domain.rows, windows=domain))

    def unfold(self, x: Value, window: Window) -> Value:
        """For every place of a window over the grid of `x` the rows under it side by side, zeros outside of the grid:
        [window row][window column][column of x]. With `linear` after it, a convolution.
        """
        return self._add(
            "unfold",
            [x],
            x.width * window.taps,
            domain=Unfolded(x.domain, window),
            rows=x.domain,
            kernel_height=window.kernel[0],
            kernel_width=window.kernel[1],
            stride_height=window.stride[0],
            stride_width=window.stride[1],
            padding_top=window.padding[0],
            padding_left=window.padding[1],
            dilation_height=window.dilation[0],
            dilation_width=window.dilation[1],
        )

    def split(self, x: Value, parts: int) -> Value:
        """Every row becomes `parts` rows of equal columns, one after the other."""
        if x.width % parts:
            raise ModelFormatError(self.path, None, "split", f"{x.width} columns in {parts} parts")
        return self._add("split", [x], x.width // parts, domain=Split(x.domain, parts), rows=x.domain, parts=parts)

    def pool(self, x: Value, kind: str) -> Value:
        """One row a sequence: the mean of its rows, its first or its last row."""
        self._check_known("pooling", kind, core.POOLINGS)
        return self._add("pool", [x], x.width, domain=PerSegment(x.domain), pooling=kind, rows=x.domain)
