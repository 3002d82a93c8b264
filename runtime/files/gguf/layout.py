"""GGUF's bytes: the head of a file, decoded without belief. `gguf.py` is the face of it.

A file is, all little endian::

    "GGUF"  uint32 version  uint64 tensor count  uint64 key count
    keys      string name, uint32 value type, value    (string: uint64 bytes, UTF-8; array: type, uint64 count, items)
    tensors   string name, uint32 rank, rank x uint64 extents (fastest first), uint32 type, uint64 offset
    padding to the alignment, then the tensors' bytes, each at a multiple of the alignment from here

A packed tensor, which other readers refuse for its type, has `PACKED` added to its type and its rows in the tiles of
sixteen that the kernels read (`include/edgeformer/types/blocks.h`), at a multiple of 64 in the file.

Every count and length is held against the bytes that are left before anything is allocated, so a hostile file costs no
more than one of its size, and raises `ModelFormatError` with the byte position.
Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..._kernels import core
from ...errors import ModelFormatError, UnsupportedModelError, quote
from ...quants import STORED_TYPES

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
PACKED = 0x40000000
PACKED_ROWS = core.TILE  # to which the rows of a packed tensor are filled up with zeros
PACKED_ALIGNMENT = core.ALIGNMENT
PACKED_LAYOUT_KEY = "edgeformer.packed.layout"
PACKED_LAYOUT = 1  # raise it whenever the tiles of a type change: files are refused then, not misread
MIN_ALIGNMENT = 8
MAX_ALIGNMENT = 1 << 20
MAX_RANK = 4
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 65535
MAX_TEXT_BYTES = 1 << 27
# A Python string takes 50 bytes and more where the file may spend 9 on it, so their number has a bound of its own.
MAX_STRINGS = 1 << 22
LONG_ARRAY = 1024
READ_AHEAD = 1 << 20

UINT32, BOOL, STRING, ARRAY = 4, 7, 8, 9

_NUMBERS = (
    ("uint8", 0, "u1"),
    ("int8", 1, "i1"),
    ("uint16", 2, "<u2"),
    ("int16", 3, "<i2"),
    ("uint32", UINT32, "<u4"),
    ("int32", 5, "<i4"),
    ("float32", 6, "<f4"),
    ("bool", BOOL, "?"),
    ("uint64", 10, "<u8"),
    ("int64", 11, "<i8"),
    ("float64", 12, "<f8"),
)
SCALARS: Final[dict[int, np.dtype[Any]]] = {number: np.dtype(code) for _, number, code in _NUMBERS}
"""Value types of fixed size, by GGUF's number."""
KINDS: Final[dict[str, int]] = {"string": STRING, **{name: number for name, number, _ in _NUMBERS}}
"""GGUF's numbers of the value types, by the specification's names."""

_LENGTH = struct.Struct("<Q")
_OLD_MAGICS = (b"lmgg", b"fmgg", b"tjgg", b"algg")  # ggml, ggmf, ggjt, ggla as little-endian words

Value = Any  # int, float, bool, str, list of these, or a one-dimensional array of numbers


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in the file, and as what.

    `shape` has rows first; `type` is a key of `quants.STORED_TYPES`; `packed`: in tiles of sixteen rows.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    nbytes: int
    packed: bool = False

    @property
    def type_name(self) -> str:
        """llama.cpp's name of the type, e.g. ``"q8_0"``, or ``"packed q8_0"``."""
        name = STORED_TYPES[self.type].name
        return f"packed {name}" if self.packed else name

    @property
    def num_rows(self) -> int:
        """Rows of `shape[-1]` weights."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class Head:
    """All of a file but the weights."""

    version: int
    alignment: int
    metadata: dict[str, Value]
    value_places: dict[str, tuple[int, int]]  # first byte and end of every value, with its type
    tensors: dict[str, TensorInfo]


class Source(Protocol):
    """Where a head is read from: an open file, or bytes that are to be one."""

    path: str
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`."""


class _Cursor:
    """Walks through the head of a file with a window of it in memory."""

    def __init__(self, file: Source) -> None:
        self.file = file
        self._window = b""
        self._window_offset = 0
        self._index = 0
        self._strings_left = MAX_STRINGS

    @property
    def offset(self) -> int:
        """Byte position in the file."""
        return self._window_offset + self._index

    @property
    def bytes_left(self) -> int:
        return self.file.size - self.offset

    def error(self, field: str, what: str, offset: int | None = None) -> ModelFormatError:
        return ModelFormatError(self.file.path, self.offset if offset is None else offset, field, what)

    def take(self, count: int, field: str) -> bytes:
        """The next `count` bytes."""
        self._need(count, field)
        start = self._index
        self._index += count
        return self._window[start : self._index]

    def _need(self, count: int, field: str) -> None:
        if count > self.bytes_left:
            raise self.error(field, f"takes {count} bytes of the {self.bytes_left} left: the file is cut short")
        if self._index + count > len(self._window):
            self._window_offset, self._index = self.offset, 0
            self._window = b""
            self._window = self.file.read(self._window_offset, min(self.bytes_left, max(count, READ_AHEAD)))

    def uint32(self, field: str) -> int:
        return int.from_bytes(self.take(4, field), "little")

    def uint64(self, field: str) -> int:
        return int.from_bytes(self.take(8, field), "little")

    def count(self, item_bytes: int, limit: int, field: str) -> int:
        """A number of items of at least `item_bytes` each, at most `limit` and what the bytes left can hold."""
        count = self.uint64(field)
        if count > self.bytes_left // item_bytes:
            what = f"is {count}, more than the {self.bytes_left} bytes that follow can hold"
            raise self.error(field, what, self.offset - 8)
        if count > limit:
            raise self.error(field, f"is {count}, and at most {limit} are read", self.offset - 8)
        return count

    def string(self, limit: int, field: str) -> str:
        raw = self.take(self.count(1, limit, f"{field} length"), field)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(field, f"is not UTF-8 ({error.reason})", self.offset - len(raw) + error.start) from None

    def strings(self, count: int, field: str) -> list[str]:
        """`count` strings. The common case, whole in the window, takes a third of a microsecond each."""
        if count > self._strings_left:
            raise self.error(field, f"brings the strings of the file over {MAX_STRINGS}")
        self._strings_left -= count
        items: list[str] = []
        append, unpack = items.append, _LENGTH.unpack_from
        while len(items) < count:
            window, index, end = self._window, self._index, len(self._window)
            try:
                for _ in range(count - len(items)):
                    if index + 8 > end or (stop := index + 8 + unpack(window, index)[0]) > end:
                        break
                    append(window[index + 8 : stop].decode())
                    index = stop
            except UnicodeDecodeError as error:
                at = self._window_offset + index + 8 + error.start
                raise self.error(f"{field}[{len(items)}]", f"is not UTF-8 ({error.reason})", at) from None
            self._index = index
            if len(items) < count:
                append(self.string(MAX_TEXT_BYTES, f"{field}[{len(items)}]"))
        return items

    def numbers(self, dtype: np.dtype[Any], count: int, field: str) -> list[Any] | NDArray[Any]:
        """`count` numbers: a list, or if there are many a read-only array of its own."""
        start = self.offset
        raw = np.frombuffer(self.take(count * dtype.itemsize, field), np.uint8)
        if dtype.kind == "b" and (raw > 1).any():
            raise self.error(field, "holds a bool that is neither 0 nor 1", start + int(np.argmax(raw > 1)))
        array = raw.view(dtype)
        return array if count > LONG_ARRAY else array.tolist()

    def value(self, value_type: int, field: str) -> Value:
        if value_type == STRING:
            return self.string(MAX_TEXT_BYTES, field)
        if value_type in SCALARS:
            return self.numbers(SCALARS[value_type], 1, field)[0]
        if value_type != ARRAY:
            raise self.error(field, f"has the unknown value type {value_type}", self.offset - 4)
        item_type = self.uint32(f"{field} item type")
        if item_type == ARRAY:
            raise self.error(field, "is an array of arrays, which no reader takes", self.offset - 4)
        if item_type != STRING and item_type not in SCALARS:
            raise self.error(field, f"has the unknown item type {item_type}", self.offset - 4)
        item_bytes = 8 if item_type == STRING else SCALARS[item_type].itemsize
        count = self.count(item_bytes, self.file.size, f"{field} count")
        if item_type == STRING:
            return self.strings(count, field)
        return self.numbers(SCALARS[item_type], count, field)


def read_head(file: Source) -> Head:
    """Decode the head of a file. Raises ModelFormatError, or UnsupportedModelError for version 1 and big endian."""
    cursor = _Cursor(file)
    version = _read_version(cursor)
    num_tensors = cursor.count(8 + 1 + 4 + 8 + 4 + 8, MAX_TENSORS, "tensor count")
    num_keys = cursor.count(8 + 1 + 4 + 1, MAX_KEYS, "key count")
    metadata: dict[str, Value] = {}
    places: dict[str, tuple[int, int]] = {}
    alignment = DEFAULT_ALIGNMENT
    for index in range(num_keys):
        start = cursor.offset
        key = cursor.string(MAX_NAME_BYTES, f"key {index}")
        if not key or key in metadata:
            raise cursor.error(f"key {index}", f"{quote(key)} is there twice" if key else "is empty", start)
        value_start = cursor.offset
        value_type = cursor.uint32(f"{quote(key)} value type")
        metadata[key] = cursor.value(value_type, quote(key))
        places[key] = value_start, cursor.offset
        if key == ALIGNMENT_KEY:
            alignment = metadata[key]
            if value_type != UINT32 or not is_alignment(alignment):
                what = f"is {quote(alignment)} (value type {value_type}), not a uint32 power of two in"
                raise cursor.error(key, f"{what} [{MIN_ALIGNMENT}, {MAX_ALIGNMENT}]", start)
    stored = [_read_tensor(cursor, index) for index in range(num_tensors)]
    if any(info.packed for _, info in stored):
        _check_packed_layout(cursor, metadata)
    return Head(version, alignment, metadata, places, _place(cursor, stored, alignment))


def is_alignment(value: int) -> bool:
    """Whether tensors may be aligned so."""
    return MIN_ALIGNMENT <= value <= MAX_ALIGNMENT and value & (value - 1) == 0


def _check_packed_layout(cursor: _Cursor, metadata: dict[str, Value]) -> None:
    layout = metadata.get(PACKED_LAYOUT_KEY)
    if type(layout) is not int:
        raise cursor.error(PACKED_LAYOUT_KEY, "must be an integer where tensors are packed", None)
    if layout != PACKED_LAYOUT:
        what = f"weights are packed in layout {layout}, and this edgeformer reads layout {PACKED_LAYOUT}"
        raise UnsupportedModelError(f"{cursor.file.path}: {what}: pack the original file again")


def _read_version(cursor: _Cursor) -> int:
    if cursor.file.size == 0:
        raise cursor.error("magic", "the file is empty")
    magic = cursor.take(min(4, cursor.file.size), "magic")
    if magic != MAGIC:
        advice = "convert its source again" if magic in _OLD_MAGICS else "edgeformer convert makes one of a checkpoint"
        raise cursor.error("magic", f"is {magic!r}, and a GGUF file begins with {MAGIC!r}: {advice}", 0)
    version = cursor.uint32("version")
    if version and version & 0xFFFF == 0:
        raise UnsupportedModelError(f"{cursor.file.path}: is big-endian GGUF: convert the model for little endian")
    if version == 1:
        raise UnsupportedModelError(f"{cursor.file.path}: is GGUF version 1: convert the model again")
    if version not in (2, VERSION):
        raise cursor.error("version", f"is {version}, and edgeformer reads 2 and {VERSION}", 4)
    return version


def _read_tensor(cursor: _Cursor, index: int) -> tuple[int, TensorInfo]:
    """A tensor's entry and its byte position; the tensor's offset is still counted from the start of the data."""
    start = cursor.offset
    name = cursor.string(MAX_NAME_BYTES, f"tensor {index} name")
    field = f"tensor {quote(name)}"
    rank = cursor.uint32(f"{field} rank")
    if not 1 <= rank <= MAX_RANK:
        raise cursor.error(f"{field} rank", f"is {rank}, not 1 to {MAX_RANK}", cursor.offset - 4)
    extents = [cursor.uint64(f"{field} extent") for _ in range(rank)]
    type_id = cursor.uint32(f"{field} type")
    offset = cursor.uint64(f"{field} offset")
    packed = type_id & ~PACKED in STORED_TYPES and type_id & PACKED != 0
    if type_id not in STORED_TYPES and not packed:
        raise cursor.error(f"{field} type", f"is {type_id}, which is no known type", cursor.offset - 12)
    stored = STORED_TYPES[type_id & ~PACKED]
    if 0 in extents or math.prod(extents) >= 1 << 63:
        raise cursor.error(f"{field} shape", f"{extents} has no elements, or too many for 63 bits", start)
    if extents[0] % stored.block_size:
        what = f"rows of {extents[0]} are not whole {stored.name} blocks of {stored.block_size}"
        raise cursor.error(f"{field} shape", what, start)
    if packed and rank not in (2, 3):
        raise cursor.error(f"{field} rank", f"is {rank}, and packed tensors have two or three axes", start)
    num_rows = math.prod(extents[1:])
    nbytes = (packed_rows(num_rows) if packed else num_rows) * stored.row_bytes(extents[0])
    return start, TensorInfo(name, tuple(reversed(extents)), stored.id, offset, nbytes, packed=packed)


def packed_rows(num_rows: int) -> int:
    """Rows that a packed tensor takes up in the file."""
    return -(-num_rows // PACKED_ROWS) * PACKED_ROWS


def _place(cursor: _Cursor, stored: list[tuple[int, TensorInfo]], alignment: int) -> dict[str, TensorInfo]:
    """The tensors with their place in the file, after checking that each lies inside it, aligned, and over no other."""
    data_start = -(-cursor.offset // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for start, info in stored:
        field = f"tensor {quote(info.name)}"
        if not info.name or info.name in tensors:
            raise cursor.error(field, "is there twice" if info.name else "has no name", start)
        if info.offset % alignment:
            raise cursor.error(f"{field} offset", f"is {info.offset}, not a multiple of {alignment}", start)
        end = data_start + info.offset + info.nbytes
        if end > cursor.file.size:
            what = f"ends at byte {end} of a file of {cursor.file.size}: the file is cut short or damaged"
            raise cursor.error(field, what, start)
        if info.packed and (data_start + info.offset) % PACKED_ALIGNMENT:
            place = data_start + info.offset
            what = f"leads to byte {place}, and packed weights need a multiple of {PACKED_ALIGNMENT}"
            raise cursor.error(f"{field} offset", what, start)
        tensors[info.name] = replace(info, offset=data_start + info.offset)
    placed = sorted(tensors.values(), key=lambda info: info.offset)
    for before, after in pairwise(placed):
        if before.offset + before.nbytes > after.offset:
            raise cursor.error(f"tensor {quote(after.name)}", f"overlaps tensor {quote(before.name)}", after.offset)
    data_end = placed[-1].offset + placed[-1].nbytes if placed else cursor.offset
    surplus = cursor.file.size - -(-data_end // alignment) * alignment
    if surplus > 0:
        raise cursor.error("end of the file", f"{surplus} bytes follow the last tensor", data_end)
    return tensors
