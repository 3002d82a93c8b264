"""Functions that Numba compiled, as addresses for C.

Importing Numba and running its compiler costs a process about a second and a hundred megabytes, even when Numba finds
the result in a cache of its own; LLVM alone takes half of the memory. So what Numba compiled once is made into one
image (`machine_code.py`): the native functions behind Numba's callbacks, each called by a C function of ours, without
the callbacks' own code, which needs Numba and Python to report exceptions. The image is kept (`store.py`) under a name
that is a hash of all it depends on. Where it cannot be made or kept, Numba's callbacks serve, compiled in this process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .._kernels import core
from ..errors import InvalidOptionError, MissingDependencyError
from ..host.forks import ForkSafeLock
from . import store
from .compiler import PREFIX, key, object_file
from .machine_code import link

__all__ = ["NativeFunctions", "numba_wanted", "refusal"]

logger = logging.getLogger("edgeformer")


def refusal() -> str | None:
    """Why the system lets this process run no code of its own, in its words; None if it does."""
    try:
        core.MachineCode(b"\0")
    except OSError as error:
        return error.strerror
    return None


def numba_wanted(use_numba: bool | None = None) -> bool:
    """Whether Numba's functions shall run, not their twins.

    Parameters
    ----------
    use_numba : bool, optional
        Default: where Numba is installed, its code may run, and the environment does not say EDGEFORMER_NUMBA=0.

    Raises
    ------
    MissingDependencyError
        Numba is asked for and not installed.
    InvalidOptionError
        It is asked for and its code may not run.
    """
    if use_numba is False or (use_numba is None and os.environ.get("EDGEFORMER_NUMBA") == "0"):
        return False
    installed = importlib.util.find_spec("numba") is not None
    refused = refusal() if installed else None
    if use_numba and not installed:
        raise MissingDependencyError("numba")
    if use_numba and refused:
        raise InvalidOptionError(
            f"use_numba=True, but the system lets this process run no code of its own ({refused}): leave use_numba "
            "out; the results are the same"
        )
    return installed and not refused


class NativeFunctions:
    """Functions of one C type, from the cache or compiled by Numba.

    Parameters
    ----------
    names : iterable of str
    arguments : str
        Types of their arguments, as `compiler.signature` spells them.
    compile_function : callable
        Gives the Numba callback (``numba.cfunc``) of a name, compiled in this process and the same at every call.
    sources : sequence of Path
        The Python files that the functions are compiled from; the cache's file is called after the first.
    """

    def __init__(
        self, names: Iterable[str], arguments: str, compile_function: Callable[[str], Any], sources: Sequence[Path]
    ) -> None:
        self._names, self._arguments = tuple(names), arguments
        self._compile, self._sources = compile_function, tuple(sources)
        self._lock = ForkSafeLock()
        self._tried = False
        self._offsets: dict[str, int] = {}
        self.code: core.MachineCode | None = None  # None before the first use, and where Numba's callbacks serve

    def address(self, name: str, use_numba: bool | None = None) -> int | None:
        """Address of a function; it stays valid for the life of the process. None where its twin shall run.

        Parameters
        ----------
        name : str
        use_numba : bool, optional
            As `numba_wanted` takes it, whose errors are raised.
        """
        if not numba_wanted(use_numba):
            return None
        try:
            with self._lock:
                if not self._tried:
                    self._load()
                    self._tried = True
                if self.code is not None:
                    return self.code.address + self._offsets[name]
                return int(self._compile(name).address)
        except ImportError as error:
            if use_numba:
                raise InvalidOptionError(f"use_numba=True, but Numba cannot be imported: {error}") from error
            logger.warning("Numba is not used, since it cannot be imported: %s", error)
            return None

    def _load(self) -> None:
        """Takes the image from the cache, where it is put first if it is missing; takes none without a folder."""
        path = self._path()
        if path is None:
            return
        data = store.read(path)
        if data is None:
            data = self._image()
            if data is None:
                return
            with contextlib.suppress(OSError):  # it serves, though it is not kept
                store.write(path, data)
        self._offsets = dict(zip(self._names, struct.unpack_from(self._header, data), strict=True))
        self.code = core.MachineCode(data[struct.calcsize(self._header) :])

    def _path(self) -> Path | None:
        """Where the image is kept; None where it cannot be."""
        folder = store.trusted_folder()
        if folder is None:
            return None
        try:
            return folder / f"{self._sources[0].stem}-{key(self._names, self._sources)}.jit"
        except OSError as error:  # what the code depends on cannot be read
            logger.info("machine code is not kept: %s", error)
            return None

    def _image(self) -> bytes | None:
        """Where each function begins, and the image; None where none can be made."""
        compiled = {name: self._compile(name) for name in self._names}
        try:
            offsets, image = link(object_file(compiled, self._arguments), [PREFIX + name for name in self._names])
        except RuntimeError as error:  # LLVM or the linker refuses the code
            logger.info("machine code is not kept: %s", error)
            return None
        return struct.pack(self._header, *offsets) + image

    @property
    def _header(self) -> str:
        """Of the code in a file: where each function begins in the image that follows."""
        return f"<{len(self._names)}Q"
