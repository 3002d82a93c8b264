"""A compiled program: flat ops over buffers in one arena, independent of the weights in memory and of a run's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .._kernels import core
from .graph import OUTPUTS, ROWS, SEGMENTS, CacheSpec

ALIGNMENT, TILE = core.ALIGNMENT, core.TILE
BLOCK_COLUMNS, BLOCK_BYTES, ROW_TOTAL_BYTES = core.BLOCK_COLUMNS, core.BLOCK_BYTES, core.ROW_TOTAL_BYTES
DOMAINS = (ROWS, OUTPUTS, SEGMENTS)  # ef_domain's order


def padded(n: int, multiple: int = TILE) -> int:
    """n rounded up to a multiple."""
    return -(-n // multiple) * multiple


@dataclass(frozen=True)
class Operand:
    """Where a value's rows are: a buffer and the first column in it."""

    buffer: int
    column: int = 0


@dataclass
class Buffer:
    """Rows of one domain, alive from op `first` to op `last`."""

    domain: str
    row_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class VectorSpec:
    """A vector of the plan: tensors end to end, each padded to a whole tile (missing ones are zeros), or constants."""

    parts: tuple[tuple[str | None, int], ...] = ()
    constant: np.ndarray | None = None
    divisor: str | None = None  # the constant is divided by this tensor


@dataclass
class Op:
    """One op of the plan, in the members of `ef_op` (plan/plan.h)."""

    kind: str
    domain: str
    inputs: tuple[Operand, ...] = ()
    output: Operand | None = None
    quantized: Operand | None = None
    row_scale: bool = False
    weight: int = -1
    vectors: tuple[int, ...] = ()
    width: int = 0
    function: str | None = None
    fields: dict[str, int | float] = field(default_factory=dict)  # those of its kind (plan/op_list.h)


@dataclass
class Recipe:
    """A compiled program, independent of weights in memory and of how many rows a run will have."""

    ops: list[Op] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    matrices: list[tuple[str, ...]] = field(default_factory=list)  # tensors stacked into one packed matrix
    vectors: list[VectorSpec] = field(default_factory=list)
    caches: list[CacheSpec] = field(default_factory=list)
    outputs: dict[str, tuple[Operand, int, str]] = field(default_factory=dict)  # name -> place, width, domain

    def layout(self, capacities: Sequence[int]) -> tuple[list[int], int]:
        """Byte offset of every buffer and the size of the arena, for (rows, outputs, segments) at most.

        Buffers whose lifetimes overlap never share bytes; largest first, each at the lowest place that is free.
        """
        sizes = [padded(b.row_bytes * capacities[DOMAINS.index(b.domain)], ALIGNMENT) for b in self.buffers]
        offsets = [0] * len(sizes)
        placed: list[int] = []
        for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            mine = self.buffers[index]
            busy = sorted(
                (offsets[o], offsets[o] + sizes[o])
                for o in placed
                if self.buffers[o].first <= mine.last and mine.first <= self.buffers[o].last
            )
            place = 0
            for begin, end in busy:
                if place + sizes[index] <= begin:
                    break
                place = max(place, end)
            offsets[index] = place
            placed.append(index)
        return offsets, max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)
