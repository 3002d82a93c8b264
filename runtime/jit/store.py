"""Where machine code is kept, so that a later process needs neither Numba nor llvmlite.

The file lies in the first of ``$EDGEFORMER_CACHE_DIR``, ``$NUMBA_CACHE_DIR``, ``$XDG_CACHE_HOME/edgeformer`` and
``~/.cache/edgeformer``. What is read there is run, so a place is used only if nobody but the user and the superuser
can put anything into it, or another place into its stead.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import stat
from pathlib import Path

__all__ = ["cache_folder", "read", "trusted_folder", "write"]

CHECKSUM_BYTES = 8
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
logger = logging.getLogger("edgeformer")


def cache_folder() -> Path:
    """The folder for machine code, wherever that is."""
    named = os.environ.get("EDGEFORMER_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "edgeformer"


def trusted_folder() -> Path | None:
    """The folder for machine code, made if it is missing; None where that cannot be, or others could write there."""
    folder = cache_folder()
    try:
        if not folder.is_absolute():
            raise PermissionError("it is no absolute path")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _only_ours(folder.stat()) or not _is_trusted(folder):
            raise PermissionError("another user owns it or a folder above, or may write there")
    except OSError as error:
        logger.info("machine code is not kept in %s: %s", folder, error)
        return None
    return folder


def _only_ours(status: os.stat_result) -> bool:
    """Whether no other user (but the superuser) can write a file or folder."""
    return status.st_uid == os.geteuid() and not status.st_mode & OTHERS_WRITE


def _is_trusted(path: Path) -> bool:
    """Whether no other user can put something else at a path, be it in a folder above or behind a link.

    In a folder like /tmp, which is sticky, others may write, but not move what is ours.
    """
    status = path.lstat()
    if status.st_uid not in (0, os.geteuid()):
        return False
    if stat.S_ISLNK(status.st_mode):
        return _is_trusted(path.parent) and _is_trusted(path.parent / path.readlink())
    if status.st_mode & OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        return False
    return path == path.parent or _is_trusted(path.parent)


def _checksum(name: str, code: bytes) -> bytes:
    """Against damage and mistakes; not against those who may write the file, and could write this program, too."""
    return importlib.util.source_hash(name.encode() + code)


def read(path: Path) -> bytes | None:
    """The code in a file of a trusted folder; None where there is none, or it is damaged, or may be another user's."""
    try:
        with open(path, "rb") as file:
            data = file.read() if _only_ours(os.fstat(file.fileno())) else b""
    except OSError:
        return None
    code = data[CHECKSUM_BYTES:]
    return code if data[:CHECKSUM_BYTES] == _checksum(path.name, code) else None


def write(path: Path, code: bytes) -> None:
    """Puts code into a file, whole or not at all. Raises OSError."""
    partial = path.with_name(f"{path.name}.{os.urandom(6).hex()}")
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(_checksum(path.name, code) + code)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
