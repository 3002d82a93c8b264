"""A compiled program: flat ops over buffers in one arena, independent of the weights in memory and of a run's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .._kernels import core
from .domains import OUTPUTS, ROWS, Domain, Features, Grids, Index, PerSegment, as_grids
from .graph import CacheSpec

ALIGNMENT, TILE = core.ALIGNMENT, core.TILE
BLOCK_COLUMNS, BLOCK_BYTES, ROW_TOTAL_BYTES = core.BLOCK_COLUMNS, core.BLOCK_BYTES, core.ROW_TOTAL_BYTES


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

    domain: Domain
    row_bytes: int
    first: int
    last: int


class MatrixPart(NamedTuple):
    """Rows of a tensor."""

    name: str
    first: int
    rows: int


Stack = tuple[MatrixPart, ...]  # packed as one matrix, each part from a whole tile on


class VectorPart(NamedTuple):
    """Elements of a tensor, or so many zeros."""

    name: str | None
    width: int
    first: int = 0


@dataclass(frozen=True)
class VectorSpec:
    """A vector of the plan: tensors end to end, each padded to a whole tile (missing ones are zeros), or constants."""

    parts: tuple[VectorPart, ...] = ()
    constant: np.ndarray | None = None
    divisor: str | None = None  # the constant is divided by this tensor
    indices: np.ndarray | None = None  # which elements of the one part are picked


@dataclass
class Op:
    """One op of the plan, in the members of `ef_op` (plan/plan.h)."""

    kind: str
    domain: Domain
    inputs: tuple[Operand, ...] = ()
    output: Operand | None = None
    quantized: Operand | None = None
    row_scale: bool = False
    weight: int = -1
    vectors: tuple[int, ...] = ()
    width: int = 0
    function: str | None = None
    fields: dict[str, int | float] = field(default_factory=dict)  # those of its kind (plan/op_list.h)


@dataclass(frozen=True)
class CacheUse:
    """What the ops of a domain do with a cache."""

    cache: str
    domain: Domain
    stores: bool


@dataclass
class Recipe:
    """A compiled program, independent of weights in memory and of how many rows a run will have."""

    ops: list[Op] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    matrices: list[Stack] = field(default_factory=list)
    vectors: list[VectorSpec] = field(default_factory=list)
    caches: list[CacheSpec] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)  # each after all that it follows from
    indices: list[Index] = field(default_factory=list)
    features: list[Features] = field(default_factory=list)
    outputs: dict[str, tuple[Operand, int, Domain]] = field(default_factory=dict)  # name -> place, width, domain

    @property
    def cache_uses(self) -> list[CacheUse]:
        """Every cache with every domain whose rows are stored in it or look at it."""
        uses: dict[tuple[str, Domain], bool] = {}
        for op in self.ops:
            if "cache" in op.fields:
                key = (self.caches[int(op.fields["cache"])].name, op.domain)
                uses[key] = uses.get(key, False) or op.kind == "store_kv"
        return [CacheUse(name, domain, stores) for (name, domain), stores in uses.items()]

    def cache(self, name: str) -> CacheSpec:
        """The cache of that name."""
        return next(spec for spec in self.caches if spec.name == name)

    @property
    def takes_prefix(self) -> bool:
        """Whether some attention sees a prefix both ways."""
        return any(op.fields.get("prefix") for op in self.ops)

    @property
    def has_grids(self) -> bool:
        """Whether a run has to know where segments lie: some rows, or numbers of rows, follow from others."""
        return any(domain.parents for domain in self.domains) or any(not index.is_given for index in self.indices)

    @property
    def has_columns(self) -> bool:
        """Whether all rows are those of text: columns, and one row for each; none are numbered after others."""
        return (
            all(
                not domain.parents or (isinstance(domain, PerSegment) and not domain.rows.parents)
                for domain in self.domains
            )
            and all(index.is_given for index in self.indices)
            and not self.features
        )

    def grids(self, given: Mapping[Domain, Grids]) -> dict[Domain, Grids]:
        """The grids of all domains from those that a run gives."""
        grids: dict[Domain, Grids] = {}
        for domain in self.domains:
            grids[domain] = domain.grids(*(grids[p] for p in domain.parents)) if domain.parents else given[domain]
        return grids

    def capacities(self, rows: int, outputs: int = 1, segments: int = 1) -> list[int]:
        """Rows of every domain in a run of `rows` rows in `segments` sequences, with results asked for of `outputs`."""
        lengths = [rows // segments + (i < rows % segments) for i in range(segments)]
        grids = self.grids({ROWS: as_grids(lengths), OUTPUTS: as_grids([outputs])})
        return [int(some.prod(axis=1).sum()) for some in grids.values()]

    def has_cache(self, lifetime: str) -> bool:
        """Whether the program reads or writes a cache of this lifetime."""
        return any(cache.lifetime == lifetime for cache in self.caches)

    def layout(self, capacities: Sequence[int]) -> tuple[list[int], int]:
        """Byte offset of every buffer and the size of the arena, for so many rows of each domain at most.

        Buffers whose lifetimes overlap never share bytes; largest first, each at the lowest place that is free.
        """
        sizes = [padded(b.row_bytes * capacities[self.domains.index(b.domain)], ALIGNMENT) for b in self.buffers]
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
