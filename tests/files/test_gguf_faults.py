"""GGUF files that lie. Each lie has its named error, at its byte; none costs time or memory, and none crashes."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from edgeformer.errors import ModelFormatError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.file_makers import gguf_file, gguf_key, gguf_string, gguf_tensor, put


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def array(item_type: int, count: int, payload: bytes = b"") -> bytes:
    return u32(item_type) + u64(count) + payload


WEIGHTS = np.arange(64, dtype="<f4").tobytes()
VALID = gguf_file(
    [
        gguf_key("general.architecture", 8, gguf_string("test")),
        gguf_key("general.alignment", 4, u32(32)),
        gguf_key("test.count", 4, u32(2)),
        gguf_key("test.flag", 7, b"\1"),
        gguf_key("test.real", 6, struct.pack("<f", 0.5)),
        gguf_key("test.words", 9, array(8, 2, gguf_string("é") + gguf_string("b"))),
        gguf_key("test.numbers", 9, array(5, 3, struct.pack("<3i", 1, 2, 3))),
    ],
    [gguf_tensor("a", [32], 0, 0), gguf_tensor("b", [8, 4], 0, 128)],
    WEIGHTS,
)


def key(name: str, value_type: int, payload: bytes) -> bytes:
    return gguf_file([gguf_key(name, value_type, payload)])


def tensors(*entries: bytes, data: bytes = WEIGHTS, alignment: int = 32) -> bytes:
    return gguf_file([], entries, data, alignment=alignment)


def aligned(value_type: int, payload: bytes) -> bytes:
    keys = [gguf_key("general.alignment", value_type, payload)]
    return gguf_file(keys, [gguf_tensor("a", [32], 0, 0)], WEIGHTS[:128])


FAULTS: dict[str, tuple[bytes, str]] = {
    "magic": (gguf_file(magic=b"GGUX"), "magic"),
    "magic of a zip": (gguf_file(magic=b"PK\3\4"), "convert"),
    "magic of before GGUF": (gguf_file(magic=b"tjgg"), "convert its source"),
    "version 0": (gguf_file(version=0), "version"),
    "version 4": (gguf_file(version=4), "version"),
    "key count 2^60": (gguf_file(num_keys=1 << 60), "key count"),
    "tensor count 2^60": (gguf_file(num_tensors=1 << 60), "tensor count"),
    "tensor count 2^64-1": (gguf_file(num_tensors=(1 << 64) - 1), "tensor count"),
    "key count beyond the limit": (gguf_file(num_keys=70000, data=bytes(1 << 21)), "at most 65536"),
    "one key too many": (gguf_file([gguf_key("k", 4, u32(1))], num_keys=2, data=bytes(64)), "key 1"),
    "key length 2^63": (gguf_file([u64(1 << 63) + bytes(64)]), "length"),
    "key longer than allowed": (gguf_file([gguf_key("k" * 70000, 4, u32(1))]), "at most 65535"),
    "empty key": (key("", 4, u32(1)), "empty"),
    "key not UTF-8": (gguf_file([gguf_key(b"\xff\xfe", 4, u32(1))]), "UTF-8"),
    "key there twice": (gguf_file([gguf_key("k", 4, u32(1)), gguf_key("k", 4, u32(1))]), "twice"),
    "string length 2^64-1": (key("k", 8, u64((1 << 64) - 1)), "'k' length"),
    "string one byte too long": (key("k", 8, u64(1000) + bytes(10)), "'k' length"),
    "string not UTF-8": (key("k", 8, gguf_string(b"ab\xc3(")), "UTF-8"),
    "string with a surrogate": (key("k", 8, gguf_string(b"\xed\xa0\x80")), "UTF-8"),
    "unknown value type": (key("k", 13, bytes(64)), "value type 13"),
    "value type 2^32-1": (key("k", (1 << 32) - 1, bytes(64)), "value type"),
    "bool of 2": (key("k", 7, b"\2"), "bool"),
    "array of arrays": (key("k", 9, array(9, 1, array(4, 1, u32(1)))), "array of arrays"),
    "unknown item type": (key("k", 9, array(13, 1, bytes(64))), "item type 13"),
    "array count 2^60": (key("k", 9, array(0, 1 << 60)), "'k' count"),
    "array count that overflows": (key("k", 9, array(10, (1 << 61) + 1, bytes(64))), "'k' count"),
    "string array count 2^60": (key("k", 9, array(8, 1 << 60)), "'k' count"),
    "string array longer than the file": (key("k", 9, array(8, 64, bytes(64))), "'k' count"),
    "string of an array past the end": (key("k", 9, array(8, 2, gguf_string("a") + u64(1 << 40))), r"'k'\[1\] length"),
    "string of an array not UTF-8": (key("k", 9, array(8, 2, gguf_string("a") + gguf_string(b"\xff"))), r"'k'\[1\]"),
    "bool array of 2": (key("k", 9, array(7, 3, b"\0\1\2")), "bool"),
    "long bool array of 2": (key("k", 9, array(7, 2000, bytes(1999) + b"\2")), "bool"),
    "alignment 0": (aligned(4, u32(0)), "general.alignment"),
    "alignment 3": (aligned(4, u32(3)), "general.alignment"),
    "alignment 4": (aligned(4, u32(4)), "general.alignment"),
    "alignment 2^31": (aligned(4, u32(1 << 31)), "general.alignment"),
    "alignment as uint64": (aligned(10, u64(32)), "general.alignment"),
    "alignment as int32": (aligned(5, struct.pack("<i", -32)), "general.alignment"),
    "alignment as text": (aligned(8, gguf_string("32")), "general.alignment"),
    "alignment as array": (aligned(9, array(4, 1, u32(32))), "general.alignment"),
    "alignment as bool": (aligned(7, b"\1"), "general.alignment"),
    "empty tensor name": (tensors(gguf_tensor("", [64], 0, 0)), "no name"),
    "tensor there twice": (tensors(gguf_tensor("a", [32], 0, 0), gguf_tensor("a", [32], 0, 128)), "twice"),
    "tensor name not UTF-8": (tensors(gguf_tensor(b"\xff", [64], 0, 0)), "UTF-8"),
    "rank 0": (tensors(gguf_tensor("a", [], 0, 0)), "rank"),
    "rank 5": (tensors(gguf_tensor("a", [1] * 5, 0, 0)), "rank"),
    "rank 2^32-1": (tensors(gguf_string("a") + u32((1 << 32) - 1) + bytes(64)), "rank"),
    "dimension 0": (tensors(gguf_tensor("a", [32, 0], 0, 0)), "shape"),
    "product 2^64": (tensors(gguf_tensor("a", [1 << 32, 1 << 32], 0, 0)), "shape"),
    "product (2^63-1, 2)": (tensors(gguf_tensor("a", [(1 << 63) - 1, 2], 0, 0)), "shape"),
    "product that wraps to a small one": (tensors(gguf_tensor("a", [1 << 33, 1 << 31, 4], 0, 0)), "shape"),
    "bytes that wrap": (tensors(gguf_tensor("a", [1 << 62], 0, 0)), "ends at byte"),
    "unknown tensor type": (tensors(gguf_tensor("a", [64], 99, 0)), "type"),
    "tensor type that was removed": (tensors(gguf_tensor("a", [64], 4, 0)), "type"),
    "rows that are not whole blocks": (tensors(gguf_tensor("a", [33, 2], 8, 0)), "q8_0 blocks"),
    "misaligned offset": (tensors(gguf_tensor("a", [8], 0, 4)), "multiple of 32"),
    "offset 2^63": (tensors(gguf_tensor("a", [8], 0, 1 << 63)), "ends at byte"),
    "offset that wraps": (tensors(gguf_tensor("a", [8], 0, (1 << 64) - 32)), "ends at byte"),
    "tensor past the end": (tensors(gguf_tensor("a", [72], 0, 0)), "ends at byte"),
    "tensors that overlap": (tensors(gguf_tensor("a", [40], 0, 0), gguf_tensor("b", [24], 0, 128)), "overlaps"),
    "tensors at one place": (tensors(gguf_tensor("a", [32], 0, 0), gguf_tensor("b", [8], 0, 0)), "overlaps"),
    "bytes after the last tensor": (VALID + bytes(32), "follow"),
    "one byte after the last tensor": (VALID + b"\0", "follow"),
    "one byte less": (VALID[:-1], "ends at byte"),
    "nothing but the magic": (b"GGUF", "version"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named(tmp_path: Path, name: str) -> None:
    raw, message = FAULTS[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match=message) as caught:
            GGUFFile(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(raw) + (1 << 17)
    assert caught.value.path == str(path)
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= len(raw)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (gguf_file(version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack(">IQQ", 2, 0, 0), "big-endian"),
    ],
)
def test_other_kinds_of_gguf_are_refused_by_name(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(raw)
    with pytest.raises(UnsupportedModelError, match=message):
        GGUFFile(path)


def use(path: Path) -> None:
    """Open the file and read all of it."""
    with GGUFFile(path) as file:
        for name in file.tensors:
            file.dequantize(name)


def survives(path: Path, raw: bytes) -> None:
    """The only outcomes are the errors of bad files, and success where the damage hit a value and not the structure."""
    put(path, raw)
    try:
        use(path)
    except (ModelFormatError, UnsupportedModelError) as error:
        assert str(path) in str(error)


def test_valid_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(VALID)
    with GGUFFile(path) as file:
        np.testing.assert_array_equal(file.dequantize("b"), np.arange(32, 64, dtype=np.float32).reshape(4, 8))


def test_every_truncation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for length in range(len(VALID)):
        put(path, VALID[:length])
        with pytest.raises(ModelFormatError):
            use(path)


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_byte_of_the_head_flipped(tmp_path: Path, flip: int) -> None:
    path = tmp_path / "a.gguf"
    for index in range(len(VALID) - len(WEIGHTS)):
        raw = bytearray(VALID)
        raw[index] ^= flip
        survives(path, bytes(raw))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(VALID)),
    st.binary(max_size=16),
    st.integers(0, 16),
)
def test_random_damage(
    tmp_path: Path, changes: list[tuple[int, int]], position: int, inserted: bytes, removed: int
) -> None:
    raw = bytearray(VALID)
    for index, value in changes:
        raw[index] = value
    raw[position : position + removed] = inserted
    survives(tmp_path / "a.gguf", bytes(raw))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_random_bytes_after_a_good_start(tmp_path: Path, raw: bytes) -> None:
    survives(tmp_path / "a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2, 2) + raw)


LARGE = 1 << 20
BOMBS = {
    "empty strings": key("k", 9, array(8, LARGE // 8, bytes(LARGE))),
    "strings over the limit": key("k", 9, array(8, (1 << 22) + 1, bytes(8 << 22) + bytes(8))),
    "small keys": gguf_file([gguf_key(f"{i:05}", 0, b"\0") for i in range(50000)]),
    "small arrays": gguf_file([gguf_key(f"{i:05}", 9, array(0, 20, bytes(20))) for i in range(20000)]),
    "arrays of a thousand": gguf_file([gguf_key(f"{i:05}", 9, array(0, 1025, bytes(1025))) for i in range(2000)]),
    "small tensors": gguf_file([], [gguf_tensor(f"{i:05}", [1], 0, 32 * i) for i in range(20000)], bytes(32 * 20000)),
    "one long string": key("k", 8, gguf_string("x" * LARGE)),
    "one long array": key("k", 9, array(0, LARGE, bytes(LARGE))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_large_heads_end(tmp_path: Path, name: str) -> None:
    """Milliseconds a megabyte; were a step quadratic, the suite would not end."""
    survives(tmp_path / "a.gguf", BOMBS[name])


def test_long_values_are_in_memory_once(tmp_path: Path) -> None:
    size = 1 << 23
    for raw in (key("k", 8, gguf_string("x" * size)), key("k", 9, array(0, size, bytes(size)))):
        path = tmp_path / "a.gguf"
        path.write_bytes(raw)
        tracemalloc.start()
        GGUFFile(path).close()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * size + (1 << 21)


def test_vocabulary_larger_than_the_window(tmp_path: Path) -> None:
    words = [f"token {i} é" * (1 + i % 7) for i in range(60000)]
    numbers = np.arange(60000, dtype="<f4")
    path = tmp_path / "a.gguf"
    path.write_bytes(
        gguf_file(
            [
                gguf_key("words", 9, array(8, len(words), b"".join(map(gguf_string, words)))),
                gguf_key("numbers", 9, array(6, len(numbers), numbers.tobytes())),
                gguf_key("last", 8, gguf_string("end")),
            ]
        )
    )
    assert path.stat().st_size > 3 << 20
    with GGUFFile(path) as file:
        assert file.metadata["words"] == words
        np.testing.assert_array_equal(file.metadata["numbers"], numbers)
        assert file.metadata["last"] == "end"
