"""The writer: whole files or none, named refusals, and nothing left behind whatever happens."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from edgeformer.errors import InvalidInputError, OutputError
from edgeformer.files.gguf.reader import GGUFFile, GGUFWriter

WEIGHTS = np.arange(64, dtype=np.float32)


def write(path: Path, count: int = 1, **options: object) -> None:
    with GGUFWriter(path, "test", **options) as writer:
        for index in range(count):
            writer.declare(f"w{index}", WEIGHTS.shape, 0)
        for index in range(count):
            writer.write(f"w{index}", WEIGHTS)


def test_nothing_is_at_the_path_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"before")
    with GGUFWriter(path, "test") as writer:
        writer.declare("w", WEIGHTS.shape, 0)
        writer.write("w", WEIGHTS)
        assert path.read_bytes() == b"before"
    assert GGUFFile(path).dequantize("w").tolist() == WEIGHTS.tolist()
    assert os.listdir(tmp_path) == ["a.gguf"]


def test_a_tensor_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    with GGUFWriter(path, "test") as writer:
        writer.declare("w", (4, 16), 0)
        writer.declare("v", (1,), 0)
        for row in WEIGHTS.reshape(4, 16):
            writer.write("w", row)
        writer.write("v", b"\0\0\0\0")
    assert GGUFFile(path).dequantize("w").ravel().tolist() == WEIGHTS.tolist()


def test_without_with(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "test")
    writer.add("k", 1)
    writer.close()
    writer.abort()
    assert GGUFFile(tmp_path / "a.gguf").metadata == {"general.architecture": "test", "k": 1}


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.gguf")
    finally:
        os.umask(before)
    assert (tmp_path / "a.gguf").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("", 1, None),
        ("general.architecture", "again", None),
        ("k", [], None),
        ("k", None, None),
        ("k", {"a": 1}, None),
        ("k", [1, "a"], None),
        ("k", [[1], [2]], None),
        ("k", [1, [2]], None),
        ("k", 1 << 64, None),
        ("k", [1 << 63, -1], None),
        ("k", "\ud800", None),
        ("k", ["ok", "\udfff"], None),
        ("k", 256, "uint8"),
        ("k", -1, "uint32"),
        ("k", 1.5, "int32"),
        ("k", 1, "bool"),
        ("k", 1e39, "float32"),
        ("k", 1, "string"),
        ("k", "1", "int32"),
        ("k", 1, "uint33"),
        ("k", np.zeros((2, 2), dtype=np.float32), None),
        ("k", np.zeros(2, dtype=np.complex64), None),
    ],
)
def test_values_that_do_not_fit_are_refused(tmp_path: Path, key: str, value: object, kind: str | None) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "test")
    with pytest.raises(InvalidInputError):
        writer.add(key, value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ([], "int32", []),
        ([], "string", []),
        (200, "uint8", 200),
        (3, "float32", 3.0),
        ([1, 2], "uint64", [1, 2]),
        ((True, False), None, [True, False]),
        (np.float32(0.5), None, 0.5),
        (np.int64(-5), None, -5),
        (np.array([1, 2], dtype=np.uint8), None, [1, 2]),
        ([1, 0.5], None, [1.0, 0.5]),
        ([1, 1 << 40], None, [1, 1 << 40]),
        ([-1, 1 << 40], None, [-1, 1 << 40]),
        (float("inf"), None, float("inf")),
    ],
)
def test_values_come_back(tmp_path: Path, value: object, kind: str | None, expected: object) -> None:
    with GGUFWriter(tmp_path / "a.gguf", "test") as writer:
        writer.add("k", value, kind)
    read = GGUFFile(tmp_path / "a.gguf").metadata["k"]
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("name", "shape", "type_id"),
    [
        ("", (1,), 0),
        ("n" * 64, (1,), 0),
        ("é" * 32, (1,), 0),
        ("w", (1,), 0),
        ("x", (), 0),
        ("x", (1, 1, 1, 1, 1), 0),
        ("x", (2, 0), 0),
        ("x", (-1,), 0),
        ("x", (2, 33), 8),
        ("x", (1,), 77),
    ],
)
def test_impossible_tensors_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...], type_id: int) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "test")
    writer.declare("w", (1,), 0)
    with pytest.raises(InvalidInputError):
        writer.declare(name, shape, type_id)


def test_wrong_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    with pytest.raises(InvalidInputError, match="turn of 'a'"), GGUFWriter(path, "test") as writer:
        writer.declare("a", (2,), 0)
        writer.declare("b", (2,), 0)
        writer.write("b", WEIGHTS[:2])
    with pytest.raises(InvalidInputError, match="8 bytes left, and got 12"), GGUFWriter(path, "test") as writer:
        writer.declare("a", (2,), 0)
        writer.write("a", WEIGHTS[:3])
    with pytest.raises(InvalidInputError, match="'b' was declared"), GGUFWriter(path, "test") as writer:
        writer.declare("a", (2,), 0)
        writer.declare("b", (2,), 0)
        writer.write("a", WEIGHTS[:2])
    with pytest.raises(InvalidInputError, match="before the first tensor"), GGUFWriter(path, "test") as writer:
        writer.declare("a", (2,), 0)
        writer.write("a", WEIGHTS[:1])
        writer.add("k", 1)
    with pytest.raises(InvalidInputError, match="no tensor is left"), GGUFWriter(path, "test") as writer:
        writer.write("a", WEIGHTS[:1])
    assert os.listdir(tmp_path) == []


# Where it cannot be written


def test_sources_are_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"weights")
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "soft").symlink_to(source)
    for name in ("source.bin", "hard", "soft"):
        with pytest.raises(OutputError, match="being read"):
            write(tmp_path / name, sources=[source])
    assert source.read_bytes() == b"weights"
    assert sorted(os.listdir(tmp_path)) == ["hard", "soft", "source.bin"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "a.gguf")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "folder") == ["a.gguf"]


@pytest.mark.parametrize("name", ["folder", "missing/a.gguf", "file/a.gguf", "n" * 300, "pipe"])
def test_impossible_paths_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=name[:20]):
        write(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "pipe"]


def test_devices_stay_devices() -> None:
    with pytest.raises(OutputError, match="device"):
        write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no permission to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def assert_full(folder: Path, count: int) -> None:
    path = folder / "a.gguf"
    path.write_bytes(b"before")
    with pytest.raises(OutputError, match=r"a\.gguf.* bytes are needed") as caught:
        write(path, count)
    assert caught.value.path == str(path)
    assert caught.value.needed is not None
    assert caught.value.needed > count * 256
    assert os.listdir(folder) == ["a.gguf"]
    assert path.read_bytes() == b"before"


def test_full_disk(small_disk: Path) -> None:
    write(small_disk / "fits.gguf", 10)
    (small_disk / "fits.gguf").unlink()
    assert_full(small_disk, 1000)


def test_full_disk_where_space_cannot_be_reserved(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    assert_full(small_disk, 1000)


def test_file_size_limit(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        assert_full(tmp_path, 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "posix_fallocate"])
def test_every_call_that_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(tmp_path / "a.gguf")
    assert os.listdir(tmp_path) == []


# Interrupted


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_in_the_block_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), GGUFWriter(tmp_path / "a.gguf", "test") as writer:
        writer.declare("w", WEIGHTS.shape, 0)
        writer.write("w", WEIGHTS[:10])
        raise error
    assert os.listdir(tmp_path) == []


ENDLESS = """
import sys
from edgeformer.files.gguf.reader import GGUFWriter
with GGUFWriter(sys.argv[1], "test") as writer:
    writer.declare("w", (1 << 40,), 0)
    writer.write("w", bytes(4096))
    print("ready", flush=True)
    while True:
        writer.write("w", b"")
"""


@pytest.mark.parametrize(("number", "left"), [(signal.SIGINT, 0), (signal.SIGKILL, 1)])
def test_killed_while_writing(tmp_path: Path, number: int, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os\ndel os.posix_fallocate\n" + ENDLESS  # 4 TiB that are never written need no reserving
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "a.gguf")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(30) != 0
    process.stdout.close()
    # kill -9 leaves the partial file beside, under its own name; never anything at the path
    assert not (tmp_path / "a.gguf").exists()
    assert len(os.listdir(tmp_path)) == left
