"""Errors on one line of stderr, in the words of the command line."""

from __future__ import annotations

import contextlib
import sys

from ..errors import ContextOverflowError


def complain(message: str) -> None:
    """One line on stderr; a closed stderr is nobody's concern."""
    line = " ".join(message.split())
    with contextlib.suppress(OSError):
        print(f"edgeformer: error: {line}", file=sys.stderr, flush=True)


def in_flags(error: BaseException) -> str:
    """What an error says, with the flags that help here in place of the API's options."""
    if isinstance(error, ContextOverflowError):
        return error.advise("--truncate", "--n-ctx")
    return str(error) or type(error).__name__
