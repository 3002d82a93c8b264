"""Recipes bound to what is in memory: those of the plan at loading, others when somebody asks for what they give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .._kernels import core
from ..errors import NotEnoughMemoryError
from ..graph.graph import SEQUENCE, Graph
from ..graph.recipe import Recipe
from ..host.limits import available_memory
from .memory_plan import run_bytes
from .program import Program
from .programs import compile_program, rows_per_run
from .weights import Weights


class Binder:
    """Makes programs over the weights and caches of one model.

    Parameters
    ----------
    weights : Weights
    caches : mapping of str to core.Cache
    memory : dict of str to int
        Bytes by purpose. What programs work in that are made after loading is added to "scratch".
    max_memory : int or None
        The most that weights, cache and scratch of `memory` may be together.
    isa, use_numba, kv_type, threads
        As for `Session.open`.
    """

    def __init__(
        self,
        weights: Weights,
        caches: Mapping[str, core.Cache],
        memory: dict[str, int],
        max_memory: int | None,
        *,
        isa: str,
        use_numba: bool | None,
        kv_type: str,
        threads: int,
    ) -> None:
        self._weights, self._caches, self._memory, self._max_memory = weights, caches, memory, max_memory
        self._isa, self._use_numba, self._kv_type, self._threads = isa, use_numba, kv_type, threads

    def clear(self) -> None:
        """Forgets weights and caches; programs keep their own hold on them."""
        self._weights.clear()
        self._caches = {}

    def floats(self, name: str) -> np.ndarray:
        """A tensor that some program reads as a vector, float32, end to end."""
        return self._weights.floats(name)

    def bind(self, recipe: Recipe) -> Program:
        """The program of a recipe that the memory plan counts."""
        return Program(recipe, self._weights, self._caches, isa=self._isa, use_numba=self._use_numba)

    def bind_later(self, graph: Graph, rows: int, what: str) -> Program:
        """A program that gives all outputs of `graph`, for runs of at most `rows` rows.

        Raises
        ------
        NotEnoughMemoryError
            There is no memory for it; `what` says what was asked for.
        """
        recipe = compile_program(graph, tuple(graph.outputs), self._weights.type_of)
        program = self.bind(recipe)
        most = min(rows, rows_per_run(recipe)) if graph.has_cache(SEQUENCE) else rows
        nbytes = run_bytes(recipe, most, 1, self._kv_type, self._threads)
        left = available_memory()
        if self._max_memory is not None:
            left = min(left, self._max_memory - sum(self._memory[part] for part in ("weights", "cache", "scratch")))
        if nbytes > left:
            raise NotEnoughMemoryError(f"{what} needs room to work in: load with a larger max_memory", nbytes, left)
        self._memory["scratch"] += nbytes
        return program
