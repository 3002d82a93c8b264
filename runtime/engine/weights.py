"""Weights of the file as packed matrices and float vectors, each once, whoever shares them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from .._kernels import core
from ..errors import NumericError, UnsupportedModelError
from ..files.gguf.reader import GGUFFile, TensorInfo
from ..graph.recipe import VectorSpec, padded
from ..quants import TYPES

STEP_BYTES = 16 << 20  # read between two looks at signals and reports of progress; cut among the threads

logger = logging.getLogger("edgeformer")


class Weights:
    """Packed matrices of one file, keyed by the tensors stacked in them.

    What the file holds unpacked is copied out of it while it is open: a file that is truncated, replaced or deleted
    later changes nothing. It all lies in one stretch of memory, so that small matrices share large pages, too, and only
    the last page is not full. Matrices that `edgeformer.pack` wrote stay in the file, which is mapped.

    Parameters
    ----------
    file : GGUFFile
        Open for as long as weights are asked for.
    pool : core.Pool
        Threads that read and pack.
    stacks : iterable of tuple of str
        All that will be asked of `matrix`.
    progress : callable, optional
        Called with the bytes read so far and the bytes in all.
    """

    def __init__(
        self,
        file: GGUFFile,
        pool: core.Pool,
        stacks: Iterable[tuple[str, ...]],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._file, self._pool, self._progress = file, pool, progress
        self._matrices: dict[tuple[str, ...], core.Matrix] = {}
        self._total = sum(tensor.nbytes for tensor in file.tensors.values())
        self._read = 0
        self._memory: core.WeightMemory | None = None
        self._used = 0  # bytes of that memory
        self._map = _mapped(file) if file.is_packed else None
        self._to_copy = sum(self._room(names) for names in set(stacks) if not self._in_file(names))
        self.mapped_bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all packed matrices, `mapped_bytes` of them in the file."""
        return sum(matrix.nbytes for matrix in self._matrices.values())

    def type_of(self, name: str) -> int:
        """Type id of a tensor; `UnsupportedModelError` for one that no kernel runs."""
        return supported_type(self._file, name)

    def matrix(self, names: tuple[str, ...]) -> core.Matrix:
        """The tensors stacked, each from a whole tile on."""
        if names not in self._matrices:
            infos = [self._file.tensors[name] for name in names]
            shape = sum(padded(info.shape[0]) for info in infos[:-1]) + infos[-1].shape[0], infos[0].shape[1]
            if self._in_file(names):
                matrix = core.Matrix(self.type_of(names[0]), *shape, self._map, infos[0].offset)
                self.mapped_bytes += matrix.nbytes
                self._advance(matrix.nbytes)
            else:
                matrix = self._new_matrix(names, *shape)
                first = 0
                for info in infos:
                    self._copy(matrix, info, first)
                    first += padded(info.shape[0])
            self._matrices[names] = matrix
        return self._matrices[names]

    def _in_file(self, names: tuple[str, ...]) -> bool:
        """Whether a stack is mapped as it is in the file."""
        return self._map is not None and lie_stacked([self._file.tensors[name] for name in names])

    def _room(self, names: tuple[str, ...]) -> int:
        """Bytes from one matrix in memory to the next."""
        return padded(stack_bytes(self._file, names), core.ALIGNMENT)

    def _new_matrix(self, names: tuple[str, ...], num_rows: int, num_columns: int) -> core.Matrix:
        if self._memory is None:
            self._memory = core.WeightMemory(self._to_copy)
        begin = self._used
        self._used += self._room(names)
        return core.Matrix(self.type_of(names[0]), num_rows, num_columns, self._memory, begin)

    def _copy(self, matrix: core.Matrix, info: TensorInfo, target: int) -> None:
        rows, row_bytes = info.shape[0], TYPES[matrix.type].row_bytes(matrix.num_columns)
        step = padded(max(STEP_BYTES // row_bytes, 1), core.TILE)
        for begin in range(0, rows, step):
            count = min(step, rows - begin)
            self._file.pack_rows(info.name, begin, count, matrix, target + begin, self._pool)
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
        for name, width in spec.parts:
            part = np.zeros(padded(width), np.float32)
            if name is not None:
                part[:width] = self._file.dequantize(name).reshape(-1)
                if not np.isfinite(part).all():
                    raise NumericError(
                        f"{self._file.path}: {name} holds NaN or infinity; convert again from a sound checkpoint"
                    )
            parts.append(part)
        return np.concatenate(parts)

    def _divided(self, constant: np.ndarray, name: str) -> np.ndarray:
        """A constant over a tensor of the file. Raises NumericError where that gives NaN or infinity."""
        with np.errstate(all="ignore"):
            quotient = constant / self._file.dequantize(name).reshape(-1)
        if not np.isfinite(quotient).all():
            raise NumericError(f"{self._file.path}: {name} holds zero or NaN; convert again from a sound checkpoint")
        return quotient

    def clear(self) -> None:
        """Forgets the matrices; plans that use them keep their own hold on them."""
        self._matrices.clear()
        self._memory = None

    def first_non_finite(self) -> str | None:
        """The first tensor group with a row of NaN or infinity, for an error message after the fact."""
        for names, matrix in self._matrices.items():
            if any(not np.isfinite(matrix.row(row)).all() for row in range(matrix.num_rows)):
                return " + ".join(names)
        return None


def _mapped(file: GGUFFile) -> core.MappedFile | None:
    """The file mapped; None, and its weights are copied, where its file system cannot do that."""
    try:
        return core.MappedFile(file.fileno(), file.path)
    except OSError as error:
        logger.warning("%s: cannot be mapped (%s), so its weights are copied", file.path, error.strerror)
        return None


def lie_stacked(infos: Sequence[TensorInfo]) -> bool:
    """Whether packed tensors of one type lie end to end in the file, as a stack of them does in memory."""
    alike = all(info.packed and info.type == infos[0].type for info in infos)
    return alike and all(before.offset + before.nbytes == after.offset for before, after in pairwise(infos))


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


def stack_bytes(file: GGUFFile, names: tuple[str, ...]) -> int:
    """Bytes of tensors stacked and packed, without reading them: tiles keep the bits per weight of a type."""
    infos = [(file.tensors[name], TYPES[supported_type(file, name)]) for name in names]
    return sum(padded(info.shape[0]) * kind.row_bytes(info.shape[1]) for info, kind in infos)
