"""The memory plan: bytes for weights, caches and scratch before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .._kernels import core
from ..errors import InvalidOptionError
from ..files.gguf.reader import GGUFFile
from ..graph.architecture import Architecture
from ..graph.graph import PASS, CacheSpec
from ..graph.recipe import ALIGNMENT, Recipe
from ..host.limits import default_threads
from ..models.registry import build_architecture
from .cache import KV_TYPES, pages_of, windowed_pages
from .programs import ProgramKey, cache_specs, cache_windows, compile_programs, largest_run, rows_per_run, weight_stacks
from .weights import stack_bytes

MAX_SEQUENCES = 64  # contexts that the page pools may hold where memory allows
MAX_OUTPUT_BYTES = 64 << 20  # of logits in one run


def cache_page_bytes(spec: CacheSpec, kv_type: str) -> int:
    """Bytes of one page of sixteen positions over all layers."""
    return core.cache_page_bytes(
        spec.num_layers, spec.num_heads, spec.key_dim, spec.value_dim, cache_element(spec, kv_type)
    )


def cache_element(spec: CacheSpec, kv_type: str) -> int:
    """The type (EF_F32 and so on) of a cache; what lives for one run alone is not worth rounding."""
    return KV_TYPES["f32" if spec.lifetime == PASS else kv_type]


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a model will take, as `edgeformer plan` prints them.

    `cache` is what `sequences` contexts of `n_ctx` positions fill; `scratch` is what runs of `batch` rows work in, with
    their results. Python, its libraries and the tokenizer come on top.
    """

    weights: int
    cache: int
    scratch: int
    n_ctx: int
    batch: int
    sequences: int

    @property
    def total(self) -> int:
        """Weights, cache and scratch."""
        return self.weights + self.cache + self.scratch


def plan_memory(
    path: str | os.PathLike[str],
    n_ctx: int | None = None,
    batch: int | None = None,
    sequences: int = 1,
    kv_type: str = "f16",
    threads: int | None = None,
) -> MemoryPlan:
    """The most that loading and running the model at `path` takes, from its header alone.

    Raises
    ------
    ModelNotFoundError, ModelFormatError, UnsupportedModelError, InvalidOptionError
        As for loading.
    """
    check_kv_type(kv_type)
    check_positive(n_ctx=n_ctx, batch=batch, sequences=sequences, threads=threads)
    with GGUFFile(path) as file:
        architecture = build_architecture(file)
        check_context(n_ctx, architecture)
        recipes = compile_programs(architecture, file)
        return plan_recipes(
            file,
            architecture,
            recipes,
            n_ctx or architecture.context_length,
            batch,
            sequences,
            kv_type,
            threads or default_threads(),
        )


def check_kv_type(kv_type: str) -> None:
    """Raises `InvalidOptionError` for a type that keys and values cannot have."""
    if kv_type not in KV_TYPES:
        raise InvalidOptionError(f"kv_type {kv_type!r} is not known; choose one of {', '.join(KV_TYPES)}")


def check_positive(**values: int | None) -> None:
    """Raises `InvalidOptionError` for a named value that is not a positive integer; None is left to others."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidOptionError(f"{name} must be a positive integer, not {value!r}")


def check_context(n_ctx: int | None, architecture: Architecture) -> None:
    """Raises `InvalidOptionError` for a context that the model was not made for."""
    if n_ctx is not None and n_ctx > architecture.context_length:
        raise InvalidOptionError(
            f"n_ctx {n_ctx} is more than the {architecture.context_length} positions that the model was made for"
        )


def run_bytes(recipe: Recipe, rows: int, sequences: int, kv_type: str, threads: int) -> int:
    """The most that runs of `rows` rows of so many sequences take: the arena, which has room for powers of two, what
    threads work in and leave for one another, and the results.
    """
    rows = 1 << (rows - 1).bit_length()
    capacities = recipe.capacities(rows, min(sequences, rows), sequences)
    arena = recipe.layout(capacities)[1]
    causal = any(op.kind == "attention" and op.fields["causal"] for op in recipe.ops)
    shapes = [(s.num_heads, s.key_dim, s.value_dim, cache_element(s, kv_type)) for s in recipe.caches]
    scratch = max(core.run_scratch_bytes(threads, *shape, causal) for shape in shapes or [(1, 1, 1, core.EF_F32)])
    results = sum(4 * width * capacities[recipe.domains.index(domain)] for _, width, domain in recipe.outputs.values())
    return arena + ALIGNMENT + scratch + results


def plan_recipes(
    file: GGUFFile,
    architecture: Architecture,
    recipes: Mapping[ProgramKey, Recipe],
    n_ctx: int,
    batch: int | None,
    sequences: int,
    kv_type: str,
    threads: int,
) -> MemoryPlan:
    """`plan_memory` of an architecture that is compiled already."""
    weights = sum(stack_bytes(file, names) for names in weight_stacks(recipes))
    rows = batch or largest_run(architecture, recipes, n_ctx)
    scratch = 0
    for (program, _), recipe in recipes.items():  # each keeps an arena of its own
        most = min(rows, rows_per_run(recipe)) if program == architecture.stepper else rows
        scratch += run_bytes(recipe, most, sequences, kv_type, threads)
    pages = pages_for(recipes, n_ctx, rows, sequences)
    cache = sum(pages[name] * cache_page_bytes(spec, kv_type) for name, spec in cache_specs(recipes).items())
    return MemoryPlan(weights, cache, scratch, n_ctx, rows, sequences)


def pages_for(recipes: Mapping[ProgramKey, Recipe], n_ctx: int, rows: int, contexts: int) -> dict[str, int]:
    """Pages of every cache: what `contexts` whole contexts keep, or the rows of one run where they are forgotten after
    it.
    """
    pages = dict.fromkeys(cache_specs(recipes), pages_of(n_ctx) * contexts)
    for name, window in cache_windows(recipes).items():
        pages[name] = windowed_pages(n_ctx, window, rows) * contexts
    for recipe in recipes.values():
        capacities = recipe.capacities(rows, segments=max(1, rows // 8))
        for use in recipe.cache_uses:
            if use.stores and recipe.cache(use.cache).lifetime == PASS:
                stored = capacities[recipe.domains.index(use.domain)]
                pages[use.cache] = pages_of(stored) + rows // 8  # the last page of every sequence is part empty
    return pages


def most_contexts(recipes: Mapping[ProgramKey, Recipe], n_ctx: int, rows: int, kv_type: str, budget: int) -> int:
    """Whole contexts that caches within `budget` bytes hold, at least one; none where nothing is kept after a run.

    Memory is taken when pages are first written.
    """
    page_bytes = {name: cache_page_bytes(spec, kv_type) for name, spec in cache_specs(recipes).items()}

    def nbytes(contexts: int) -> int:
        pages = pages_for(recipes, n_ctx, rows, contexts)
        return sum(pages[name] * page_bytes[name] for name in pages)

    of_one = nbytes(1) - nbytes(0)
    return min(MAX_SEQUENCES, max((budget - nbytes(0)) // of_one, 1)) if of_one else 0
