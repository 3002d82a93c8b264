"""From a file to everything a session holds: architecture, packed weights, caches, programs and threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._kernels import core
from ..errors import InvalidOptionError, NotEnoughMemoryError
from ..files.gguf.reader import GGUFFile
from ..graph.architecture import Architecture
from ..graph.recipe import Recipe
from ..host.limits import available_memory, default_threads
from .binding import Binder
from .caches import Caches
from .memory_plan import (
    MemoryPlan,
    cache_element,
    check_context,
    check_kv_type,
    check_positive,
    most_contexts,
    pages_for,
    plan_recipes,
)
from .program import Program
from .programs import ProgramKey, cache_specs, cache_windows, compile_programs, largest_run, weight_stacks
from .threads import Threads, threads_for
from .weights import Weights

logger = logging.getLogger("edgeformer")


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model; the fields are the arguments of `Session.open`.

    Raises
    ------
    InvalidOptionError
        For a value that makes no sense.
    """

    threads: int | None = None
    n_ctx: int | None = None
    max_memory: int | None = None
    isa: str | None = None
    kv_type: str = "f16"
    use_numba: bool | None = None
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        check_kv_type(self.kv_type)
        check_positive(threads=self.threads, n_ctx=self.n_ctx, max_memory=self.max_memory)
        if not (self.progress is None or callable(self.progress)):
            raise InvalidOptionError(f"progress must be a function of two numbers, not {self.progress!r}")

    @property
    def num_threads(self) -> int:
        """Threads that compute."""
        return self.threads or default_threads()


@dataclass(frozen=True)
class LoadedModel:
    """What is in memory after loading. The file is closed by then; a packed one stays mapped."""

    architecture: Architecture
    metadata: Mapping[str, Any]
    threads: Threads
    programs: Mapping[ProgramKey, Program]
    binder: Binder
    caches: Caches
    weights: Weights
    n_ctx: int
    max_rows: int  # of a run
    isa: str
    memory: Mapping[str, int]  # bytes by purpose; "mapped" says how many of "weights" are in the file


def load_model(file: GGUFFile, architecture: Architecture, options: LoadOptions) -> LoadedModel:
    """Reads, packs and compiles what `build_architecture` found in the file; see `Session.open` for what it raises."""
    isa = options.isa or core.best_isa()
    recipes = compile_programs(architecture, file)
    n_ctx, plan, budget = fit_context(file, architecture, recipes, options)
    threads = threads_for(options.threads)
    weights = Weights(file, threads.pool, weight_stacks(recipes), options.progress)
    caches = _caches(recipes, n_ctx, plan.batch, options.kv_type, budget)
    memory = {"weights": plan.weights, "cache": plan.cache, "scratch": plan.scratch, "mapped": 0}
    binder = Binder(
        weights,
        caches.memories,
        memory,
        options.max_memory,
        isa=isa,
        use_numba=options.use_numba,
        kv_type=options.kv_type,
        threads=options.num_threads,
    )
    programs = {key: binder.bind(recipe) for key, recipe in recipes.items()}
    memory |= {"weights": weights.nbytes, "mapped": weights.mapped_bytes}
    return LoadedModel(
        architecture, dict(file.metadata), threads, programs, binder, caches, weights, n_ctx, plan.batch, isa, memory
    )


def _caches(recipes: Mapping[ProgramKey, Recipe], n_ctx: int, rows: int, kv_type: str, budget: int) -> Caches:
    contexts = most_contexts(recipes, n_ctx, rows, kv_type, budget)
    pages = pages_for(recipes, n_ctx, rows, contexts)
    specs = cache_specs(recipes)
    memories = {
        name: core.Cache(pages[name], s.num_layers, s.num_heads, s.key_dim, s.value_dim, cache_element(s, kv_type))
        for name, s in specs.items()
    }
    return Caches(specs, memories, contexts, cache_windows(recipes))


def _plan_within(
    file: GGUFFile,
    architecture: Architecture,
    recipes: Mapping[ProgramKey, Recipe],
    n_ctx: int,
    limit: int,
    options: LoadOptions,
) -> MemoryPlan:
    """The plan of one context; of sequences read whole fewer run at a time, down to one, where memory is short."""

    def planned(rows: int) -> MemoryPlan:
        return plan_recipes(file, architecture, recipes, n_ctx, rows, 1, options.kv_type, options.num_threads)

    rows = largest_run(architecture, recipes, n_ctx)
    plan = planned(rows)
    while plan.total > limit and architecture.whole and rows > n_ctx:
        rows = max(rows // 2, n_ctx)
        plan = planned(rows)
    return plan


def fit_context(
    file: GGUFFile, architecture: Architecture, recipes: Mapping[ProgramKey, Recipe], options: LoadOptions
) -> tuple[int, MemoryPlan, int]:
    """The context to run with, its memory plan, and the bytes left for caches. A context asked for is never cut."""
    n_ctx, max_memory = options.n_ctx, options.max_memory
    check_context(n_ctx, architecture)
    wanted = n_ctx or architecture.context_length
    limit = min(available_memory(), max_memory) if max_memory else available_memory()
    while True:
        plan = _plan_within(file, architecture, recipes, wanted, limit, options)
        if plan.total <= limit:
            break
        if n_ctx is not None or wanted <= 256 or plan.total - plan.cache > limit:
            raise NotEnoughMemoryError(
                f"{file.path} does not fit (weights {plan.weights}, cache of {wanted} positions {plan.cache}, scratch "
                f"{plan.scratch}): use a smaller n_ctx, a smaller type (convert --type q4_0) or a larger max_memory",
                plan.total,
                limit,
            )
        wanted = max(wanted // 2, 256)
    if wanted < architecture.context_length and n_ctx is None:
        logger.warning(
            "context cut from %d to %d positions to fit %d bytes of memory", architecture.context_length, wanted, limit
        )
    spare = limit - plan.weights - plan.scratch
    return wanted, plan, spare if max_memory else spare // 2  # what was not granted by name is left to others, too
