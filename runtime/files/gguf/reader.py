"""GGUF, the container of the weights: reading versions 2 and 3. `gguf_bytes.py` has the bytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInputError, ModelFormatError, NumericError, PathLike, UnsupportedModelError, quote
from ...quants import TYPES, QuantizationType
from ..storage import InputFile
from .layout import MAGIC, Source, TensorInfo, Value, read_head
from .writer import GGUFWriter

if TYPE_CHECKING:
    from ..._kernels import core

__all__ = ["REQUIRED", "GGUFFile", "GGUFHead", "GGUFWriter", "TensorInfo", "is_gguf"]

Kind = TypeVar("Kind")


class Required:
    """Marks a key that has no default."""


REQUIRED: Final = Required()


def is_gguf(path: PathLike) -> bool:
    """Whether a file begins as GGUF does, whatever its name. Raises ModelNotFoundError where there is no file."""
    with InputFile(path) as file:
        return file.read(0, min(len(MAGIC), file.size)) == MAGIC


class GGUFHead:
    """All of a GGUF file but its weights.

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
    ModelFormatError
        The bytes break GGUF's rules.
    UnsupportedModelError
        Version 1, or big endian.
    """

    def __init__(self, source: Source) -> None:
        self.path = source.path
        head = read_head(source)
        self.version, self.alignment = head.version, head.alignment
        self.metadata, self._value_places = head.metadata, head.value_places
        self.tensors = head.tensors

    @classmethod
    def of_writer(cls, writer: GGUFWriter) -> GGUFHead:
        """What a reader would find in the file that a writer is about to write."""
        return cls(_Unwritten(writer.path, *writer.head()))

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


class _Unwritten:
    """The head of a file that is not written yet."""

    def __init__(self, path: str, head: bytes, size: int) -> None:
        self.path, self.size = path, size
        self._head = head

    def read(self, offset: int, count: int) -> bytes:
        return self._head[offset : offset + count]


class GGUFFile(GGUFHead):
    """An open GGUF file. What its head says is in the attributes of `GGUFHead`.

    Raises
    ------
    ModelNotFoundError
        There is no regular file that may be read.
    ModelFormatError, UnsupportedModelError
        As `GGUFHead` does.
    """

    def __init__(self, path: PathLike) -> None:
        self._file = InputFile(path)
        try:
            super().__init__(self._file)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file; metadata and the list of tensors stay."""
        self._file.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def encoded(self, key: str) -> bytes:
        """A metadata value and its type as the file has them, for `GGUFWriter.add_encoded`."""
        begin, end = self._value_places[key]
        return self._file.read(begin, end - begin)

    @property
    def is_packed(self) -> bool:
        """Whether `edgeformer.pack` wrote the file: it is to be mapped."""
        return any(info.packed for info in self.tensors.values())

    def fileno(self) -> int:
        """The descriptor, for mapping the file. Raises as `check_unchanged` of `InputFile` does."""
        self._file.check_unchanged()
        return self._file.fileno()

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
        """Rows of a tensor as the file stores them.

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
            The tensor is not there, or has a type that edgeformer does not read.
        InvalidInputError
            The rows are out of range, or the file was closed.
        """
        info = self.tensor(name)
        row_bytes = self.quantization(name).row_bytes(info.shape[-1])
        if info.packed:
            what = f"tensor {quote(name)} is packed for the kernels and cannot be read as numbers"
            raise UnsupportedModelError(f"{self.path}: {what}: use the file that was packed")
        if first < 0 or count < 0 or first + count > info.num_rows:
            raise InvalidInputError(f"rows {first} to {first + count} of the {info.num_rows} of tensor {quote(name)}")
        self._file.check_unchanged()
        return self._file.read_array(info.offset + first * row_bytes, count * row_bytes).reshape(count, row_bytes)

    def pack_rows(
        self, name: str, first: int, count: int, matrix: core.Matrix, target: int, pool: core.Pool | None
    ) -> None:
        """Rows of a tensor, read and packed by all threads of a pool into rows of a matrix.

        Parameters
        ----------
        name : str
        first, count : int
            Rows of the tensor.
        matrix : core.Matrix
            Of the tensor's type and columns.
        target : int
            Where the first row goes: a multiple of sixteen, as `first` must be for a packed tensor.
        pool : core.Pool, optional

        Raises
        ------
        As `read_rows` does, and NumericError where a value, scale or minimum is NaN or infinite.
        """
        info = self.tensor(name)
        row_bytes = self.quantization(name).row_bytes(info.shape[-1])
        offset = info.offset + first * row_bytes
        try:
            finite = matrix.read(self.fileno(), offset, target, count, info.packed, pool)
        except OSError as error:
            raise self._file.read_error(offset, count * row_bytes, error.strerror) from None
        if not finite:
            raise not_finite(self.path, name)

    def stored_bytes(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Bytes `first` to `first + count` of a tensor as it is in the file."""
        return self._file.read_array(self.tensor(name).offset + first, count)

    def dequantize(self, name: str) -> NDArray[np.float32]:
        """A whole tensor as float32 in its shape. Raises as `read_rows` does."""
        info = self.tensor(name)
        return self.quantization(name).dequantize(self.read_rows(name, 0, info.num_rows), info.shape)


def not_finite(path: str, name: str) -> NumericError:
    """The error of a tensor that no sound checkpoint has."""
    return NumericError(f"{path}: {name} holds NaN or infinity; convert again from a sound checkpoint")


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
