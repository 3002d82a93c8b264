"""Weights that are NaN or infinite are found when they are read or mapped, and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.engine.weights import Weights
from edgeformer.errors import NumericError
from edgeformer.files.gguf.layout import PACKED_LAYOUT, PACKED_LAYOUT_KEY
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from edgeformer.graph.recipe import MatrixPart
from numpy.typing import NDArray
from support.kernel_inputs import bad_numbers, raw_weights

ROWS, COLUMNS = 48, 512
TYPES = sorted(core.WEIGHT_TYPES)


def read(path: Path, pool: core.Pool) -> NDArray[np.uint8]:
    """All weights of the file, as loading a model reads them."""
    with GGUFFile(path) as file:
        stack = (MatrixPart("sound", 0, ROWS), MatrixPart("doubtful", 0, ROWS))
        return Weights(file, pool, [stack]).matrix(stack).panels()


def write(path: Path, kind: int, doubtful: bytes, packed: bool) -> Path:
    """A file of two tensors, the first of them sound."""
    rows = {"sound": raw_weights(kind, ROWS, COLUMNS)[0], "doubtful": doubtful}
    with GGUFWriter(path, "test", alignment=64) as writer:
        writer.add(PACKED_LAYOUT_KEY, PACKED_LAYOUT, "uint32")
        for name in rows:
            writer.declare(name, (ROWS, COLUMNS), kind, packed=packed)
        for name, raw in rows.items():
            matrix = core.Matrix(kind, ROWS, COLUMNS)
            matrix.pack(raw, 0, ROWS)
            writer.write(name, matrix.panels() if packed else np.frombuffer(raw, np.uint8))
    return path


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("kind", TYPES, ids=core.WEIGHT_TYPES.get)
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, pool: core.Pool, kind: int, packed: bool) -> None:
    raw, _ = raw_weights(kind, ROWS, COLUMNS, seed=1)
    assert read(write(tmp_path / "sound.gguf", kind, raw, packed), pool).size
    for i, bad in enumerate(bad_numbers(kind, raw, COLUMNS)):
        path = write(tmp_path / f"{i}.gguf", kind, bad, packed)
        with pytest.raises(NumericError, match="doubtful holds NaN or infinity"):
            read(path, pool)
