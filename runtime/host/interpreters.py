"""Which interpreter of the process this is.

A process has NumPy and the compiled module once: the interpreter that loads them first keeps the others from them.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from types import ModuleType

from ..errors import UnsupportedInterpreterError


def refuse_subinterpreters() -> None:
    """To be called before anything is loaded.

    Raises
    ------
    UnsupportedInterpreterError
        This is not the interpreter that the process began with.
    """
    interpreters = _interpreters()
    if interpreters and interpreters.get_current() != interpreters.get_main():
        raise UnsupportedInterpreterError(
            "edgeformer runs in the main interpreter of a process only, not in a subinterpreter: use it there, or in a "
            "process of its own"
        )


def _interpreters() -> ModuleType | None:
    """Python's module for them, which has another name since 3.13; None in a Python without them."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None
