"""GGUF: what is written is read back, by this reader and by gguf-py's, and what gguf-py writes is read here."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
from edgeformer.errors import (
    InvalidInputError,
    InvalidOptionError,
    ModelFileChangedError,
    ModelFormatError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter
from edgeformer.quants import TYPES, by_name
from support.file_makers import gguf_file, gguf_key, gguf_string, gguf_tensor

# Those that fit the rows of the examples.
WRITTEN = [t.name for t in TYPES.values() if t.block_size <= 32]
METADATA = {
    "x.bool": True,
    "x.small": 7,
    "x.negative": -7,
    "x.large": 1 << 63,
    "x.real": 0.5,
    "x.text": "naïve 😀\n",
    "x.empty_text": "",
    "x.integers": [1, -2, 3],
    "x.reals": [0.5, -1.25],
    "x.flags": [True, False],
    "x.words": ["a", "", "é", "😀"],
}


def write_example(path: Path, weights: dict[str, np.ndarray], type_name: str = "f32") -> None:
    with GGUFWriter(path, "test") as writer:
        for key, value in METADATA.items():
            writer.add(key, value)
        writer.add("x.long", np.arange(5000, dtype=np.int32))
        quantization = by_name(type_name)
        for name, array in weights.items():
            writer.declare(name, array.shape, quantization.id)
        for name, array in weights.items():
            writer.write(name, quantization.quantize(array))


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    shapes = {"vector": (64,), "matrix": (5, 32), "cube": (2, 3, 96), "four": (2, 1, 3, 32)}
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("type_name", WRITTEN)
def test_round_trip(tmp_path: Path, weights: dict[str, np.ndarray], type_name: str) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights, type_name)
    quantization = by_name(type_name)
    with GGUFFile(path) as file:
        assert (file.version, file.alignment, file.path) == (3, 32, str(path))
        assert {key: file.metadata[key] for key in METADATA} == METADATA
        np.testing.assert_array_equal(file.metadata["x.long"], np.arange(5000))
        assert {name: info.shape for name, info in file.tensors.items()} == {n: w.shape for n, w in weights.items()}
        for name, array in weights.items():
            raw = quantization.quantize(array)
            info = file.tensors[name]
            assert (info.type, info.type_name, info.nbytes) == (quantization.id, type_name, raw.nbytes)
            assert info.offset % file.alignment == 0
            np.testing.assert_array_equal(file.read_rows(name, 0, info.num_rows).ravel(), raw.ravel())
            np.testing.assert_array_equal(file.dequantize(name), quantization.dequantize(raw, array.shape))


def test_same_calls_give_same_bytes(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    write_example(tmp_path / "a.gguf", weights)
    write_example(tmp_path / "b.gguf", weights)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize("type_name", [name for name in WRITTEN if not by_name(name).is_own])
def test_gguf_py_reads_what_is_written(tmp_path: Path, weights: dict[str, np.ndarray], type_name: str) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights, type_name)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "test"
    for key, value in METADATA.items():
        assert reader.fields[key].contents() == value
    assert reader.fields["x.long"].contents() == list(range(5000))
    assert reader.fields["x.integers"].types == [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32]
    assert reader.fields["x.small"].types == [gguf.GGUFValueType.UINT32]
    with GGUFFile(path) as file:
        for tensor in reader.tensors:
            info = file.tensors[tensor.name]
            assert tuple(reversed(tensor.shape.tolist())) == info.shape
            assert (tensor.data_offset, tensor.n_bytes) == (info.offset, info.nbytes)
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(info.shape)
            np.testing.assert_array_equal(file.dequantize(tensor.name), expected)


def test_reads_what_gguf_py_writes(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "test")
    writer.add_uint8("a.uint8", 200)
    writer.add_int8("a.int8", -100)
    writer.add_uint16("a.uint16", 60000)
    writer.add_int16("a.int16", -30000)
    writer.add_uint64("a.uint64", 1 << 63)
    writer.add_int64("a.int64", -(1 << 62))
    writer.add_float64("a.float64", 1e300)
    writer.add_bool("a.bool", False)
    writer.add_array("a.words", ["x", "yz"])
    writer.add_array("a.numbers", [1, 2, 3])
    for name, array in weights.items():
        writer.add_tensor(name, gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0), raw_dtype=8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile(path) as file:
        values = {key: value for key, value in file.metadata.items() if key.startswith("a.")}
        assert values == {
            "a.uint8": 200,
            "a.int8": -100,
            "a.uint16": 60000,
            "a.int16": -30000,
            "a.uint64": 1 << 63,
            "a.int64": -(1 << 62),
            "a.float64": 1e300,
            "a.bool": False,
            "a.words": ["x", "yz"],
            "a.numbers": [1, 2, 3],
        }
        for name, array in weights.items():
            raw = by_name("q8_0").quantize(array)
            np.testing.assert_array_equal(file.dequantize(name), by_name("q8_0").dequantize(raw, array.shape))


def test_version_two_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    data = np.arange(4, dtype="<f4").tobytes()
    path.write_bytes(gguf_file([gguf_key("k", 8, gguf_string("v"))], [gguf_tensor("w", [4], 0, 0)], data, version=2))
    with GGUFFile(path) as file:
        assert file.version == 2
        assert file.metadata == {"k": "v"}
        np.testing.assert_array_equal(file.dequantize("w"), [0, 1, 2, 3])


def test_another_alignment(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    with GGUFWriter(path, "test", alignment=256) as writer:
        for name in "abc":
            writer.declare(name, (3,), 0)
        for name in "abc":
            writer.write(name, np.ones(3, dtype=np.float32))
    with GGUFFile(path) as file:
        assert file.alignment == 256
        assert all(info.offset % 256 == 0 for info in file.tensors.values())
    assert gguf.GGUFReader(path).alignment == 256
    with pytest.raises(InvalidOptionError, match="alignment 24"):
        GGUFWriter(path, "test", alignment=24)


def test_rows(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights)
    with GGUFFile(path) as file:
        rows = file.read_rows("cube", 2, 3)
        assert rows.shape == (3, 96 * 4)
        np.testing.assert_array_equal(rows.view("<f4"), weights["cube"].reshape(6, 96)[2:5])
        assert file.read_rows("cube", 6, 0).shape == (0, 96 * 4)
        for first, count in ((0, 7), (-1, 1), (6, 1), (0, -1)):
            with pytest.raises(InvalidInputError, match="cube"):
                file.read_rows("cube", first, count)
        with pytest.raises(ModelFormatError, match=r"'nothing'.*missing"):
            file.read_rows("nothing", 0, 1)


def test_reading_from_several_threads(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights)
    wrong: list[str] = []

    def read() -> None:
        for _ in range(50):
            wrong.extend(name for name in weights if not np.array_equal(file.dequantize(name), weights[name]))

    with GGUFFile(path) as file:
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.fixture
def example(tmp_path: Path) -> GGUFFile:
    path = tmp_path / "a.gguf"
    with GGUFWriter(path, "test") as writer:
        for key, value in METADATA.items():
            writer.add(key, value)
        writer.add("x.nan", float("nan"))
        writer.add("x.infinities", [1.0, float("inf")])
        writer.add("x.long", np.arange(3000, dtype=np.int64))
    return GGUFFile(path)


def test_get(example: GGUFFile) -> None:
    assert example.get("x.small", int) == 7
    assert example.get("x.small", float) == 7.0
    assert example.get("x.bool", bool) is True
    assert example.get("x.text", str) == METADATA["x.text"]
    assert example.get("x.words", list[str]) == METADATA["x.words"]
    assert example.get("x.integers", list[int]) == [1, -2, 3]
    assert example.get("x.integers", list[float]) == [1.0, -2.0, 3.0]
    assert example.get("x.integers", list) == [1, -2, 3]
    assert example.get("x.long", list[int]) == list(range(3000))
    np.testing.assert_array_equal(example.get("x.integers", np.ndarray), [1, -2, 3])
    assert example.get("x.absent", int, 3) == 3
    assert example.get("x.absent", int, None) is None
    assert example.get("x.small", int, minimum=7, maximum=7) == 7


@pytest.mark.parametrize(
    ("key", "kind", "bounds"),
    [
        ("x.absent", int, {}),
        ("x.text", int, {}),
        ("x.bool", int, {}),
        ("x.small", bool, {}),
        ("x.small", str, {}),
        ("x.real", int, {}),
        ("x.small", list[int], {}),
        ("x.words", list[int], {}),
        ("x.words", np.ndarray, {}),
        ("x.text", np.ndarray, {}),
        ("x.nan", float, {}),
        ("x.infinities", list[float], {}),
        ("x.infinities", np.ndarray, {}),
        ("x.small", int, {"minimum": 8}),
        ("x.small", int, {"maximum": 6}),
        ("x.integers", list[int], {"minimum": 0}),
        ("x.long", np.ndarray, {"maximum": 2998}),
    ],
)
def test_get_refuses_by_the_keys_name(example: GGUFFile, key: str, kind: type, bounds: dict[str, float]) -> None:
    with pytest.raises(ModelFormatError, match=key) as caught:
        example.get(key, kind, **bounds)
    assert caught.value.field == key


def test_types_that_are_not_read_are_listed_and_refused_on_use(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf_file([], [gguf_tensor("w", [256, 2], 22, 0)], bytes(164 + 28)))
    with GGUFFile(path) as file:
        assert file.tensors["w"].type_name == "iq2_s"
        for use in (lambda: file.dequantize("w"), lambda: file.read_rows("w", 0, 1), lambda: file.quantization("w")):
            with pytest.raises(UnsupportedModelError, match=r"'w' has type iq2_s.*q8_0"):
                use()


def test_part_of_a_split_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf_file([gguf_key("split.count", 2, struct.pack("<H", 3))]))
    with GGUFFile(path) as file, pytest.raises(UnsupportedModelError, match="split"):
        file.dequantize("w")


# Not a file


@pytest.mark.parametrize("name", ["missing.gguf", "folder", "pipe", "missing/a.gguf", "a\0b", "n" * 300, "loop"])
def test_not_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ModelNotFoundError):
        GGUFFile(f"{tmp_path}/{name}")


def test_device_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match="not a regular file"):
        GGUFFile("/dev/zero")


def test_permission_denied_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.gguf"
    write_example(path, {})
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelNotFoundError, match="permission denied"):
        GGUFFile(path)


def test_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    with pytest.raises(ModelFormatError, match="empty"):
        GGUFFile(tmp_path / "a.gguf")


# Changed while open


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)


def rewrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize("change", [truncate, grow, rewrite, replace, Path.unlink])
def test_change_while_open_is_named(tmp_path: Path, weights: dict[str, np.ndarray], change: object) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights)
    with GGUFFile(path) as file:
        file.dequantize("matrix")
        change(path)
        with pytest.raises(ModelFileChangedError, match=r"a\.gguf"):
            file.dequantize("matrix")


def test_change_between_check_and_read_is_named(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights)
    with GGUFFile(path) as file:
        os.truncate(path, 100)
        file._file.check_unchanged = lambda: None  # the file shrinks just after the check
        with pytest.raises(ModelFileChangedError, match="failed"):
            file.dequantize("matrix")


def test_closed_file_is_named(tmp_path: Path, weights: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.gguf"
    write_example(path, weights)
    file = GGUFFile(path)
    file.close()
    file.close()
    assert file.metadata["x.small"] == 7
    with pytest.raises(InvalidInputError, match="closed"):
        file.dequantize("matrix")


def test_opening_a_bad_file_leaks_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(ModelFormatError):
            GGUFFile(path)
    assert len(os.listdir("/proc/self/fd")) == before
