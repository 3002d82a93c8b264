"""GGUF's bytes, encoded: values, strings and the head of a file. `gguf_bytes.py` has the format."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import numpy as np

from ...errors import InvalidInputError, quote
from .layout import ARRAY, KINDS, MAGIC, PACKED, SCALARS, VERSION, TensorInfo, Value

_LENGTH = struct.Struct("<Q")


def encode_value(key: str, value: Value, kind: str | None) -> bytes:
    """A metadata value with its type, as the file has it.

    Parameters
    ----------
    key : str
        For messages.
    value : Value
    kind : str, optional
        A key of `KINDS`; of an array, the kind of its items. Without it: bool, string, float32; uint32 for one integer
        and int32 for several, or the first of int32, uint64, int64 that holds them.

    Raises
    ------
    InvalidInputError
        The kind is unknown, cannot hold the value, or is needed because an empty list has none; text is not Unicode.
    """
    is_array = isinstance(value, (list, tuple, np.ndarray))
    kind = _kind_of(key, value, is_array) if kind is None else kind
    if kind not in KINDS:
        raise InvalidInputError(f"{key}: unknown kind {quote(kind)}: choose one of {', '.join(KINDS)}")
    prefix = struct.pack("<I", KINDS[kind])
    if is_array:
        prefix = struct.pack("<I", ARRAY) + prefix + _LENGTH.pack(len(value))
    if kind == "string":
        return prefix + b"".join(encode_string(key, item) for item in (value if is_array else [value]))
    return prefix + _encode_numbers(key, value, kind)


def encode_string(key: str, text: str) -> bytes:
    """Length and UTF-8. Raises InvalidInputError for anything but text."""
    if not isinstance(text, str):
        raise InvalidInputError(f"{key}: {quote(text)} is not of kind string")
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{key}: {quote(text)} is not valid Unicode ({error.reason})") from None
    return _LENGTH.pack(len(raw)) + raw


def _kind_of(key: str, value: Value, is_array: bool) -> str:
    if isinstance(value, np.ndarray):
        return str(value.dtype)
    items = value if is_array else [value]
    if not len(items):
        raise InvalidInputError(f"{key}: an empty list needs the kind of its items")
    if all(isinstance(item, str) for item in items):
        return "string"
    if all(isinstance(item, (bool, np.bool_)) for item in items):
        return "bool"
    if not all(isinstance(item, (int, np.integer)) for item in items):
        return "float32"
    for kind in ("int32" if is_array else "uint32", "int32", "uint64"):
        limits = np.iinfo(SCALARS[KINDS[kind]])
        if limits.min <= min(items) and max(items) <= limits.max:
            return kind
    return "int64"


def _encode_numbers(key: str, value: Value, kind: str) -> bytes:
    dtype = SCALARS[KINDS[kind]]
    try:
        array = np.asarray(value)
    except ValueError:
        raise InvalidInputError(f"{key}: {quote(value)} is not a plain list") from None
    if array.size and array.dtype.kind not in {"b": "b", "f": "iuf"}.get(dtype.kind, "iu"):
        raise InvalidInputError(f"{key}: {quote(value)} is not of kind {kind}")
    with np.errstate(over="ignore", invalid="ignore"):
        encoded = array.astype(dtype)
    # An integer must come through as it is; a float may be rounded, but not to infinity.
    same = encoded == array if dtype.kind != "f" else np.isfinite(encoded) | ~np.isfinite(array)
    if array.ndim > 1 or not np.all(same):
        raise InvalidInputError(f"{key}: {quote(value)} does not fit {kind}")
    return encoded.tobytes()


def encode_head(metadata: Mapping[str, bytes], tensors: Iterable[TensorInfo], alignment: int) -> bytes:
    """Everything before the weights, padded: values come from `encode_value`, offsets count from the data's start."""
    entries = []
    for info in tensors:
        extents = struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *reversed(info.shape))
        type_id = info.type | PACKED if info.packed else info.type
        entries.append(encode_string("tensor name", info.name) + extents + struct.pack("<IQ", type_id, info.offset))
    head = MAGIC + struct.pack("<IQQ", VERSION, len(entries), len(metadata))
    keys = b"".join(encode_string("key", key) + value for key, value in metadata.items())
    head += keys + b"".join(entries)
    return head + bytes(-len(head) % alignment)
