"""A compiled recipe bound to weights, caches and an arena: rows in, named results out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._kernels import core
from ..graph.recipe import DOMAINS, Op, Operand, Recipe
from ..jit import norms
from .programs import rows_per_run
from .weights import Weights

ABSENT = (-1, 0)


@dataclass
class Batch:
    """The rows of one run; segments and page tables by cache name."""

    tokens: np.ndarray  # int32 [rows]
    positions: np.ndarray  # int32 [rows]
    segments: Mapping[str, np.ndarray]  # int32 [sequences, 6], the fields of ef_segment
    page_tables: Mapping[str, np.ndarray]  # int32
    output_rows: np.ndarray  # int32 [outputs]
    token_types: np.ndarray | None = None


class Program:
    """One program of a model, able to run batches up to any size (the arena grows).

    Parameters
    ----------
    recipe : Recipe
    weights : Weights
    caches : mapping of name to core.Cache
    isa : str or None
        Instruction set of the kernels; None picks the best of this CPU.
    use_numba : bool or None
        See `norms.row_function`.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Weights,
        caches: Mapping[str, core.Cache],
        *,
        isa: str | None = None,
        use_numba: bool | None = None,
    ) -> None:
        self.recipe = recipe
        self.max_rows = rows_per_run(recipe)
        self._plan = core.Plan(isa)
        self._capacities = [0, 0, 0]
        for names in recipe.matrices:
            self._plan.add_matrix(weights.matrix(names))
        for spec in recipe.vectors:
            self._plan.add_vector(weights.vector(spec))
        for cache in recipe.caches:
            self._plan.add_cache(caches[cache.name])
        for op in recipe.ops:
            self._add(op, use_numba)

    def _add(self, op: Op, use_numba: bool | None) -> None:
        function = 0 if op.function is None else norms.row_function(op.function, use_numba)
        self._plan.add_op(
            op.kind,
            domain=DOMAINS.index(op.domain),
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

    def reserve(self, rows: int, outputs: int, segments: int) -> None:
        """Makes the arena large enough; grows in powers of two so that a few sizes serve all."""
        wanted = [rows, outputs, segments]
        if all(w <= c for w, c in zip(wanted, self._capacities, strict=True)):
            return
        capacities = [max(c, 1 << max(w - 1, 0).bit_length()) for w, c in zip(wanted, self._capacities, strict=True)]
        offsets, total = self.recipe.layout(capacities)
        buffers = self.recipe.buffers
        self._plan.set_buffers(
            np.array(offsets, np.int64),
            np.array([b.row_bytes for b in buffers], np.int64),
            np.array([DOMAINS.index(b.domain) for b in buffers], np.int32),
            total,
            tuple(capacities),
        )
        self._capacities = capacities

    def run(
        self, pool: core.Pool, batch: Batch, cancel: core.CancelFlag | None = None
    ) -> dict[str, tuple[np.ndarray, bool]]:
        """Runs the batch; returns a copy of every named result, float32 [rows of its domain, width], and whether it is
        finite.
        """
        names = [cache.name for cache in self.recipe.caches]
        segments = [batch.segments[name] for name in names or [""]]
        counts = (len(batch.tokens), len(batch.output_rows), len(segments[0]))
        self.reserve(*counts)
        self._plan.run(
            pool,
            batch.tokens,
            batch.positions,
            batch.token_types,
            batch.output_rows,
            segments,
            [batch.page_tables[name] for name in names],
            cancel,
        )
        return {
            name: self._plan.read_checked(place.buffer, place.column, width, counts[DOMAINS.index(domain)])
            for name, (place, width, domain) in self.recipe.outputs.items()
        }


def _pair(operand: Operand | None) -> tuple[int, int]:
    return ABSENT if operand is None else (operand.buffer, operand.column)
