"""A compiled recipe bound to weights, caches and an arena: rows in, named results out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import gt

import numpy as np

from .._kernels import core
from ..errors import NotEnoughMemoryError
from ..graph.domains import Domain, Grids, as_grids, starts_of
from ..graph.graph import SEQUENCE
from ..graph.recipe import Op, Operand, Recipe
from ..jit import norms
from .cache import first_pages
from .programs import rows_per_run
from .weights import WeightSource

ABSENT = (-1, 0)


@dataclass
class Batch:
    """The rows of one run; page tables by cache name, segments also by the domain that looks."""

    lengths: Mapping[Domain, Sequence[int] | Grids]  # rows of every segment, or their grids, of the domains given
    indices: Mapping[str, np.ndarray]  # int32 [rows of the domain] each
    segments: Mapping[tuple[str, Domain], np.ndarray]  # int32 [segments, 6], the fields of ef_segment
    page_tables: Mapping[str, np.ndarray]  # int32
    features: Mapping[str, np.ndarray] = field(default_factory=dict)  # float32 [rows, width]


class Program:
    """One program of a model, able to run batches up to any size (the arena grows).

    Parameters
    ----------
    recipe : Recipe
    weights : WeightSource
    caches : mapping of name to core.Cache
    isa : str or None
        Instruction set of the kernels; None picks the best of this CPU.
    use_numba : bool or None
        See `norms.row_function`.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: WeightSource,
        caches: Mapping[str, core.Cache],
        *,
        isa: str | None = None,
        use_numba: bool | None = None,
    ) -> None:
        self.recipe = recipe
        self.max_rows = rows_per_run(recipe)
        self._plan = core.Plan(isa)
        self._capacities = [0] * len(recipe.domains)
        self._caches = [caches[cache.name] for cache in recipe.caches]
        self._names = [cache.name for cache in recipe.caches]
        self._uses, self._has_grids = recipe.cache_uses, recipe.has_grids
        self._has_columns = self._has_grids and recipe.has_columns
        self.steps = recipe.has_cache(SEQUENCE)
        self._given = [index.name for index in recipe.indices]  # where none follows from the grids
        self._outputs = [
            (name, place, width, recipe.domains.index(domain))
            for name, (place, width, domain) in recipe.outputs.items()
        ]
        keys = [(use.cache, use.domain) for use in self._uses]
        self._places = {
            (self._names.index(name), recipe.domains.index(domain)): (name, domain) for name, domain in keys
        }
        for stack in recipe.matrices:
            self._plan.add_matrix(weights.matrix(stack))
        for spec in recipe.vectors:
            self._plan.add_vector(weights.vector(spec))
        for cache in self._caches:
            self._plan.add_cache(cache)
        names = {op.function for op in recipe.ops if op.function is not None}
        functions = {name: norms.row_function(name, use_numba) for name in names}
        for op in recipe.ops:
            self._add(op, 0 if op.function is None else functions[op.function])

    def _add(self, op: Op, function: int) -> None:
        self._plan.add_op(
            op.kind,
            domain=self.recipe.domains.index(op.domain),
            input=tuple(_pair(o) for o in op.inputs),
            output=_pair(op.output),
            quantized=_pair(op.quantized),
            row_scale=op.row_scale,
            weight=op.weight,
            vector=op.vectors,
            width=op.width,
            function=function,
            **op.fields,
        )

    @property
    def nbytes(self) -> int:
        """Bytes that runs so far have taken to work in."""
        return int(self._plan.nbytes)

    def reserve(self, counts: Sequence[int]) -> None:
        """Makes the arena large enough for these rows; grows in powers of two so that a few sizes serve all."""
        if not any(map(gt, counts, self._capacities)):
            return
        capacities = [max(c, 1 << max(w - 1, 0).bit_length()) for w, c in zip(counts, self._capacities, strict=True)]
        offsets, total = self.recipe.layout(capacities)
        buffers = self.recipe.buffers
        self._plan.set_buffers(
            np.array(offsets, np.int64),
            np.array([b.row_bytes for b in buffers], np.int64),
            np.array([self.recipe.domains.index(b.domain) for b in buffers], np.int32),
            total,
            tuple(capacities),
        )
        self._capacities = capacities

    def run(
        self, pool: core.Pool, batch: Batch, cancel: core.CancelFlag | None = None, out: np.ndarray | None = None
    ) -> dict[str, tuple[np.ndarray, bool]]:
        """Runs the batch; returns a copy of every named result, float32 [rows of its domain, width], and whether it is
        finite. The result of a program of one is copied into the first rows of `out`, if that has them.
        """
        recipe, segments, page_tables, grids = self.recipe, batch.segments, batch.page_tables, None
        domains: Sequence[int | tuple[np.ndarray, np.ndarray | None]]
        own = [key for key in self._places.values() if key not in segments]
        shaped = np.ndarray in map(type, batch.lengths.values())  # they may be grids
        if self._has_columns and not own and not shaped:
            domains, counts = _columns(recipe.domains, batch.lengths)
        elif own or shaped or self._has_grids:
            grids, segments, page_tables = self._grids(batch), dict(segments), dict(page_tables)
            domains, counts = _domain_rows(grids)
            for name in {name for name, _ in own}:
                self._add_own(name, grids, segments, page_tables)
        else:
            domains = counts = [sum(batch.lengths[domain]) for domain in recipe.domains]
        self.reserve(counts)
        self._plan.run(
            pool,
            domains,
            [batch.indices.get(name) for name in self._given] if grids is None else self._numbers(batch, grids),
            [batch.features[source.name] for source in recipe.features],
            {place: segments[key] for place, key in self._places.items()},
            [page_tables[name] for name in self._names],
            cancel,
        )
        return {
            name: self._plan.read_checked(
                place.buffer, place.column, width, counts[domain], self._place_for(out, counts[domain], width)
            )
            for name, place, width, domain in self._outputs
        }

    def _place_for(self, out: np.ndarray | None, rows: int, width: int) -> np.ndarray | None:
        """The beginning of `out` for a result of this shape; None where it has no room or there are several results."""
        if out is None or len(self._outputs) > 1 or len(out) < rows or out.shape[1] != width:
            return None
        return out[:rows]

    def rows_of(self, domain: Domain, lengths: Mapping[Domain, Sequence[int] | Grids]) -> list[int]:
        """Rows of each segment of a domain in a run over these lengths."""
        grids = self.recipe.grids({given: as_grids(some) for given, some in lengths.items()})
        rows: list[int] = grids[domain].prod(axis=1).tolist()
        return rows

    def _numbers(self, batch: Batch, grids: Mapping[Domain, Grids]) -> list[np.ndarray | None]:
        """The index inputs; None, which is all 0, for one that a run gives and was not given."""
        return [
            batch.indices.get(index.name) if index.is_given else index.rows(grids.__getitem__)
            for index in self.recipe.indices
        ]

    def _grids(self, batch: Batch) -> dict[Domain, Grids]:
        return self.recipe.grids({domain: as_grids(lengths) for domain, lengths in batch.lengths.items()})

    def _add_own(
        self,
        name: str,
        grids: Mapping[Domain, Grids],
        segments: dict[tuple[str, Domain], np.ndarray],
        page_tables: dict[str, np.ndarray],
    ) -> None:
        """Segments of a cache that this run writes and forgets: the pages from the first on."""
        uses = [use for use in self._uses if use.cache == name]
        kept = next(grids[use.domain].prod(axis=1).tolist() for use in uses if use.stores)
        pages, cache = first_pages(kept), self._caches[self._names.index(name)]
        needed = sum(map(len, pages))
        if needed > cache.num_pages:
            raise NotEnoughMemoryError(f"the pages of {sum(kept)} rows at once", needed * cache.page_bytes)
        for use in uses:
            rows = grids[use.domain].prod(axis=1).tolist()
            segments[name, use.domain], page_tables[name] = core.segment_rows(pages, rows, [0] * len(rows), kept)


def _columns(
    domains: Sequence[Domain], lengths: Mapping[Domain, Sequence[int] | Grids]
) -> tuple[list[tuple[np.ndarray, None]], list[int]]:
    """`_domain_rows` where `Recipe.has_columns`: as quick as a short text wants it."""
    starts: dict[Domain, np.ndarray] = {}
    for domain in domains:
        if domain.parents:
            starts[domain] = np.arange(len(starts[domain.parents[0]]), dtype=np.int32)
        else:
            starts[domain] = np.array([0, *accumulate(lengths[domain])], np.int32)
    return [(some, None) for some in starts.values()], [int(some[-1]) for some in starts.values()]


def _domain_rows(grids: Mapping[Domain, Grids]) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[int]]:
    """Where the segments of every domain start and how wide their grids are, and the rows of every domain."""
    domains = [(starts_of(some), np.maximum(some[:, 1], 1)) for some in grids.values()]
    return domains, [int(starts[-1]) for starts, _ in domains]


def _pair(operand: Operand | None) -> tuple[int, int]:
    return ABSENT if operand is None else (operand.buffer, operand.column)
