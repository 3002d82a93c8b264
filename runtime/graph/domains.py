"""Kinds of rows, and numbers that go with them.

A program works on rows of one or more domains: tokens, patches, pixels at several strides, one row a sequence. Every
domain has segments, whose rows form a grid: height times width, width 1 for text and sound. A run gives the grids of
some domains; those of the others follow from them, and so do the indices that gather rows from one into another.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Grids = NDArray[np.int32]  # [segments, 2]: height and width
GridsOf = Callable[["Domain"], Grids]


def starts_of(grids: Grids) -> NDArray[np.int32]:
    """The first row of every segment, and then the number of rows, int32 [segments + 1]."""
    return np.concatenate([[0], np.cumsum(grids.prod(axis=1))]).astype(np.int32)


def as_grids(lengths: Sequence[int] | Grids) -> Grids:
    """Grids of width 1 for lengths; grids as they are."""
    grids = np.asarray(lengths, np.int32)
    return grids if grids.ndim == 2 else np.stack([grids, np.ones_like(grids)], axis=1)


class Keyed:
    """Equal to others of its class that are made of the same values.

    Fourteen data classes would cost every start of a program some milliseconds, and make their hashes anew at every
    look-up.
    """

    def __init__(self, *key: Hashable) -> None:
        self._key, self._hash = key, hash((type(self), key))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Keyed) and type(self) is type(other) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._key))})"


class Domain(Keyed):
    """A kind of rows whose grids every run gives under its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    @property
    def parents(self) -> tuple[Domain, ...]:
        """The domains that its grids follow from; none where a run gives them."""
        return ()

    def grids(self, *parents: Grids) -> Grids:
        """Its grids from those of its parents."""
        raise TypeError(f"the grids of {self.name} are given with a run")


class Derived(Domain):
    """A kind of rows whose grids follow from those of `rows`."""

    def __init__(self, rows: Domain, *key: Hashable) -> None:
        Keyed.__init__(self, rows, *key)
        self.rows = rows

    @property
    def parents(self) -> tuple[Domain, ...]:
        """`rows`."""
        return (self.rows,)


class PerSegment(Derived):
    """One row for each segment."""

    def grids(self, *parents: Grids) -> Grids:
        """A grid of one row each."""
        return np.ones_like(parents[0])


class Window(NamedTuple):
    """What a convolution or pooling looks at, as torch.nn.Unfold has it; pairs are (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def taps(self) -> int:
        """Rows under the window."""
        return self.kernel[0] * self.kernel[1]


class Unfolded(Derived):
    """One row for each place of a window: floor((n + 2 padding - dilation (kernel - 1) - 1) / stride) + 1 a side."""

    def __init__(self, rows: Domain, window: Window) -> None:
        super().__init__(rows, window)
        self.window = window

    def grids(self, *parents: Grids) -> Grids:
        """The places of the window in every grid; none where it does not fit."""
        w = self.window
        reach = np.array(w.dilation) * (np.array(w.kernel) - 1) + 1
        places = (parents[0] + 2 * np.array(w.padding) - reach) // np.array(w.stride) + 1
        return np.maximum(places, 0).astype(np.int32)


class Split(Derived):
    """Every row becomes `parts` rows, one after the other, as transposed convolutions lengthen a column."""

    def __init__(self, rows: Domain, parts: int) -> None:
        super().__init__(rows, parts)
        self.parts = parts

    def grids(self, *parents: Grids) -> Grids:
        """Grids `parts` times as high."""
        return (parents[0] * np.array([self.parts, 1])).astype(np.int32)


class Joined(Derived):
    """The rows of each segment of `rows`, then those of the same segment of `more`."""

    def __init__(self, rows: Domain, more: Domain) -> None:
        super().__init__(rows, more)
        self.more = more

    @property
    def parents(self) -> tuple[Domain, ...]:
        """Both."""
        return (self.rows, self.more)

    def grids(self, *parents: Grids) -> Grids:
        """Columns as long as both together."""
        counts = parents[0].prod(axis=1) + parents[1].prod(axis=1)
        return np.stack([counts, np.ones_like(counts)], axis=1).astype(np.int32)


class Windowed(Derived):
    """The same rows in segments of their own: windows of `size`, cut from a grid that begins `shift` before each grid.

    Windows at the edges of a grid are smaller where it is shifted or not a multiple of the size. Attention stays within
    them (Liu et al. 2021, "Swin Transformer").
    """

    def __init__(self, rows: Domain, size: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> None:
        super().__init__(rows, size, shift)
        self.size, self.shift = size, shift

    def grids(self, *parents: Grids) -> Grids:
        """The windows of every grid, row by row."""
        windows = [(h, w) for grid in parents[0] for _, h in self.cuts(grid, 0) for _, w in self.cuts(grid, 1)]
        return np.array(windows, np.int32).reshape(-1, 2)

    def cuts(self, grid: Grids, axis: int) -> list[tuple[int, int]]:
        """(begin, length) of the windows along an axis."""
        length, size, shift = int(grid[axis]), self.size[axis], self.shift[axis]
        edges = sorted({0, length, *range(shift, length, size)} if shift else {*range(0, length, size), length})
        return [(begin, end - begin) for begin, end in pairwise(edges)]


ROWS = Domain("rows")  # the rows of a model with one kind of them: tokens, patches, frames
OUTPUTS = Domain("outputs")  # the rows whose results were asked for
SEGMENTS = PerSegment(ROWS)


def with_parents(domains: list[Domain]) -> list[Domain]:
    """Each domain once, after all that it follows from."""
    ordered: list[Domain] = []
    for domain in domains:
        ordered += [one for one in with_parents(list(domain.parents)) if one not in ordered]
        ordered += [] if domain in ordered else [domain]
    return ordered


class Index(Keyed):
    """A number for every row of a domain, given with a run under its name."""

    def __init__(self, name: str, domain: Domain = ROWS) -> None:
        super().__init__(name, domain)
        self.name, self.domain = name, domain

    @property
    def is_given(self) -> bool:
        """Whether a run gives it; else it follows from the grids."""
        return True

    def rows(self, grids_of: GridsOf) -> NDArray[np.int32]:
        """The numbers, int32 [rows of the domain], where they follow from the grids."""
        raise TypeError(f"{self.name} is given with a run")


class Followed(Index):
    """A number for every row of a domain that follows from the grids."""

    def __init__(self, domain: Domain, *key: Hashable) -> None:
        Keyed.__init__(self, domain, *key)
        self.name, self.domain = "", domain

    @property
    def is_given(self) -> bool:
        """It follows."""
        return False


class Zeros(Followed):
    """0 for every row: all take the one row of a table."""

    def rows(self, grids_of: GridsOf) -> NDArray[np.int32]:
        """Zeros."""
        return np.zeros(int(grids_of(self.domain).prod(axis=1).sum()), np.int32)


class Places(Followed):
    """0, 1, 2, ... for the rows of every segment."""

    def rows(self, grids_of: GridsOf) -> NDArray[np.int32]:
        """Segment by segment."""
        counts = grids_of(self.domain).prod(axis=1)
        return np.concatenate([np.arange(count, dtype=np.int32) for count in counts] or [np.empty(0, np.int32)])


class JoinedRows(Followed):
    """For every row of a `Joined` domain, its place in the rows of the one and then of the other."""

    def rows(self, grids_of: GridsOf) -> NDArray[np.int32]:
        """Segment by segment."""
        first, second = (starts_of(grids_of(parent)) for parent in self.domain.parents)
        begin = first[-1]
        pieces = [
            np.concatenate([np.arange(a, b), begin + np.arange(c, d)])
            for a, b, c, d in zip(first, first[1:], second, second[1:], strict=False)
        ]
        return np.concatenate(pieces or [first[:0]]).astype(np.int32)


class WindowedRows(Followed):
    """For every row of a `Windowed` domain, its place in the rows before."""

    def rows(self, grids_of: GridsOf) -> NDArray[np.int32]:
        """Window by window, each row by row."""
        windows = self.domain
        assert isinstance(windows, Windowed)
        grids = grids_of(windows.rows)
        pieces = [np.empty(0, np.int32)]
        for start, grid in zip(starts_of(grids), grids, strict=False):
            places = start + np.arange(grid[0] * grid[1]).reshape(grid)
            pieces += [
                places[top : top + h, left : left + w].reshape(-1)
                for top, h in windows.cuts(grid, 0)
                for left, w in windows.cuts(grid, 1)
            ]
        return np.concatenate(pieces).astype(np.int32)


class UnwindowedRows(Followed):
    """For every row, its place in the rows of the `Windowed` domain."""

    def __init__(self, windows: Windowed) -> None:
        super().__init__(windows.rows, windows)
        self.windows = windows

    def rows(self, grids_of: GridsOf) -> NDArray[np.int32]:
        """The inverse of `WindowedRows`."""
        forth = WindowedRows(self.windows).rows(grids_of)
        back = np.empty_like(forth)
        back[forth] = np.arange(len(forth), dtype=np.int32)
        return back


TOKENS, POSITIONS, TOKEN_TYPES = Index("tokens"), Index("positions"), Index("token_types")
OUTPUT_ROWS = Index("output_rows", OUTPUTS)


class Features(Keyed):
    """Float rows that a run gives: patches, frames."""

    def __init__(self, name: str, width: int, domain: Domain = ROWS) -> None:
        super().__init__(name, width, domain)
        self.name, self.width, self.domain = name, width, domain
