"""The memory plan: bytes for weights, caches and scratch before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._kernels import core
from ..errors import InvalidOptionError
from ..files.gguf.reader import GGUFFile
from ..graph.compiler import compile_graph
from ..graph.graph import Architecture, CacheSpec
from ..graph.recipe import ALIGNMENT, DOMAINS, Recipe
from ..host.limits import default_threads
from ..models.registry import build_architecture
from ..quants import TYPES
from .cache import KV_TYPES, PAGE
from .weights import stack_bytes, supported_type

MIN_ROWS, MAX_ROWS = 64, 512  # rows of one run of a decoder: enough for the kernels' tiles, and to read weights seldom
MAX_SCRATCH_BYTES = 12 << 20  # what a run should keep to, for small devices' sake, if that leaves it MIN_ROWS
MAX_PASS_ROWS = 512  # rows of one run of an encoder, whose sequences cannot be cut; they fit in the caches
MAX_SEQUENCES = 64  # contexts that the page pools may hold where memory allows
MAX_OUTPUT_BYTES = 64 << 20  # of logits in one run

ProgramKey = tuple[str, tuple[str, ...]]  # a program and the outputs that are computed

# What is compiled for each family: (program, outputs). The first line is what the memory plan counts.
PROGRAMS: Mapping[str, Sequence[ProgramKey]] = {
    "decoder": [("decode", ("logits",)), ("decode", ("hidden",))],
    "encoder": [("encode", ("hidden",)), ("encode", ("pooled",)), ("encode", ("normalized",))],
    "encoder-decoder": [("decode", ("logits",)), ("encode", ()), ("encode", ("hidden",))],
}


def compile_programs(architecture: Architecture, file: GGUFFile) -> dict[ProgramKey, Recipe]:
    """Every recipe of the family that the model's graphs can give."""
    recipes = {}
    for program, outputs in PROGRAMS[architecture.family]:
        graph = architecture.programs[program]
        if all(name in graph.outputs for name in outputs):
            recipes[program, outputs] = compile_graph(
                graph,
                outputs,
                lambda name: TYPES[supported_type(file, name)].block_size > 1,
                lambda name: supported_type(file, name),
            )
    return recipes


def cache_page_bytes(spec: CacheSpec, kv_type: str) -> int:
    """Bytes of one page of sixteen positions over all layers."""
    return core.cache_page_bytes(
        spec.num_layers, spec.num_heads, spec.key_dim, spec.value_dim, cache_element(spec, kv_type)
    )


def cache_element(spec: CacheSpec, kv_type: str) -> int:
    """The type (EF_F32 and so on) of a cache; what lives for one run alone is not worth rounding."""
    return KV_TYPES["f32" if spec.lifetime == "pass" else kv_type]


def cache_specs(recipes: Mapping[ProgramKey, Recipe]) -> dict[str, CacheSpec]:
    """The caches of all programs by name."""
    return {spec.name: spec for recipe in recipes.values() for spec in recipe.caches}


def weight_stacks(recipes: Mapping[ProgramKey, Recipe]) -> set[tuple[str, ...]]:
    """The tensors of all programs, stack by stack."""
    return {names for recipe in recipes.values() for names in recipe.matrices}


def rows_per_run(recipe: Recipe) -> int:
    """Rows that one run of a decoder takes at most: long prompts are cut into runs of so many."""
    rows = MAX_ROWS
    while rows > MIN_ROWS and recipe.layout([rows, 1, 1])[1] > MAX_SCRATCH_BYTES:
        rows //= 2
    return rows


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


def default_batch(architecture: Architecture, recipes: Mapping[ProgramKey, Recipe], n_ctx: int) -> int:
    """Rows that the largest run has unless told: part of a long prompt, or as many whole sequences for an encoder."""
    if architecture.family == "decoder":
        return min(rows_per_run(recipes["decode", ("logits",)]), n_ctx)
    return max(MAX_PASS_ROWS, n_ctx)


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


def run_bytes(recipe: Recipe, counts: Mapping[str, int], kv_type: str, threads: int) -> int:
    """The most that runs of so many rows, outputs and segments take: the arena, what threads work in and leave for one
    another, and the results.
    """
    arena = recipe.layout([counts[domain] for domain in DOMAINS])[1]
    causal = any(op.kind == "attention" and op.fields["causal"] for op in recipe.ops)
    scratch = max(
        core.run_scratch_bytes(
            threads, spec.num_heads, spec.key_dim, spec.value_dim, cache_element(spec, kv_type), causal
        )
        for spec in recipe.caches
    )
    results = sum(4 * width * counts[domain] for _, width, domain in recipe.outputs.values())
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
    main = [key for key in recipes if key[1] in ((), ("logits",))] or list(recipes)[:1]
    rows = batch or default_batch(architecture, recipes, n_ctx)
    scratch = 0
    for key in main:
        capacity = 1 << (min(rows, rows_per_run(recipes[key])) - 1 if key[0] == "decode" else rows - 1).bit_length()
        counts = {"rows": capacity, "outputs": min(sequences, capacity), "segments": sequences}
        scratch += run_bytes(recipes[key], counts, kv_type, threads)
    cache = 0
    for spec in cache_specs(recipes).values():
        pages = -(-rows // PAGE) if spec.lifetime == "pass" else -(-n_ctx // PAGE) * sequences
        cache += pages * cache_page_bytes(spec, kv_type)
    return MemoryPlan(weights, cache, scratch, n_ctx, rows, sequences)


def cache_pages(
    recipes: Mapping[ProgramKey, Recipe], n_ctx: int, batch: int, kv_type: str, budget: int
) -> dict[str, int]:
    """Pages to reserve for every cache: whole contexts of as many sequences as `budget` bytes allow, at least one.

    An encoder's own cache holds the rows of one run. Memory is taken when pages are first written.
    """
    specs = cache_specs(recipes)
    one = -(-n_ctx // PAGE)
    growing = [spec for spec in specs.values() if spec.lifetime != "pass"]
    context_bytes = sum(one * cache_page_bytes(spec, kv_type) for spec in growing)
    contexts = min(MAX_SEQUENCES, max(budget // context_bytes, 1)) if growing else 0
    return {
        name: one * contexts if spec.lifetime != "pass" else -(-batch // PAGE) + batch // 8  # last pages are part empty
        for name, spec in specs.items()
    }
