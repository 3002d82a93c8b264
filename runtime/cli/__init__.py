"""The command line. `main` is the entry point; one module per group of commands.

Rules that hold for every command: results alone go to stdout; errors are one line on stderr, exit code 1 (2 for wrong
usage, 130 after Ctrl-C); ``--json`` gives one JSON document; bars appear on stderr, at a terminal only, when something
takes more than two seconds. Modules import what is heavy inside their functions, so ``--help`` stays quick.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO, cast

from ..host.packages import required
from .complaints import complain, in_flags

__all__ = ["main"]

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def _escape_what_cannot_be_printed() -> None:
    """A terminal that is not UTF-8 gets escapes for the characters that it lacks, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot complain about a closed pipe."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning on one line of stderr, without the place in edgeformer that it comes from."""
    with contextlib.suppress(OSError):
        print(f"edgeformer: warning: {message}", file=sys.stderr, flush=True)


def _run(arguments: Sequence[str] | None) -> int:
    with required("typer"), required("rich"):
        import rich  # noqa: F401  (tables and bars; its absence shows here and not in the middle of some command)
        import typer

    from .app import command

    # click's UsageError, which newer versions of typer carry privately
    usage_error = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
    try:
        code = command()(args=arguments, prog_name="edgeformer", standalone_mode=False)
    except usage_error as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "edgeformer"
        message = error.format_message().rstrip(".")
        complain(f"{message} (see: {path} --help)")
        return EXIT_USAGE
    except typer.Abort:
        return EXIT_INTERRUPTED
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; default ``sys.argv[1:]``.
    """
    from ..errors import EdgeformerError

    _escape_what_cannot_be_printed()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_ERROR
    except (EdgeformerError, OSError, MemoryError) as error:
        complain(in_flags(error))
        return EXIT_ERROR
