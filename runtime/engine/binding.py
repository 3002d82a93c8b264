"""Recipes bound to what is in memory: those of the plan at loading, others when somebody asks for what they give."""

from __future__ import annotations

import copy
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
from .weights import WeightSource


class Binder:
    """Makes programs over the weights and caches of one model.

    Parameters
    ----------
    weights : WeightSource
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
        weights: WeightSource,
        caches: Mapping[str, core.Cache],
        memory: dict[str, int],
        max_memory: int | None,
        *,
        isa: str,
        use_numba: bool | None,
        kv_type: str,
        threads: int,
    ) -> None:
        self.weights, self._caches, self._memory, self._max_memory = weights, caches, memory, max_memory
        self._isa, self._use_numba, self._kv_type, self._threads = isa, use_numba, kv_type, threads
        self.taken = {"weights": 0, "scratch": 0}  # of `memory`, after loading

    def clear(self) -> None:
        """Forgets weights and caches; programs keep their own hold on them."""
        self.weights.clear()
        self._caches = {}

    def floats(self, name: str) -> np.ndarray:
        """A tensor that some program reads as a vector, float32, end to end."""
        return self.weights.floats(name)

    def bind(self, recipe: Recipe) -> Program:
        """The program of a recipe that the memory plan counts."""
        return Program(recipe, self.weights, self._caches, isa=self._isa, use_numba=self._use_numba)

    def bind_later(self, graph: Graph, rows: int, what: str) -> Program:
        """A program that gives all outputs of `graph`, for runs of at most `rows` rows.

        Raises
        ------
        NotEnoughMemoryError
            There is no memory for it; `what` says what was asked for.
        """
        recipe = compile_program(graph, tuple(graph.outputs), self.weights.type_of)
        program = self.bind(recipe)
        nbytes = self.room(recipe, rows)
        self.take(f"{what} needs room to work in", 0, nbytes)
        return program

    def room(self, recipe: Recipe, rows: int) -> int:
        """Bytes that a program works in, for runs of at most `rows` rows."""
        most = min(rows, rows_per_run(recipe)) if recipe.has_cache(SEQUENCE) else rows
        return run_bytes(recipe, most, 1, self._kv_type, self._threads)

    def take(self, what: str, weights: int, scratch: int) -> None:
        """Count bytes that are taken after loading.

        Raises
        ------
        NotEnoughMemoryError
            There is no memory for them; the message begins with `what`.
        """
        left = available_memory()
        if self._max_memory is not None:
            left = min(left, self._max_memory - sum(self._memory[part] for part in ("weights", "cache", "scratch")))
        if weights + scratch > max(left, 0):
            raise NotEnoughMemoryError(f"{what}: load with a larger max_memory", weights + scratch, left)
        for part, nbytes in (("weights", weights), ("scratch", scratch)):
            self._memory[part] += nbytes
            self.taken[part] += nbytes

    def give_back(self) -> None:
        """Count what was taken after loading no longer."""
        for part, nbytes in self.taken.items():
            self._memory[part] -= nbytes
        self.taken = dict.fromkeys(self.taken, 0)

    def beside(self, weights: WeightSource) -> Binder:
        """One that makes programs over these weights, and all else as here."""
        other = copy.copy(self)
        other.weights, other.taken = weights, dict.fromkeys(self.taken, 0)
        return other
