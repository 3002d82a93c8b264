"""Files under every format: reads are exact or a named error, and a file appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from edgeformer.errors import InvalidInputError, ModelFileChangedError, NotEnoughMemoryError, OutputError
from edgeformer.files.storage import InputFile, OutputFile


@pytest.fixture
def file(tmp_path: Path) -> InputFile:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    return InputFile(tmp_path / "a")


def test_reads_by_position(file: InputFile) -> None:
    assert file.size == 100
    assert file.read(10, 3) == bytes([10, 11, 12])
    assert file.read(100, 0) == b""
    array = file.read_array(97, 3)
    assert array.tolist() == [97, 98, 99]
    assert array.flags.owndata


def test_reads_that_come_in_pieces(file: InputFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """As network shares and signals make them."""
    pread, preadv = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: pread(fd, min(count, 7), offset))
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: preadv(fd, [views[0][:7]], offset))
    assert file.read(5, 50) == bytes(range(5, 55))
    assert file.read_array(5, 50).tobytes() == bytes(range(5, 55))


@pytest.mark.parametrize("method", ["read", "read_array"])
def test_failing_reads_are_named(file: InputFile, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(ModelFileChangedError, match="too early"):
        getattr(file, method)(50, 51)
    monkeypatch.setattr(os, "pread", fail)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(ModelFileChangedError, match="Input/output error"):
        getattr(file, method)(0, 10)


@pytest.mark.parametrize("method", ["read", "read_array"])
def test_memory_that_cannot_be_had_is_named(file: InputFile, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise MemoryError

    with pytest.raises(NotEnoughMemoryError, match=str(1 << 60)) as caught:
        getattr(file, method)(0, 1 << 60)
    assert caught.value.needed == 1 << 60
    monkeypatch.setattr(os, "pread", fail)
    monkeypatch.setattr(np, "empty", fail)
    with pytest.raises(NotEnoughMemoryError, match="10 bytes"):
        getattr(file, method)(0, 10)


def test_closed_file_is_named(file: InputFile) -> None:
    file.close()
    for use in (lambda: file.read(0, 1), lambda: file.read_array(0, 1), file.check_unchanged):
        with pytest.raises(InvalidInputError, match="closed"):
            use()


def test_output_takes_bytes_of_any_kind(tmp_path: Path) -> None:
    parts = [b"ab", bytearray(b"cd"), memoryview(b"ef"), np.arange(3, dtype="<i2"), np.zeros((0, 3)), b""]
    with OutputFile(tmp_path / "a", 12) as out:
        for part in parts:
            out.write(part)
        out.commit()
        out.abort()
    assert (tmp_path / "a").read_bytes() == b"abcdef\0\0\1\0\2\0"


def test_output_is_complete_or_absent(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="3 bytes were written of 5"), OutputFile(tmp_path / "a", 5) as out:
        out.write(b"abc")
        out.commit()
    with OutputFile(tmp_path / "a", 3) as out:
        out.write(b"abc")
    assert os.listdir(tmp_path) == []


def test_writes_that_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    with OutputFile(tmp_path / "a", 100) as out:
        out.write(bytes(range(100)))
        out.commit()
    assert (tmp_path / "a").read_bytes() == bytes(range(100))


def test_folders_without_fsync_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    with OutputFile(tmp_path / "a", 1) as out:
        out.write(b"a")
        out.commit()
    assert (tmp_path / "a").read_bytes() == b"a"


def test_file_systems_that_cannot_reserve_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with OutputFile(tmp_path / "a", 1) as out:
        out.write(b"a")
        out.commit()
    assert (tmp_path / "a").read_bytes() == b"a"


def test_interrupted_while_reserving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        OutputFile(tmp_path / "a", 1)
    assert os.listdir(tmp_path) == []


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("語" * 85)
    with OutputFile(path, 1) as out:
        out.write(b"a")
        out.commit()
    assert path.read_bytes() == b"a"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for size in (1, 2):
        with OutputFile(tmp_path / "a", size) as out:
            out.write(b"a")
            if size == 1:
                out.commit()
    with pytest.raises(OutputError):
        OutputFile(tmp_path / "missing" / "a", 1)
    assert len(os.listdir("/proc/self/fd")) == before
