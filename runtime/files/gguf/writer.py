"""Writing GGUF files of version 3."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError, InvalidOptionError, PathLike, quote
from ...quants import STORED_TYPES
from ..storage import OutputFile
from .encoding import encode_head, encode_value
from .layout import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAX_RANK,
    PACKED_ALIGNMENT,
    TensorInfo,
    Value,
    is_alignment,
    packed_rows,
)

__all__ = ["GGUFWriter"]

MAX_TENSOR_NAME_BYTES = 63  # llama.cpp refuses longer ones


class GGUFWriter:
    """Writes a GGUF file of version 3, tensor by tensor. The same calls give the same bytes.

    First `add` and `declare` everything, then `write` every tensor in the order of declaration, then `close`. Used as a
    context manager, leaving the block closes it, and leaving it by an exception, also Ctrl-C, leaves nothing behind.
    Until `close` returns there is nothing at the path, or what was there before.

    Parameters
    ----------
    path : path-like
    architecture : str
        ``general.architecture``.
    alignment : int
        Of the tensors, in bytes: a power of two.
    sources : sequence of path-like
        Files that the weights come from; writing over one of them is refused.

    Examples
    --------
    >>> with GGUFWriter("model.gguf", "llama") as writer:
    ...     writer.add("llama.block_count", 1)
    ...     writer.declare("output_norm.weight", (64,), 0)
    ...     writer.write("output_norm.weight", np.ones(64, dtype=np.float32))
    """

    def __init__(
        self,
        path: PathLike,
        architecture: str,
        *,
        alignment: int = DEFAULT_ALIGNMENT,
        sources: Sequence[PathLike] = (),
    ) -> None:
        if not is_alignment(alignment):
            raise InvalidOptionError(f"alignment {quote(alignment)} is not a power of two that GGUF takes")
        self.path = os.fsdecode(path)
        self._alignment = alignment
        self._sources = sources
        self._metadata: dict[str, bytes] = {}
        self._tensors: dict[str, TensorInfo] = {}
        self._data_bytes = 0
        self._file: OutputFile | None = None
        self._unwritten: list[TensorInfo] = []
        self._bytes_left = 0
        self.add("general.architecture", architecture)
        if alignment != DEFAULT_ALIGNMENT:
            self.add(ALIGNMENT_KEY, alignment, "uint32")

    def add(self, key: str, value: Value, kind: str | None = None) -> None:
        """Add a metadata value.

        Parameters
        ----------
        key : str
        value : bool, int, float, str, a list of one of these, or a one-dimensional array of numbers
        kind : str, optional
            ``"uint8"`` ... ``"uint64"``, ``"int8"`` ... ``"int64"``, ``"float32"``, ``"float64"``, ``"bool"``,
            ``"string"``; of an array, the kind of its items. Without it: float32; uint32 for one integer, int32 for
            several, and wider only where that is too small; an array keeps its own.

        Raises
        ------
        InvalidInputError
            The key is there already, or empty; the value does not fit the kind; or tensors are already being written.
        """
        self.add_encoded(key, encode_value(key, value, kind))

    def add_encoded(self, key: str, encoded: bytes) -> None:
        """Add a metadata value as `GGUFFile.encoded` gives it. Raises as `add` does."""
        self._check_open_for_declarations()
        if not key or key in self._metadata:
            raise InvalidInputError(f"{self.path}: key {quote(key)} is {'there already' if key else 'empty'}")
        self._metadata[key] = encoded

    def declare(self, name: str, shape: Sequence[int], type: int, *, packed: bool = False) -> None:
        """Announce a tensor.

        Parameters
        ----------
        name : str
            At most 63 bytes, for llama.cpp's sake.
        shape : sequence of int
            Rows first; one to four axes.
        type : int
            A key of `quants.STORED_TYPES`.
        packed : bool
            Written as panels of sixteen rows, the last filled up with zeros; the alignment must be 64 or more.

        Raises
        ------
        InvalidInputError
            The name is there already, empty or too long; the shape or type is not possible.
        """
        self._check_open_for_declarations()
        if not name or name in self._tensors or len(name.encode(errors="replace")) > MAX_TENSOR_NAME_BYTES:
            raise InvalidInputError(f"tensor name {quote(name)} is empty, too long, or there already")
        if not 1 <= len(shape) <= MAX_RANK or min(shape) < 1:
            raise InvalidInputError(f"tensor {quote(name)}: shape {tuple(shape)} is not 1 to {MAX_RANK} extents > 0")
        if type not in STORED_TYPES:
            raise InvalidInputError(f"tensor {quote(name)}: there is no type {type}")
        if packed and (len(shape) not in (2, 3) or self._alignment % PACKED_ALIGNMENT):
            raise InvalidInputError(
                f"tensor {quote(name)}: packed ones have two or three axes and an alignment of 64 or more"
            )
        num_rows = math.prod(shape[:-1])
        nbytes = (packed_rows(num_rows) if packed else num_rows) * STORED_TYPES[type].row_bytes(shape[-1])
        extents = tuple(int(n) for n in shape)
        self._tensors[name] = TensorInfo(name, extents, type, self._data_bytes, nbytes, packed=packed)
        self._data_bytes += -(-nbytes // self._alignment) * self._alignment

    def head(self) -> tuple[bytes, int]:
        """All of the file but the weights, as it stands now, and the bytes of the whole file."""
        head = encode_head(self._metadata, self._tensors.values(), self._alignment)
        return head, len(head) + self._data_bytes

    def write(self, name: str, raw: bytes | bytearray | memoryview | NDArray[Any]) -> None:
        """Append bytes of a tensor: all of it, or the next part of it.

        Parameters
        ----------
        name : str
            The tensor that was begun and is not complete, or else the next that was declared.
        raw : bytes-like or C-contiguous array
            Its blocks, as the quantizer of the declared type gives them.

        Raises
        ------
        InvalidInputError
            It is another tensor's turn, or the bytes are more than the tensor has left.
        OutputError
            The file cannot be written, e.g. the disk is full.
        """
        file = self._begin()
        info = self._unwritten[0] if self._unwritten else None
        if info is None or info.name != name:
            turn = "no tensor is left" if info is None else f"it is the turn of {quote(info.name)}"
            raise InvalidInputError(f"tensor {quote(name)} cannot be written now: {turn}")
        nbytes = np.frombuffer(raw, dtype=np.uint8).nbytes
        if nbytes > self._bytes_left:
            raise InvalidInputError(f"tensor {quote(name)} has {self._bytes_left} bytes left, and got {nbytes}")
        file.write(raw)
        self._bytes_left -= nbytes
        if self._bytes_left == 0:
            file.write(bytes(-info.nbytes % self._alignment))
            del self._unwritten[0]
            self._bytes_left = self._unwritten[0].nbytes if self._unwritten else 0

    def close(self) -> None:
        """Finish the file and put it in its place.

        Raises
        ------
        InvalidInputError
            A declared tensor was not written, or not all of it.
        OutputError
            The file cannot be written.
        """
        file = self._begin()
        if self._unwritten:
            self.abort()
            raise InvalidInputError(f"tensor {quote(self._unwritten[0].name)} was declared and not written")
        file.commit()

    def abort(self) -> None:
        """Leave nothing behind; after `close` it does nothing."""
        if self._file is not None:
            self._file.abort()

    def __enter__(self) -> GGUFWriter:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        try:
            if error_type is None:
                self.close()
        finally:
            self.abort()

    def _begin(self) -> OutputFile:
        """The file, with the head written."""
        if self._file is None:
            head, nbytes = self.head()
            self._unwritten = list(self._tensors.values())
            self._bytes_left = self._unwritten[0].nbytes if self._unwritten else 0
            self._file = OutputFile(self.path, nbytes, self._sources)
            self._file.write(head)
        return self._file

    def _check_open_for_declarations(self) -> None:
        if self._file is not None:
            raise InvalidInputError(f"{self.path}: keys and tensors must be added before the first tensor is written")
