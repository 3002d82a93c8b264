"""Weights from the file into packed matrices and float vectors, each once, whoever shares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from edgeformer._kernels import core
from edgeformer.compile import TILE, VectorSpec, padded
from edgeformer.errors import NumericError, UnsupportedModelError
from edgeformer.gguf import GGUFFile
from edgeformer.quants import TYPES

CHUNK_BYTES = 4 << 20  # read at a time: enough for every thread to pack, little beside the matrix itself


class Weights:
    """Packed matrices of one file, keyed by the tensors stacked in them.

    Everything is copied out of the file while it is open: a file that is truncated, replaced or deleted later changes
    nothing.

    Parameters
    ----------
    file : GGUFFile
        Open for as long as weights are asked for.
    pool : core.Pool
        Threads that pack.
    progress : callable, optional
        Called with the bytes read so far and the bytes in all.
    """

    def __init__(self, file: GGUFFile, pool: core.Pool, progress: Callable[[int, int], None] | None = None) -> None:
        self._file, self._pool, self._progress = file, pool, progress
        self._matrices: dict[tuple[str, ...], core.Matrix] = {}
        self._total = sum(tensor.nbytes for tensor in file.tensors.values())
        self._read = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all packed matrices."""
        return sum(matrix.nbytes for matrix in self._matrices.values())

    def type_of(self, name: str) -> int:
        """Type id of a tensor; `UnsupportedModelError` for one that no kernel runs."""
        return supported_type(self._file, name)

    def matrix(self, names: tuple[str, ...]) -> core.Matrix:
        """The tensors stacked, each from a whole tile on."""
        if names not in self._matrices:
            infos = [self._file.tensors[name] for name in names]
            rows = sum(padded(info.shape[0]) for info in infos[:-1]) + infos[-1].shape[0]
            matrix = core.Matrix(self.type_of(names[0]), rows, infos[0].shape[1])
            first = 0
            for info in infos:
                self._pack(matrix, info.name, first, info.shape[0])
                first += padded(info.shape[0])
            self._matrices[names] = matrix
        return self._matrices[names]

    def _pack(self, matrix: core.Matrix, name: str, first: int, rows: int) -> None:
        row_bytes = TYPES[matrix.type].row_bytes(matrix.num_columns)
        step = padded(max(CHUNK_BYTES // row_bytes, 1), TILE)
        for begin in range(0, rows, step):
            count = min(step, rows - begin)
            matrix.pack(self._file.read_rows(name, begin, count), first + begin, count, self._pool)
            self._read += count * row_bytes
            if self._progress is not None:
                self._progress(self._read, self._total)

    def vector(self, spec: VectorSpec) -> np.ndarray:
        """The plan's vector: float32, parts from whole tiles on."""
        if spec.constant is not None:
            return (
                spec.constant
                if spec.divisor is None
                else spec.constant / self._file.dequantize(spec.divisor).reshape(-1)
            )
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

    def clear(self) -> None:
        """Forgets the matrices; plans that use them keep their own hold on them."""
        self._matrices.clear()

    def first_non_finite(self) -> str | None:
        """The first tensor group with a row of NaN or infinity, for an error message after the fact."""
        for names, matrix in self._matrices.items():
            if any(not np.isfinite(matrix.row(row)).all() for row in range(matrix.num_rows)):
                return " + ".join(names)
        return None


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


def packed_bytes(file: GGUFFile, matrices: Mapping[tuple[str, ...], None]) -> int:
    """Bytes of the packed matrices, without reading them: tiles of sixteen rows keep the bits per weight of their
    type.
    """
    total = 0
    for names in matrices:
        for name in names:
            info = file.tensors[name]
            total += padded(info.shape[0]) * TYPES[supported_type(file, name)].row_bytes(info.shape[1])
    return total
