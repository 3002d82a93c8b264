"""JSON from files that nobody vouches for: bounded in size, depth and digits, without duplicate keys or NaN."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from ..errors import CheckpointFormatError, ModelFormatError, PathLike, quote
from .storage import InputFile

__all__ = ["parse_json", "read_json", "read_json_object"]

MAX_FILE_BYTES = 1 << 26
MAX_DEPTH = 64
MAX_VALUES = 1 << 22  # Python takes tens of bytes for what a file can say in two
MAX_DIGITS = 64

_OTHER_BYTES = bytes(byte for byte in range(256) if byte not in b'"[]{},')


def read_json(path: PathLike, max_bytes: int = MAX_FILE_BYTES) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : path-like
    max_bytes : int
        A larger file is refused before it is read.

    Returns
    -------
    dict, list, str, int, float, bool or None

    Raises
    ------
    ModelNotFoundError
        There is no regular file that may be read.
    CheckpointFormatError
        It is too large, not UTF-8, not JSON, has more than four million values, is nested deeper than 64 levels, or has
        a key twice, NaN, infinity or a number of more than 64 digits.
    """
    with InputFile(path) as file:
        if file.size > max_bytes:
            what = f"the file has {file.size} bytes, and at most {max_bytes} are read"
            raise CheckpointFormatError(path, 0, "JSON", what)
        return parse_json(file.read(0, file.size), path)


def read_json_object(path: PathLike, max_bytes: int = MAX_FILE_BYTES) -> dict[str, Any]:
    """Read a JSON file whose root is an object. Raises as `read_json` does, and if it is something else."""
    root = read_json(path, max_bytes)
    if not isinstance(root, dict):
        raise CheckpointFormatError(path, 0, "JSON", f"is a {type(root).__name__}, and must be an object")
    return root


def parse_json(
    raw: bytes,
    path: PathLike,
    offset: int | None = 0,
    field: str = "JSON",
    error: type[ModelFormatError] = CheckpointFormatError,
) -> Any:
    """JSON from bytes that stand at `offset` of the file `path`, as `field`. Raises `error` where `read_json` would."""

    def refuse(what: str, position: int | None = None) -> ModelFormatError:
        return error(path, offset if position is None or offset is None else offset + position, field, what)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        items = dict(pairs)
        if len(items) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise refuse(f"key {quote(twice)} is there twice")
        return items

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise refuse(f"a number has {len(digits)} digits, and at most {MAX_DIGITS} are read")
        return int(digits)

    def real(digits: str) -> float:
        value = float(digits) if len(digits) <= MAX_DIGITS else math.inf
        if math.isinf(value):
            raise refuse(f"the number {quote(digits)} is too long or too large")
        return value

    def constant(name: str) -> float:
        raise refuse(f"{name} is not JSON, nor a number that a model can use")

    marks = _structure(raw)
    if len(marks) > MAX_VALUES:
        raise refuse(f"has more than {MAX_VALUES} values")
    if _depth(marks) > MAX_DEPTH:
        raise refuse(f"is nested more than {MAX_DEPTH} levels deep")
    try:
        text = raw.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=unique, parse_int=integer, parse_float=real, parse_constant=constant)
    except UnicodeDecodeError as wrong:
        raise refuse(f"is not UTF-8 ({wrong.reason})", wrong.start) from None
    except json.JSONDecodeError as wrong:
        position = len(text[: wrong.pos].encode(errors="surrogatepass"))
        raise refuse(f"{wrong.msg} (line {wrong.lineno})", position) from None


def _structure(raw: bytes) -> bytes:
    """The brackets and commas outside of strings. Up to the first error in it this reads text as JSON does."""
    if b"\\" in raw:
        raw = re.sub(rb"\\.", b"", raw, flags=re.DOTALL)  # so that every quotation mark left begins or ends a string
    return re.sub(rb'"[^"]*"', b"", raw.translate(None, _OTHER_BYTES))


def _depth(marks: bytes) -> int:
    """How deep the brackets nest, found without recursion."""
    steps = np.zeros(256, dtype=np.int8)
    steps[list(b"[{")] = 1
    steps[list(b"]}")] = -1
    return int(np.cumsum(steps[np.frombuffer(marks, dtype=np.uint8)], dtype=np.int32).max(initial=0))
