"""`pack`: a model file again, with its matrices in the tiles that the kernels read, to be mapped instead of copied.

The tiles are the same on every CPU. Tensors that the compiler stacks into one matrix (query, key and value; gate and
up) are written end to end, each from a whole tile on, which is what the stack would be in memory. Their order is that
in which the compiled programs ask for them, so it needs to know of no architecture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .._kernels import core
from ..errors import PathLike, UnsupportedModelError
from ..files.gguf.layout import ALIGNMENT_KEY, PACKED_ALIGNMENT, PACKED_LAYOUT, PACKED_LAYOUT_KEY
from ..files.gguf.reader import GGUFFile, GGUFWriter, TensorInfo
from ..graph.recipe import Recipe, Stack, padded
from ..host.limits import default_threads
from ..models.registry import build_architecture
from ..quants import TYPES
from .programs import compile_programs
from .weights import STEP_BYTES, lies_stacked

__all__ = ["PackResult", "pack"]


@dataclass(frozen=True)
class PackResult:
    """What `pack` wrote.

    Attributes
    ----------
    path : str
    nbytes : int
        Of the whole file.
    num_packed : int
        Tensors that were packed; the others are as they were.
    num_tensors : int
    copied : list of tuple of str
        Tensors that a loaded model will still have copies of, stack by stack: they could not be laid end to end, or
        rows of them that are read apart do not begin with a tile.
    """

    path: str
    nbytes: int
    num_packed: int
    num_tensors: int
    copied: list[tuple[str, ...]]


def pack(
    model: PathLike, out: PathLike, *, threads: int | None = None, progress: Callable[[int, int], None] | None = None
) -> PackResult:
    """Write a model file in the form that loads without a copy, shared by all processes that load it.

    Parameters
    ----------
    model : path-like
        A GGUF file that edgeformer runs.
    out : path-like
        The file to write; it appears only when it is whole. Other readers of GGUF refuse its tensors.
    threads : int, optional
        Default: as many as the process may use.
    progress : callable, optional
        Called with (bytes packed, bytes in all).

    Raises
    ------
    ModelNotFoundError, ModelFormatError, ModelFileChangedError, UnsupportedModelError
        As for `load`; also for a file that is packed already.
    OutputError
        The file cannot be written.
    """
    with GGUFFile(model) as file:
        if file.is_packed:
            raise UnsupportedModelError(f"{file.path}: is packed already")
        recipes = list(compile_programs(build_architecture(file), file).values())
        stacks = _stacks(recipes)
        # A matrix of one row may be a vector in the file, and stays one.
        packed = [name for name in _packable(recipes, stacks) if len(file.tensors[name].shape) > 1]
        pool = core.Pool(threads or default_threads())
        try:
            _write(file, out, packed, pool, progress)
        finally:
            pool.close()
        return _result(out, stacks)


def _stacks(recipes: Sequence[Recipe]) -> list[Stack]:
    """Every stack of tensors that a program reads as one matrix, in the order in which they are asked for."""
    return list(dict.fromkeys(stack for recipe in recipes for stack in recipe.matrices))


def _packable(recipes: Sequence[Recipe], stacks: Sequence[Stack]) -> list[str]:
    """Tensors to pack, in the order of the file.

    What is also read as a vector of floats stays as it is, and what is read in parts that do not begin with a tile.
    """
    specs = [spec for recipe in recipes for spec in recipe.vectors]
    kept = {part.name for spec in specs for part in spec.parts} | {spec.divisor for spec in specs}
    kept |= {part.name for stack in stacks for part in stack if part.first % core.TILE}
    return [name for name in dict.fromkeys(part.name for stack in stacks for part in stack) if name not in kept]


def _write(
    file: GGUFFile,
    out: PathLike,
    packed: Sequence[str],
    pool: core.Pool,
    progress: Callable[[int, int], None] | None,
) -> None:
    among_packed = frozenset(packed)
    kept = [info for name, info in file.tensors.items() if name not in among_packed]
    total, done = sum(info.nbytes for info in file.tensors.values()), 0
    architecture = file.get("general.architecture", str)
    with GGUFWriter(out, architecture, alignment=PACKED_ALIGNMENT, sources=[file.path]) as writer:
        for key in file.metadata:
            if key not in ("general.architecture", ALIGNMENT_KEY, PACKED_LAYOUT_KEY):
                writer.add_encoded(key, file.encoded(key))
        writer.add(PACKED_LAYOUT_KEY, PACKED_LAYOUT, "uint32")
        for name in packed:
            writer.declare(name, file.tensors[name].shape, file.tensors[name].type, packed=True)
        for info in kept:
            writer.declare(info.name, info.shape, info.type)
        for info in [*(file.tensors[name] for name in packed), *kept]:
            for part in _stored(file, info) if info.name not in among_packed else _panels(file, info, pool):
                writer.write(info.name, part)
            done += info.nbytes
            if progress is not None:
                progress(done, total)


def _panels(file: GGUFFile, info: TensorInfo, pool: core.Pool) -> Iterator[np.ndarray]:
    """A tensor's panels, some megabytes at a time."""
    rows, columns = info.num_rows, info.shape[-1]
    row_bytes = TYPES[info.type].row_bytes(columns)
    step = min(padded(max(STEP_BYTES // row_bytes, 1)), rows)
    matrix = core.Matrix(info.type, step, columns)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        file.pack_rows(info.name, first, count, matrix, 0, pool)
        yield matrix.panels()[: padded(count) * row_bytes]


def _stored(file: GGUFFile, info: TensorInfo) -> Iterator[np.ndarray]:
    for first in range(0, info.nbytes, STEP_BYTES):
        yield file.stored_bytes(info.name, first, min(STEP_BYTES, info.nbytes - first))


def _result(path: PathLike, stacks: Sequence[Stack]) -> PackResult:
    """Looks at the file that was written, as loading will."""
    with GGUFFile(path) as file:
        apart = [stack for stack in stacks if not lies_stacked(file, stack)]
        copied = [tuple(dict.fromkeys(part.name for part in stack)) for stack in apart]
        num_packed = sum(info.packed for info in file.tensors.values())
        return PackResult(file.path, os.stat(file.path).st_size, num_packed, len(file.tensors), copied)
