"""safetensors: what is read, and every way to lie in the header by its named error."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters.sources import safetensors
from edgeformer.converters.sources.safetensors import DTYPES, SafetensorsFile
from edgeformer.errors import CheckpointFormatError, ModelFileChangedError, ModelNotFoundError, UnsupportedModelError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.file_makers import put, safetensors_file


def entry(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def made(header: dict[str, Any], data: bytes) -> bytes:
    return safetensors_file(json.dumps(header).encode(), data)


DATA = np.arange(10, dtype="<f4").tobytes()
VALID = made({"__metadata__": {"format": "pt"}, "a": entry(0, 16, [2, 2]), "b": entry(16, 40, [6])}, DATA)


def test_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(VALID)
    file = SafetensorsFile(path)
    assert file.metadata == {"format": "pt"}
    assert {name: (e.dtype, e.shape, e.nbytes) for name, e in file.entries.items()} == {
        "a": ("float32", (2, 2), 16),
        "b": ("float32", (6,), 24),
    }
    np.testing.assert_array_equal(file.read("b").view("<f4"), np.arange(4, 10))
    file.close()


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(tmp_path: Path, dtype: str) -> None:
    name, item_bytes = DTYPES[dtype]
    path = tmp_path / "a.safetensors"
    path.write_bytes(made({"w": entry(0, 6 * item_bytes, [2, 3], dtype)}, bytes(6 * item_bytes)))
    assert SafetensorsFile(path).entries["w"].dtype == name
    assert name == "bfloat16" or np.dtype(name).itemsize == item_bytes


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"{}", b""),
        (b"{}      ", b""),
        (json.dumps({"empty": entry(0, 0, [0, 3]), "w": entry(0, 4), "last": entry(4, 4, [2, 0])}).encode(), bytes(4)),
        (json.dumps({"scalar": entry(0, 4, [])}).encode(), bytes(4)),
        (json.dumps({"b": entry(4, 8), "a": entry(0, 4)}).encode(), bytes(8)),
    ],
)
def test_unusual_but_valid(tmp_path: Path, header: bytes, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_file(header, data))
    assert set(SafetensorsFile(path).entries) == set(json.loads(header))


def one(**changes: Any) -> bytes:
    return made({"w": {**entry(0, 40), **changes}}, DATA)


FAULTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "header length"),
    "seven bytes": (bytes(7), "header length"),
    "length 0": (struct.pack("<Q", 0), "opening brace"),
    "length 2^63": (safetensors_file(b"{}", b"", 1 << 63), "at most"),
    "length 2^64-1": (safetensors_file(b"{}", b"", (1 << 64) - 1), "at most"),
    "length over the limit": (safetensors_file(b"{}", b"", 100_000_001), "at most"),
    "length past the end": (safetensors_file(b"{}", b"", 3), "cut short"),
    "leading space": (safetensors_file(b' {"w": {}}'), "opening brace"),
    "leading byte order mark": (safetensors_file(b"\xef\xbb\xbf{}"), "opening brace"),
    "list": (safetensors_file(b"[]"), "opening brace"),
    "not JSON": (safetensors_file(b"{w}"), "JSON"),
    "not UTF-8": (safetensors_file(b'{"\xff": 1}'), "UTF-8"),
    "name twice": (safetensors_file(b'{"w": {"dtype": "F32"}, "w": {}}'), "twice"),
    "metadata twice": (safetensors_file(b'{"__metadata__": {}, "__metadata__": {}}'), "twice"),
    "metadata of numbers": (made({"__metadata__": {"a": 1}}, b""), "__metadata__"),
    "metadata that is a list": (made({"__metadata__": []}, b""), "__metadata__"),
    "metadata 10^5 deep": (safetensors_file(b'{"__metadata__": ' + b'{"a":' * 10**5), "nested"),
    "shape of 5,000 digits": (safetensors_file(b'{"w": {"shape": [' + b"9" * 5000 + b"]}}"), "digits"),
    "rank 10^5": (one(shape=[1] * 10**5), "at most 16"),
    "shape product 2^128": (one(shape=[1 << 62, 1 << 62, 16]), "takes"),
    "shape product that wraps to the right one": (one(shape=[(1 << 62) + 10]), "takes"),
    "shape 2^63": (one(shape=[1 << 63]), "count"),
    "shape of nothing times 2^62": (made({"w": entry(0, 40), "e": entry(40, 40, [0, 1 << 62])}, DATA), "empty"),
    "shape -1": (one(shape=[-10]), "count"),
    "shape two negatives": (one(shape=[-5, -2]), "count"),
    "shape of a fraction": (one(shape=[10.0]), "count"),
    "shape of true": (one(shape=[True]), "count"),
    "shape of text": (one(shape="10"), "list"),
    "shape too small": (one(shape=[9]), "takes"),
    "shape too large": (one(shape=[11]), "takes"),
    "begin > end": (one(data_offsets=[40, 0]), "data_offsets"),
    "offset -1": (one(data_offsets=[-1, 39]), "count"),
    "offset 2^63": (one(data_offsets=[1 << 63, (1 << 63) + 40]), "count"),
    "three offsets": (one(data_offsets=[0, 40, 80]), "data_offsets"),
    "one offset": (one(data_offsets=[0]), "data_offsets"),
    "end past the file": (made({"w": entry(0, 44)}, DATA), "cut short"),
    "hole at the start": (made({"w": entry(4, 40)}, DATA), "hole"),
    "hole between": (made({"a": entry(0, 16), "b": entry(20, 40)}, DATA), "hole"),
    "overlap": (made({"a": entry(0, 20), "b": entry(16, 40)}, DATA), "overlaps"),
    "one place twice": (made({"a": entry(0, 40), "b": entry(0, 40)}, DATA), "overlaps"),
    "trailing byte": (VALID + b"\0", "follow"),
    "trailing bytes": (VALID + bytes(100), "follow"),
    "one byte less": (VALID[:-1], "cut short"),
    "bytes without tensors": (safetensors_file(b"{}", b"hidden"), "follow"),
    "field missing": (made({"w": {"dtype": "F32", "shape": [10]}}, DATA), "fields"),
    "field too many": (one(more=1), "fields"),
    "entry of text": (made({"w": "F32"}, DATA), "fields"),
    "type of a number": (one(dtype=32), "dtype"),
    "type of a list": (one(dtype=["F32"]), "dtype"),
    "name with ../": (made({"../../w": entry(0, 40)}, DATA), "name"),
    "name with ..\\": (made({"a\\..\\w": entry(0, 40)}, DATA), "name"),
    "empty name": (made({"": entry(0, 40)}, DATA), "name"),
    "name with NUL": (made({"w\0": entry(0, 40)}, DATA), "name"),
    "name that moves the cursor": (made({"\x1b[2J": entry(0, 40)}, DATA), "name"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(tmp_path: Path, name: str) -> None:
    raw, message = FAULTS[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw)
    with pytest.raises(CheckpointFormatError, match=message) as caught:
        SafetensorsFile(path)
    assert caught.value.path == str(path)
    assert caught.value.offset is not None
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "C64", "f32", "F4"])
def test_types_that_are_not_read_are_named(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(one(dtype=dtype))
    with pytest.raises(UnsupportedModelError, match=f"'w' has the type '{dtype}'"):
        SafetensorsFile(path)


def test_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_file(b"{}", b"", 101_000_000))
    os.truncate(path, 1 << 40)
    tracemalloc.start()
    with pytest.raises(CheckpointFormatError, match="at most"):
        SafetensorsFile(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_number_of_tensors_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 1)
    (tmp_path / "a.safetensors").write_bytes(VALID)
    with pytest.raises(CheckpointFormatError, match="2 tensors, and at most 1"):
        SafetensorsFile(tmp_path / "a.safetensors")


def test_change_while_open_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(VALID)
    file = SafetensorsFile(path)
    os.truncate(path, len(VALID) - 1)
    with pytest.raises(ModelFileChangedError):
        file.read("a")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        SafetensorsFile(tmp_path / "a.safetensors")


def survives(path: Path, raw: bytes) -> None:
    put(path, raw)
    try:
        file = SafetensorsFile(path)
    except (CheckpointFormatError, UnsupportedModelError):
        return
    for name in file.entries:
        file.read(name)
    file.close()


def test_every_truncation_is_named(tmp_path: Path) -> None:
    for length in range(len(VALID)):
        put(tmp_path / "a.safetensors", VALID[:length])
        with pytest.raises(CheckpointFormatError):
            SafetensorsFile(tmp_path / "a.safetensors")


@pytest.mark.parametrize("flip", [0x01, 0x08, 0x80])
def test_every_byte_flipped(tmp_path: Path, flip: int) -> None:
    for index in range(len(VALID) - len(DATA)):
        raw = bytearray(VALID)
        raw[index] ^= flip
        survives(tmp_path / "a.safetensors", bytes(raw))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.sampled_from(b'0123456789[]{}",:')), max_size=6))
def test_random_damage(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(VALID)
    for index, value in changes:
        raw[index] = value
    survives(tmp_path / "a.safetensors", bytes(raw))
