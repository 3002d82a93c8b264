"""GGUF, the container of the weights: versions 2 and 3 are read, 3 is written. `gguf_bytes.py` has the bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from .errors import (
    ConversionError,
    InvalidInputError,
    InvalidOptionError,
    ModelFormatError,
    PathLike,
    UnsupportedModelError,
    quote,
)
from .files import InputFile, OutputFile
from .gguf_bytes import (
    ALIGNMENT_KEY,
    DEFAULT_ALIGNMENT,
    MAX_RANK,
    TensorInfo,
    Value,
    encode_head,
    encode_value,
    is_alignment,
    read_head,
)
from .quants import READ_AS, STORED_TYPES, TYPES, QuantizationType

__all__ = ["REQUIRED", "GGUFFile", "GGUFWriter", "TensorInfo"]

MAX_TENSOR_NAME_BYTES = 63  # llama.cpp refuses longer ones

Kind = TypeVar("Kind")


class Required:
    """Marks a key that has no default."""


REQUIRED: Final = Required()


class GGUFFile:
    """An open GGUF file.

    Attributes
    ----------
    path : str
    version : int
    alignment : int
    metadata : dict of str to int, float, bool, str, list or numpy.ndarray
        Arrays of more than 1,024 numbers are NumPy arrays, shorter ones and those of strings are lists.
    tensors : dict of str to TensorInfo
        In the file's order.

    Raises
    ------
    ModelNotFoundError
        There is no regular file that may be read.
    ModelFormatError
        The bytes break GGUF's rules.
    UnsupportedModelError
        Version 1, or big endian.
    """

    def __init__(self, path: PathLike) -> None:
        self._file = InputFile(path)
        self.path = self._file.path
        try:
            head = read_head(self._file)
        except BaseException:
            self._file.close()
            raise
        self.version, self.alignment = head.version, head.alignment
        self.metadata = head.metadata
        self.tensors = {name: _as_read(info) for name, info in head.tensors.items()}

    def close(self) -> None:
        """Close the file; metadata and the list of tensors stay."""
        self._file.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(
        self,
        key: str,
        kind: type[Kind],
        default: Kind | Required | None = REQUIRED,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
    ) -> Kind:
        """A metadata value, checked.

        Parameters
        ----------
        key : str
        kind : type
            ``bool``, ``int``, ``float`` (takes integers too), ``str``, ``list[...]`` of one of these, or
            ``numpy.ndarray`` for a numeric array.
        default : optional
            Returned as it is where the key is absent; without it an absent key is an error.
        minimum, maximum : float, optional
            Bounds on a number, or on every number of an array, both inclusive.

        Raises
        ------
        ModelFormatError
            Naming the key: it is absent, of another kind, out of bounds, NaN or infinite.
        """
        if key not in self.metadata:
            if isinstance(default, Required):
                raise ModelFormatError(self.path, None, key, "is missing from the metadata")
            return default  # type: ignore[return-value]  # None is a default that the caller asked for
        value = _as_kind(self.metadata[key], kind)
        if value is None:
            expected = getattr(kind, "__name__", str(kind))
            raise ModelFormatError(self.path, None, key, f"is {quote(self.metadata[key])}, not of kind {expected}")
        if not isinstance(value, str) and not _all_within(value, minimum, maximum):
            bounds = f"[{'-inf' if minimum is None else minimum}, {'inf' if maximum is None else maximum}]"
            raise ModelFormatError(self.path, None, key, f"is {quote(value)}, and must be finite and in {bounds}")
        checked: Kind = value
        return checked

    def tensor(self, name: str) -> TensorInfo:
        """The tensor of that name. Raises ModelFormatError where there is none."""
        if name in self.tensors:
            return self.tensors[name]
        if self.metadata.get("split.count", 1) not in (0, 1):
            raise UnsupportedModelError(f"{self.path}: is one part of a split model: merge the parts first")
        raise ModelFormatError(self.path, None, f"tensor {quote(name)}", "is missing from the file")

    def quantization(self, name: str) -> QuantizationType:
        """The type of a tensor's weights. Raises UnsupportedModelError for one that edgeformer does not read."""
        info = self.tensor(name)
        if info.type not in TYPES:
            known = ", ".join(t.name for t in TYPES.values())
            what = f"tensor {quote(name)} has type {info.type_name}, and edgeformer reads {known}"
            raise UnsupportedModelError(f"{self.path}: {what}: quantize the model to one of these")
        return TYPES[info.type]

    def read_rows(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Rows of a tensor as the file stores them, or quantized anew where `quants.READ_AS` has its type.

        Parameters
        ----------
        name : str
        first, count : int
            Rows of `shape[-1]` weights; axes before the last are counted through.

        Returns
        -------
        uint8 [count, row_bytes]

        Raises
        ------
        ModelFileChangedError
            The file is not the one that was opened any more.
        ModelFormatError, UnsupportedModelError
            The tensor is not there, holds NaN where it is quantized anew, or has a type that edgeformer does not read.
        InvalidInputError
            The rows are out of range, or the file was closed.
        """
        info, quantization = self.tensor(name), self.quantization(name)
        row_bytes = STORED_TYPES[info.stored_type or info.type].row_bytes(info.shape[-1])
        if first < 0 or count < 0 or first + count > info.num_rows:
            raise InvalidInputError(f"rows {first} to {first + count} of the {info.num_rows} of tensor {quote(name)}")
        self._file.check_unchanged()
        raw = self._file.read_array(info.offset + first * row_bytes, count * row_bytes).reshape(count, row_bytes)
        if info.stored_type is None:
            return raw
        weights = TYPES[info.stored_type].dequantize(raw, (count, info.shape[-1]))
        try:
            return quantization.quantize(weights)
        except ConversionError as error:
            raise ModelFormatError(self.path, info.offset, f"tensor {quote(name)}", str(error)) from error

    def dequantize(self, name: str) -> NDArray[np.float32]:
        """A whole tensor as float32 in its shape. Raises as `read_rows` does."""
        info = self.tensor(name)
        return self.quantization(name).dequantize(self.read_rows(name, 0, info.num_rows), info.shape)


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
        self.path = os.fspath(path)
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
        self._check_open_for_declarations()
        if not key or key in self._metadata:
            raise InvalidInputError(f"{self.path}: key {quote(key)} is {'there already' if key else 'empty'}")
        self._metadata[key] = encode_value(key, value, kind)

    def declare(self, name: str, shape: Sequence[int], type: int) -> None:
        """Announce a tensor.

        Parameters
        ----------
        name : str
            At most 63 bytes, for llama.cpp's sake.
        shape : sequence of int
            Rows first; one to four axes.
        type : int
            A key of `quants.STORED_TYPES`.

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
        nbytes = math.prod(shape[:-1]) * STORED_TYPES[type].row_bytes(shape[-1])
        self._tensors[name] = TensorInfo(name, tuple(int(n) for n in shape), type, self._data_bytes, nbytes)
        self._data_bytes += -(-nbytes // self._alignment) * self._alignment

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
            head = encode_head(self._metadata, self._tensors.values(), self._alignment)
            self._unwritten = list(self._tensors.values())
            self._bytes_left = self._unwritten[0].nbytes if self._unwritten else 0
            self._file = OutputFile(self.path, len(head) + self._data_bytes, self._sources)
            self._file.write(head)
        return self._file

    def _check_open_for_declarations(self) -> None:
        if self._file is not None:
            raise InvalidInputError(f"{self.path}: keys and tensors must be added before the first tensor is written")


def _as_read(info: TensorInfo) -> TensorInfo:
    """The tensor with the type that its rows are read as."""
    return replace(info, type=READ_AS[info.type], stored_type=info.type) if info.type in READ_AS else info


def _as_kind(value: Value, kind: Any) -> Any:
    """The value if it is of the kind, else None."""
    if kind is np.ndarray:
        array = np.asarray(value) if isinstance(value, (list, np.ndarray)) else np.asarray("")
        return array if array.dtype.kind in "biuf" else None
    if get_origin(kind) is list or kind is list:
        if not isinstance(value, (list, np.ndarray)):
            return None
        items = list(value) if isinstance(value, list) else value.tolist()
        item_kind = get_args(kind)
        return items if not item_kind or all(_as_kind(item, item_kind[0]) is not None for item in items) else None
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else None


def _all_within(value: Any, minimum: float | None, maximum: float | None) -> bool:
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf" or numbers.size == 0:
        return True
    low = -math.inf if minimum is None else minimum
    high = math.inf if maximum is None else maximum
    return bool(np.isfinite(numbers).all() and numbers.min() >= low and numbers.max() <= high)
