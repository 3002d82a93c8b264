"""How much each column of a matrix matters: importance files, those of llama.cpp's ``llama-imatrix``.

Such a file is GGUF with two tensors for every matrix: ``<name>.in_sum2``, for each column the sum over tokens of the
squared activation that it was multiplied with, and ``<name>.counts``, the number of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFormatError, PathLike, quote
from ...files.gguf.reader import GGUFFile
from ...files.gguf.writer import GGUFWriter

__all__ = ["Activations", "read_importance", "write_importance"]

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass
class Activations:
    """What was seen of the inputs of one matrix.

    Attributes
    ----------
    sums : float64 [K]
        Of the squares of each column.
    count : int
        Tokens.
    """

    sums: NDArray[np.float64]
    count: int


def read_importance(path: PathLike) -> dict[str, NDArray[np.float32]]:
    """Mean squares of the activations, by the name of the matrix.

    Parameters
    ----------
    path : path-like
        An importance file in GGUF, llama.cpp's or of `write_importance`.

    Returns
    -------
    dict of str to float32 [K]
        A matrix that no token has reached is left out.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    ModelFormatError
        It is damaged or no importance file, or belongs to a model with experts.
    """
    with GGUFFile(path) as file:
        names = [name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)]
        if not names:
            raise ModelFormatError(file.path, None, "tensors", f"no name ends in {_SUMS}: this is no importance file")
        means = {}
        for name in names:
            sums, counts = file.dequantize(name + _SUMS), file.dequantize(name + _COUNTS)
            if counts.size != 1 or sums.size != sums.shape[-1]:
                what = f"shapes {sums.shape} and {counts.shape} are not those of one matrix"
                raise ModelFormatError(file.path, None, f"tensor {quote(name)}", what)
            count = counts.reshape(-1)[0]
            with np.errstate(over="ignore", invalid="ignore"):  # both are looked at below
                mean = sums.reshape(-1) / (count or np.float32(1))
            if not (np.isfinite(mean).all() and (sums >= 0).all() and 0 <= count < np.inf):
                what = "holds NaN, infinity or a negative number, or its means are too large"
                raise ModelFormatError(file.path, None, f"tensor {quote(name)}", what)
            if count > 0:
                means[name] = mean
        return means


def write_importance(
    path: PathLike, architecture: str, activations: Mapping[str, Activations], sources: Sequence[PathLike] = ()
) -> None:
    """Write an importance file.

    Parameters
    ----------
    path : path-like
    architecture : str
        Of the model; other readers do not need it.
    activations : mapping of str to Activations
        By the name of the matrix.
    sources : sequence of path-like
        Files that this one comes from; writing over one of them is refused.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    arrays = {}
    for name, seen in activations.items():
        arrays[name + _SUMS] = seen.sums.astype(np.float32)[None]
        arrays[name + _COUNTS] = np.array([[seen.count]], np.float32)
    with GGUFWriter(path, architecture, sources=sources) as writer:
        writer.add("general.type", "imatrix")
        writer.add("imatrix.datasets", ["calibration text"])
        writer.add("imatrix.chunk_count", 1)
        writer.add("imatrix.chunk_size", max((seen.count for seen in activations.values()), default=1))
        for name, array in arrays.items():
            writer.declare(name, array.shape, 0)
        for name, array in arrays.items():
            writer.write(name, array)
