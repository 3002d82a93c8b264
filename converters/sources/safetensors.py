"""safetensors files, read strictly.

A file is a uint64 (little endian), that many bytes of JSON, and the tensors' bytes. The JSON maps names to dtype, shape
and begin and end, counted from the JSON's end; the tensors must cover the rest of the file exactly, without hole or
overlap. Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointFormatError, PathLike, UnsupportedModelError, quote
from ...files.json_file import parse_json
from ...files.storage import InputFile

__all__ = ["SafetensorsFile"]

MAX_HEADER_BYTES = 100_000_000
MAX_RANK = 16
MAX_EXTENTS = 1 << 59  # product of a shape's extents but zeros: a larger one has no array, even of no elements
MAX_TENSORS = 1 << 18

DTYPES: Final[dict[str, tuple[str, int]]] = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
"""NumPy's name (or bfloat16) and bytes, by safetensors' name."""


@dataclass(frozen=True)
class Entry:
    """A tensor: its type as in `DTYPES`' names, its shape, and its place in the file in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


class SafetensorsFile:
    """An open safetensors file.

    Attributes
    ----------
    path : str
    entries : dict of str to Entry
    metadata : dict of str to str
        ``__metadata__`` of the file.

    Raises
    ------
    ModelNotFoundError
        There is no regular file that may be read.
    CheckpointFormatError
        The file breaks the format's rules.
    UnsupportedModelError
        A tensor has a type that is not read.
    """

    def __init__(self, path: PathLike) -> None:
        self._file = InputFile(path)
        self.path = self._file.path
        try:
            self.entries, self.metadata = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, name: str) -> NDArray[np.uint8]:
        """The bytes of a tensor. Raises ModelFileChangedError where the file is not the one that was opened."""
        entry = self.entries[name]
        self._file.check_unchanged()
        return self._file.read_array(entry.offset, entry.nbytes)

    def _error(self, offset: int, field: str, what: str) -> CheckpointFormatError:
        return CheckpointFormatError(self.path, offset, field, what)

    def _read_header(self) -> tuple[dict[str, Entry], dict[str, str]]:
        size = self._file.size
        if size < 8:
            raise self._error(0, "header length", f"needs 8 bytes, and the file has {size}")
        length = int.from_bytes(self._file.read(0, 8), "little")
        if length > MAX_HEADER_BYTES:
            raise self._error(0, "header length", f"is {length}, and at most {MAX_HEADER_BYTES} bytes are read")
        if length > size - 8:
            raise self._error(0, "header length", f"is {length}, and {size - 8} bytes follow: the file is cut short")
        raw = self._file.read(8, length)
        if raw[:1] != b"{":
            raise self._error(8, "header", f"begins with {raw[:1]!r}, and must with an opening brace")
        header = parse_json(raw, self.path, 8)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise self._error(8, "__metadata__", "is not a map from text to text")
        if len(header) > MAX_TENSORS:
            raise self._error(8, "header", f"has {len(header)} tensors, and at most {MAX_TENSORS} are read")
        entries = {name: self._entry(name, value, 8 + length) for name, value in header.items()}
        self._check_cover(entries, 8 + length)
        return entries, metadata

    def _entry(self, name: str, value: Any, data_start: int) -> Entry:
        field = f"tensor {quote(name)}"
        if not name or not name.isprintable() or ".." in name.replace("\\", "/").split("/"):
            raise self._error(8, field, "has a name that no tensor has")
        if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
            raise self._error(8, field, "has other fields than dtype, shape and data_offsets")
        dtype = value["dtype"]
        shape = self._numbers(value["shape"], MAX_RANK, f"{field} shape")
        offsets = self._numbers(value["data_offsets"], 2, f"{field} data_offsets")
        if not isinstance(dtype, str):
            raise self._error(8, f"{field} dtype", "is not text")
        if dtype not in DTYPES:
            what = f"{field} has the type {quote(dtype)}, and those read are {', '.join(DTYPES)}"
            raise UnsupportedModelError(f"{self.path}: {what}: save the tensor in one of these")
        name_of_dtype, item_bytes = DTYPES[dtype]
        if 0 in shape and math.prod(filter(None, shape)) >= MAX_EXTENTS:
            raise self._error(8, f"{field} shape", f"{list(shape)} is no array's, not even an empty one's")
        nbytes = math.prod(shape) * item_bytes
        if len(offsets) != 2 or offsets[1] - offsets[0] != nbytes:
            what = f"are {list(offsets)}, and shape {list(shape)} of {dtype} takes {nbytes} bytes"
            raise self._error(8, f"{field} data_offsets", what)
        return Entry(name_of_dtype, shape, data_start + offsets[0], nbytes)

    def _numbers(self, values: Any, limit: int, field: str) -> tuple[int, ...]:
        if not isinstance(values, list) or len(values) > limit:
            raise self._error(8, field, f"is not a list of at most {limit} numbers")
        if any(type(value) is not int or not 0 <= value < 1 << 63 for value in values):
            raise self._error(8, field, "holds something that is not a count")
        return tuple(values)

    def _check_cover(self, entries: dict[str, Entry], data_start: int) -> None:
        """The tensors must follow each other from the header's end to the file's end."""
        position = data_start
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
            if entry.offset != position:
                kind = "overlaps" if entry.offset < position else "leaves a hole after"
                raise self._error(entry.offset, f"tensor {quote(name)}", f"{kind} what ends at byte {position}")
            position += entry.nbytes
        if position > self._file.size:
            what = f"end at byte {position} of a file of {self._file.size}: the file is cut short"
            raise self._error(position, "tensors", what)
        if position < self._file.size:
            raise self._error(position, "end of the file", f"{self._file.size - position} bytes follow the last tensor")
