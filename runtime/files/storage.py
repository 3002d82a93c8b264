"""Files as every format needs them: read without ever trusting that they stay the same, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    InvalidInputError,
    ModelFileChangedError,
    ModelNotFoundError,
    NotEnoughMemoryError,
    OutputError,
    PathLike,
)

__all__ = ["InputFile", "OutputFile", "check_output", "open_input"]

_MAX_READ = 1 << 30  # Linux moves at most 2 GiB - 4 KiB a call
# Written at a time, from multiples of it: Linux then caches the file in large pages, which pays where it is mapped.
_WRITE_BLOCK = 2 << 20
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MODEL_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json")


def open_input(path: PathLike) -> int:
    """A descriptor of a regular file. Raises ModelNotFoundError for anything else, before anything could block."""
    try:
        # O_NONBLOCK: opening a pipe without a writer must not hang; it means nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ModelNotFoundError(path, _missing(os.fsdecode(path))) from None
    except PermissionError:
        raise ModelNotFoundError(path, "permission denied: make the file readable for this user") from None
    except OSError as error:
        raise ModelNotFoundError(path, f"cannot be opened: {error.strerror}") from None
    except ValueError as error:
        raise ModelNotFoundError(repr(path), f"is not a path: {error}") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        if os.path.exists(os.path.join(os.fsdecode(path), "config.json")):
            raise ModelNotFoundError(path, "is a checkpoint's folder: make a file of it with edgeformer convert")
        raise ModelNotFoundError(path, "is a folder: give the file inside it")
    raise ModelNotFoundError(path, "is a device, pipe or socket, not a regular file")


def _missing(path: str) -> str:
    """What to say of a path where nothing is; it may be meant as a name on the Hugging Face Hub."""
    with contextlib.suppress(OSError):  # the working folder may be gone
        relative = os.path.relpath(path)
        is_name = _HUB_NAME.fullmatch(relative) and not relative.endswith(_MODEL_SUFFIXES)
        if is_name and not os.path.isdir(os.path.dirname(relative)):
            advice = "to use a model of the Hugging Face Hub, download its folder and make a file of it"
            return f"there is no such file or folder, and nothing is downloaded: {advice} with edgeformer convert"
    return "there is no such file"


class InputFile:
    """A regular file, read by position.

    Nothing is mapped, so a file cut short under our feet is an error and never SIGBUS. Reads are safe from several
    threads and after fork.

    Attributes
    ----------
    path : str
    size : int
        Bytes, when it was opened.

    Raises
    ------
    ModelNotFoundError
        There is no regular file that may be read.
    """

    def __init__(self, path: PathLike) -> None:
        self._descriptor = open_input(path)
        self.path = os.fsdecode(path)
        self._opened = os.fstat(self._descriptor)
        self.size = self._opened.st_size

    def close(self) -> None:
        """Close it; closing again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> InputFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def check_unchanged(self) -> None:
        """Raise ModelFileChangedError if the path no longer leads to the very file that was opened."""
        self._check_open()
        try:
            now = os.stat(self.path)
        except OSError as error:
            raise ModelFileChangedError(self.path, f"it cannot be found any more ({error.strerror})") from None
        then = self._opened
        if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
            raise ModelFileChangedError(self.path, "another file has taken its place")
        if now.st_size != then.st_size:
            raise ModelFileChangedError(self.path, f"its size went from {then.st_size} to {now.st_size} bytes")
        if now.st_mtime_ns != then.st_mtime_ns:
            raise ModelFileChangedError(self.path, "it was written to")

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`, which the caller has checked to lie inside the file.

        Raises
        ------
        ModelFileChangedError
            The file has become shorter, or cannot be read any more.
        NotEnoughMemoryError
            There is no memory for `count` bytes.
        """
        if count > _MAX_READ:
            return self.read_array(offset, count).tobytes()
        self._check_open()
        try:
            data = os.pread(self._descriptor, count, offset)
        except OSError as error:
            raise self.read_error(offset, count, error.strerror) from None
        except MemoryError:
            raise NotEnoughMemoryError(f"{self.path}: reading", count) from None
        # A signal or a network share may cut a read short: then ask again, piece by piece.
        return data if len(data) == count else self.read_array(offset, count).tobytes()

    def read_array(self, offset: int, count: int) -> NDArray[np.uint8]:
        """The same as an array of uint8 of its own. Raises as `read` does."""
        self._check_open()
        try:
            target = np.empty(count, dtype=np.uint8)
        except MemoryError:
            raise NotEnoughMemoryError(f"{self.path}: reading", count) from None
        view = target.data
        done = 0
        while done < count:
            try:
                read = os.preadv(self._descriptor, [view[done : done + _MAX_READ]], offset + done)
            except OSError as error:
                raise self.read_error(offset, count, error.strerror) from None
            if read == 0:
                raise self.read_error(offset, count, "the end of the file came too early")
            done += read
        return target

    def fileno(self) -> int:
        """The descriptor. Raises InvalidInputError if the file was closed."""
        self._check_open()
        return self._descriptor

    def read_error(self, offset: int, count: int, reason: str | None) -> ModelFileChangedError:
        """What to raise where reading failed."""
        return ModelFileChangedError(self.path, f"reading {count} bytes at byte {offset} failed ({reason})")

    def _check_open(self) -> None:
        if self._descriptor < 0:
            raise InvalidInputError(f"{self.path}: the file was closed")


def check_output(path: PathLike, sources: Sequence[PathLike] = ()) -> str:
    """Whether a file can be meant to be written there; for programs whose work comes before the writing.

    Parameters
    ----------
    path : path-like
    sources : sequence of path-like
        Files that are being read and must not be replaced.

    Returns
    -------
    str
        Where the file will be: a link stays a link to the new file.

    Raises
    ------
    OutputError
        It is no path, its folder is not there, or it is a folder or device or one of the sources.
    """
    try:
        target = os.path.realpath(os.fsdecode(path))
    except ValueError as error:
        raise OutputError(repr(path), f"is not a path: {error}") from None
    if not os.path.isdir(os.path.dirname(target)):
        raise OutputError(target, "cannot be written: its folder is not there")
    if not os.path.exists(target):
        return target
    if not os.path.isfile(target):
        raise OutputError(target, "is a folder or device: give the name of a file")
    for source in sources:
        if os.path.exists(source) and os.path.samefile(source, target):
            raise OutputError(target, "is being read from: write to another file")
    return target


class OutputFile:
    """A file that appears at its path whole, or not at all.

    Bytes go to a file beside it, which `commit` puts in its place once they are safe on the disk, and `abort` removes.
    As a context manager it aborts on any exception, also Ctrl-C, and unless it was committed.

    Parameters
    ----------
    path : path-like
    size : int
        Bytes that will be written. They are reserved at once, so a full disk shows before the work, not after.
    sources : sequence of path-like
        Files that are being read and must not be replaced.

    Raises
    ------
    OutputError
        The folder is missing, the disk is full, the path is a folder or device or one of the sources, ...
    """

    def __init__(self, path: PathLike, size: int, sources: Sequence[PathLike] = ()) -> None:
        self.path = check_output(path, sources)
        self.size = size
        self.written = 0
        self._pending = bytearray()  # less than a block, to be written
        self._descriptor = -1
        self._partial = os.path.join(os.path.dirname(self.path), f".edgeformer-{os.urandom(6).hex()}.partial")
        try:
            self._descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            self._reserve()
        except OSError as error:
            self.abort()
            raise self._error(error) from None
        except BaseException:
            self.abort()
            raise

    def _reserve(self) -> None:
        if self.size == 0 or not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._descriptor, 0, self.size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # this file system cannot reserve
                raise

    def write(self, data: bytes | bytearray | memoryview | NDArray[Any]) -> None:
        """Append bytes. Raises OutputError naming the path and the bytes that the whole file needs."""
        view = np.frombuffer(data, dtype=np.uint8).data
        self.written += len(view)
        start = min(len(view), _WRITE_BLOCK - len(self._pending)) if self._pending else 0
        self._pending += view[:start]
        whole = (len(view) - start) // _WRITE_BLOCK * _WRITE_BLOCK
        try:
            if len(self._pending) == _WRITE_BLOCK:
                self._write_pending()
            self._write_all(view[start : start + whole])
        except OSError as error:
            self.abort()
            raise self._error(error) from None
        self._pending += view[start + whole :]

    def _write_all(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.write(self._descriptor, view[done : done + _MAX_READ])

    def _write_pending(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._write_all(memoryview(pending))

    def commit(self) -> None:
        """Make the file durable and put it in its place; all of its bytes must have been written."""
        if self.written != self.size:
            raise InvalidInputError(f"{self.path}: {self.written} bytes were written of {self.size}")
        try:
            self._write_pending()
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            os.replace(self._partial, self.path)
            self._partial = ""
            self._sync_folder()
        except OSError as error:
            self.abort()
            raise self._error(error) from None

    def _sync_folder(self) -> None:
        """Make the new name durable. The file is whole by now, so a file system that cannot do this changes nothing."""
        with contextlib.suppress(OSError):
            folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def abort(self) -> None:
        """Leave nothing behind; after `commit` it does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._partial:
            partial, self._partial = self._partial, ""
            if os.path.exists(partial):
                os.unlink(partial)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(self.path, f"cannot be written: {error.strerror}", self.size)

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
