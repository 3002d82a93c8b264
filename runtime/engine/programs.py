"""Which programs a model is compiled to, and how many rows one run of them takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from .._kernels import core
from ..errors import UnsupportedModelError
from ..files.gguf.reader import GGUFFile
from ..graph.architecture import Architecture
from ..graph.compiler import compile_graph
from ..graph.graph import SEQUENCE, CacheSpec, Graph
from ..graph.recipe import Recipe, Stack
from ..quants import TYPES
from .weights import supported_type

MIN_ROWS, MAX_ROWS = 64, 512  # rows of one run that steps: enough for the kernels' tiles, and to read weights seldom
MAX_SCRATCH_BYTES = 12 << 20  # what a run should keep to, for small devices' sake, if that leaves it MIN_ROWS
MAX_WHOLE_ROWS = 512  # rows of one run over whole sequences, which cannot be cut; they fit in the caches

ProgramKey = tuple[str, tuple[str, ...]]  # a program and the outputs that are computed


def program_keys(architecture: Architecture) -> list[ProgramKey]:
    """Every program with each output that it declares; one that reads sources also for what it leaves in the caches."""
    stepper = architecture.stepper
    keys: list[ProgramKey] = []
    for name in [*([stepper] if stepper else []), *architecture.whole]:
        if name == architecture.reader:
            keys.append((name, ()))
        keys += [(name, (output,)) for output in architecture.programs[name].outputs]
    return keys


def compile_programs(architecture: Architecture, file: GGUFFile) -> dict[ProgramKey, Recipe]:
    """The recipe of every key.

    Raises
    ------
    UnsupportedModelError
        A tensor has a type that no kernel runs, or a program has more caches than the kernels take.
    """
    for name, graph in architecture.programs.items():
        if len(graph.caches) > core.EF_MAX_CACHES:
            raise UnsupportedModelError(
                f"{file.path}: the program {name} has {len(graph.caches)} caches; at most {core.EF_MAX_CACHES} are "
                "supported: layers of equal heads and widths can share one"
            )
    type_of = partial(supported_type, file)
    return {key: compile_program(architecture.programs[key[0]], key[1], type_of) for key in program_keys(architecture)}


def compile_program(graph: Graph, outputs: tuple[str, ...], type_of: Callable[[str], int]) -> Recipe:
    """The recipe of one program for some of its outputs, for the types that its weights have."""
    return compile_graph(graph, outputs, lambda name: TYPES[type_of(name)].block_size > 1, type_of)


def cache_specs(recipes: Mapping[ProgramKey, Recipe]) -> dict[str, CacheSpec]:
    """The caches of all programs by name."""
    return {spec.name: spec for recipe in recipes.values() for spec in recipe.caches}


def cache_windows(recipes: Mapping[ProgramKey, Recipe]) -> dict[str, int]:
    """The caches of sequences that all attention sees a window of, and the widest: what is older need not be kept."""
    seen: dict[str, set[int]] = {}
    for recipe in recipes.values():
        for op in recipe.ops:
            if op.kind == "attention":
                spec, fields = recipe.caches[int(op.fields["cache"])], op.fields
                bounded = spec.lifetime == SEQUENCE and fields["causal"] and not fields.get("bias_rows")
                seen.setdefault(spec.name, set()).add(int(fields["window"]) if bounded else 0)
    return {name: max(windows) for name, windows in seen.items() if 0 not in windows}


def weight_stacks(recipes: Mapping[ProgramKey, Recipe]) -> set[Stack]:
    """The tensors of all programs, stack by stack."""
    return {stack for recipe in recipes.values() for stack in recipe.matrices}


def rows_per_run(recipe: Recipe) -> int:
    """Rows that one run of a program that steps takes at most: long prompts are cut into runs of so many."""
    rows = MAX_ROWS
    while rows > MIN_ROWS and recipe.layout(recipe.capacities(rows))[1] > MAX_SCRATCH_BYTES:
        rows //= 2
    return rows


def largest_run(architecture: Architecture, recipes: Mapping[ProgramKey, Recipe], n_ctx: int) -> int:
    """Rows of the largest run unless told: part of a long prompt, or as many whole sequences as are read at once."""
    if architecture.whole:
        return max(MAX_WHOLE_ROWS, n_ctx)
    return min(max(rows_per_run(recipe) for recipe in recipes.values()), n_ctx)
