"""Weights of the file as packed matrices and float vectors, each once, whoever shares them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from .._kernels import core
from ..errors import NumericError, UnsupportedModelError
from ..files.gguf.reader import GGUFFile, not_finite
from ..graph.recipe import MatrixPart, Stack, VectorSpec, padded
from ..quants import TYPES

STEP_BYTES = 16 << 20  # read between two looks at signals and reports of progress; cut among the threads

logger = logging.getLogger("edgeformer")


class WeightSource(Protocol):
    """What programs are made over."""

    def type_of(self, name: str) -> int: ...

    def matrix(self, stack: Stack) -> core.Matrix: ...

    def vector(self, spec: VectorSpec) -> np.ndarray: ...

    def floats(self, name: str) -> np.ndarray: ...

    def clear(self) -> None: ...


class Weights:
    """Packed matrices of one file, keyed by the parts of tensors stacked in them.

    What the file holds unpacked is copied out of it while it is open: a file that is truncated, replaced or deleted
    later changes nothing. It all lies in one stretch of memory, so that small matrices share large pages, too, and only
    the last page is not full. Matrices that `edgeformer.pack` wrote stay in the file, which is mapped.

    Parameters
    ----------
    file : GGUFFile
        Open for as long as weights are asked for.
    pool : core.Pool
        Threads that read and pack.
    stacks : iterable of Stack
        All that will be asked of `matrix`.
    progress : callable, optional
        Called with the bytes read so far and the bytes in all.
    """

    def __init__(
        self,
        file: GGUFFile,
        pool: core.Pool,
        stacks: Iterable[Stack],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._file, self._progress = file, progress
        self._pool: core.Pool | None = pool
        self._matrices: dict[Stack, core.Matrix] = {}
        self._total = sum(tensor.nbytes for tensor in file.tensors.values())
        self._read = 0
        self._memory: core.WeightMemory | None = None
        self._used = 0  # bytes of that memory
        self._vectors: dict[str, np.ndarray] = {}
        self._map = _mapped(file) if file.is_packed else None
        self._to_copy = sum(self._room(stack) for stack in set(stacks) if not self._in_file(stack))
        self.mapped_bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all packed matrices, `mapped_bytes` of them in the file."""
        return sum(matrix.nbytes for matrix in self._matrices.values())

    @property
    def to_copy(self) -> int:
        """Bytes that those take which are not mapped."""
        return self._to_copy

    def type_of(self, name: str) -> int:
        """Type id of a tensor; `UnsupportedModelError` for one that no kernel runs."""
        return supported_type(self._file, name)

    def matrix(self, stack: Stack) -> core.Matrix:
        """The parts of tensors stacked, each from a whole tile on."""
        if stack not in self._matrices:
            info = self._file.tensors[stack[0].name]
            shape = sum(padded(part.rows) for part in stack[:-1]) + stack[-1].rows, info.shape[-1]
            if self._in_file(stack):
                matrix = self._mapped_matrix(stack, *shape)
                self.mapped_bytes += matrix.nbytes
                self._advance(matrix.nbytes)
            else:
                matrix = self._new_matrix(stack, *shape)
                first = 0
                for part in stack:
                    self._copy(matrix, part, first)
                    first += padded(part.rows)
            self._matrices[stack] = matrix
        return self._matrices[stack]

    def _mapped_matrix(self, stack: Stack, num_rows: int, num_columns: int) -> core.Matrix:
        """Rows where they are in the file, all of them finite."""

        def placed(first: MatrixPart, rows: int) -> core.Matrix:
            return core.Matrix(self.type_of(first.name), rows, num_columns, self._map, part_offset(self._file, first))

        matrix = placed(stack[0], num_rows)
        if not matrix.is_finite(self._pool):
            bad = (part for part in stack if not placed(part, part.rows).is_finite(self._pool))
            raise not_finite(self._file.path, next(bad).name)
        return matrix

    def _in_file(self, stack: Stack) -> bool:
        """Whether a stack is mapped as it is in the file."""
        return self._map is not None and lies_stacked(self._file, stack)

    def _room(self, stack: Stack) -> int:
        """Bytes from one matrix in memory to the next."""
        return padded(stack_bytes(self._file, stack), core.ALIGNMENT)

    def _new_matrix(self, stack: Stack, num_rows: int, num_columns: int) -> core.Matrix:
        if self._memory is None:
            self._memory = core.WeightMemory(self._to_copy)
        begin = self._used
        self._used += self._room(stack)
        return core.Matrix(self.type_of(stack[0].name), num_rows, num_columns, self._memory, begin)

    def _copy(self, matrix: core.Matrix, part: MatrixPart, target: int) -> None:
        row_bytes = TYPES[matrix.type].row_bytes(matrix.num_columns)
        step = padded(max(STEP_BYTES // row_bytes, 1), core.TILE)
        for begin in range(0, part.rows, step):
            count = min(step, part.rows - begin)
            self._file.pack_rows(part.name, part.first + begin, count, matrix, target + begin, self._pool)
            self._advance(count * row_bytes)

    def _advance(self, nbytes: int) -> None:
        self._read += nbytes
        if self._progress is not None:
            self._progress(self._read, self._total)

    def vector(self, spec: VectorSpec) -> np.ndarray:
        """The plan's vector: float32, parts from whole tiles on."""
        if spec.constant is not None:
            return spec.constant if spec.divisor is None else self._divided(spec.constant, spec.divisor)
        parts = []
        for name, width, first in spec.parts:
            part = np.zeros(padded(width), np.float32)
            if name is not None:
                part[:width] = self.floats(name)[first : first + width]
                if not np.isfinite(part).all():
                    raise not_finite(self._file.path, name)
            parts.append(part)
        values = np.concatenate(parts)
        return values if spec.indices is None else values[spec.indices]

    def _divided(self, constant: np.ndarray, name: str) -> np.ndarray:
        """A constant over a tensor of the file. Raises NumericError where that gives NaN or infinity."""
        with np.errstate(all="ignore"):
            quotient = constant / self.floats(name)
        if not np.isfinite(quotient).all():
            raise NumericError(f"{self._file.path}: {name} holds zero or NaN; convert again from a sound checkpoint")
        return quotient

    def floats(self, name: str) -> np.ndarray:
        """A small tensor end to end, float32. It is kept: programs that are made later ask again."""
        if name not in self._vectors:
            self._vectors[name] = self._file.dequantize(name).reshape(-1)
        return self._vectors[name]

    def clear(self) -> None:
        """Forgets the matrices; plans that use them keep their own hold on them."""
        self._matrices.clear()
        self._vectors.clear()
        self._memory = self._pool = None


def _mapped(file: GGUFFile) -> core.MappedFile | None:
    """The file mapped; None, and its weights are copied, where its file system cannot do that."""
    try:
        return core.MappedFile(file.fileno(), file.path)
    except OSError as error:
        logger.warning("%s: cannot be mapped (%s), so its weights are copied", file.path, error.strerror)
        return None


def part_offset(file: GGUFFile, part: MatrixPart) -> int:
    """Where in the file the rows of a packed tensor begin; they begin with a tile."""
    info = file.tensors[part.name]
    return int(info.offset + part.first * TYPES[info.type].row_bytes(info.shape[-1]))


def lies_stacked(file: GGUFFile, stack: Stack) -> bool:
    """Whether packed rows of one type lie end to end in the file, as a stack of them does in memory."""
    infos = [file.tensors[part.name] for part in stack]
    if any(not info.packed or info.type != infos[0].type for info in infos) or any(p.first % core.TILE for p in stack):
        return False
    ends = [part_offset(file, part) + stack_bytes(file, (part,)) for part in stack]
    return all(end == part_offset(file, after) for end, after in zip(ends, stack[1:], strict=False))


def supported_type(file: GGUFFile, name: str) -> int:
    """Type id of a tensor that the kernels can run, or `UnsupportedModelError` naming it."""
    type_id = file.tensors[name].type
    if type_id not in core.WEIGHT_TYPES:
        known = ", ".join(TYPES[known_id].name for known_id in core.WEIGHT_TYPES)
        raise UnsupportedModelError(
            f"{file.path}: tensor {name} has type {file.tensors[name].type_name}, and edgeformer runs {known}: "
            "quantize the model to one of these"
        )
    return type_id


def stack_bytes(file: GGUFFile, stack: Stack) -> int:
    """Bytes of a stack packed, without reading it: tiles keep the bits per weight of a type."""
    kinds = [(part, TYPES[supported_type(file, part.name)]) for part in stack]
    return sum(padded(part.rows) * kind.row_bytes(file.tensors[part.name].shape[-1]) for part, kind in kinds)
