"""Ops of a graph that take rows from elsewhere: inputs, rows asked for, grids, sequences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
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

REDUCTIONS = ("unfold", "max", "mean", "weighted")  # in the order of ef_window


class RowOps:
    """Part of `Graph`: its ops that move rows from one domain into another."""

    path: str

    if TYPE_CHECKING:

        def _add(self, kind: str, inputs: Sequence[Value], width: int, **rest: Any) -> Value: ...
        def _check_known(self, what: str, name: str, known: Sequence[str]) -> None: ...
        def _expect(self, name: str, shape: tuple[int, ...]) -> str: ...
        def _optional(self, name: str, shape: tuple[int, ...]) -> tuple[str, ...]: ...
        def embed(self, source: Index, name: str, rows: int, width: int) -> Value: ...
        def linear(self, x: Value, name: str, width: int, *, first_row: int, num_rows: int | None) -> Value: ...
        def columns(self, x: Value, first: int, width: int) -> Value: ...

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
        return self.gather(x, UnwindowedRows(domain))

    def unfold(self, x: Value, window: Window) -> Value:
        """For every place of a window over the grid of `x` the rows under it side by side, zeros outside of the grid:
        [window row][window column][column of x]. With `linear` after it, a convolution.
        """
        return self._window(x, window, "unfold", x.width * window.taps)

    def pool_grid(self, x: Value, window: Window, kind: str) -> Value:
        """The maximum ("max") or the mean ("mean") of the rows of `x` under a window at each of its places.

        Rows outside of the grid do not count; where there are none at all the result is 0.
        """
        self._check_known("reduction", kind, REDUCTIONS[1:3])
        return self._window(x, window, kind, x.width)

    def depthwise(self, x: Value, name: str, window: Window) -> Value:
        """A convolution of every column by itself: `name`.weight [window rows * window columns, columns] and, where the
        file has it, `name`.bias [columns].
        """
        weight = self._expect(f"{name}.weight", (window.taps, x.width))
        tensors = (weight, *self._optional(f"{name}.bias", (x.width,)))
        return self._window(x, window, "weighted", x.width, tensors=tensors)

    def convolution(self, x: Value, name: str, width: int, window: Window, *, groups: int = 1) -> Value:
        """A convolution, or `groups` of them over equal parts of the columns (torch.nn.Conv2d).

        `name`.weight is [width, window rows * window columns * columns of a group]: torch's kernel, its inputs last.
        """
        if x.width % groups or width % groups:
            what = f"{groups} groups of {x.width} columns to {width}"
            raise ModelFormatError(self.path, None, f"{name}.weight", what)
        columns, outputs = x.width // groups, width // groups
        parts = []
        for group in range(groups):
            mine = x if groups == 1 else self.columns(x, group * columns, columns)
            taps = self.unfold(mine, window)
            parts.append(self.linear(taps, name, outputs, first_row=group * outputs, num_rows=width))
        return reduce(self.concatenate, parts)

    def concatenate(self, first: Value, second: Value) -> Value:
        """The columns of one value and then those of another, over the same rows."""
        if first.domain != second.domain:
            raise ModelFormatError(self.path, None, "concatenate", "the values have rows of two kinds")
        return self._add("concatenate", [first, second], first.width + second.width, first=first.width)

    def _window(self, x: Value, window: Window, reduction: str, width: int, tensors: tuple[str, ...] = ()) -> Value:
        return self._add(
            "window",
            [x],
            width,
            tensors=tensors,
            domain=Unfolded(x.domain, window),
            reduction=reduction,
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
