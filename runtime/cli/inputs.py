"""Where commands get their texts: arguments, or else stdin."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from io import BufferedReader
from typing import cast

from ..errors import InvalidInputError

CHUNK_BYTES = 1 << 16


def input_texts(texts: list[str] | None) -> list[str]:
    """The command line's texts, or else the lines of stdin.

    Raises
    ------
    InvalidInputError
        No text at all, or stdin is not UTF-8.
    """
    if texts:
        return texts
    lines = _decoded(sys.stdin.buffer.read(), "stdin").splitlines()
    if not lines:
        raise no_text()
    return lines


def input_prompt(prompt: str) -> str:
    """The prompt, or for ``-`` all of stdin without its last newline, which `echo` adds.

    Raises
    ------
    InvalidInputError
        There is nothing on stdin, or it is not UTF-8.
    """
    if prompt != "-":
        return prompt
    text = stdin_text()
    if not text:
        raise InvalidInputError("stdin is empty: write the prompt to it, or give --prompt '' to begin a text")
    return text


def stdin_text() -> str:
    """All of stdin without its last newline, which `echo` adds. Raises InvalidInputError where it is not UTF-8."""
    return _decoded(sys.stdin.buffer.read(), "stdin").removesuffix("\n")


def line_batches(size: int) -> Iterator[list[bytes]]:
    """The lines of stdin, at most `size` at a time, and fewer where the next one is not written yet."""
    lines: list[bytes] = []
    rest = b""
    stdin = cast("BufferedReader", sys.stdin.buffer)
    while chunk := stdin.read1(CHUNK_BYTES):
        *complete, rest = (rest + chunk).split(b"\n")
        lines += complete
        while len(lines) >= size:
            yield lines[:size]
            del lines[:size]
        if lines and not _has_more():
            yield lines
            lines = []
    lines += [rest] if rest else []
    yield from (lines[begin : begin + size] for begin in range(0, len(lines), size))


def decoded_line(line: bytes) -> str:
    """A line as text, without the carriage return that some systems end it with.

    Raises
    ------
    InvalidInputError
        It is not UTF-8.
    """
    return _decoded(line.removesuffix(b"\r"), "the text")


def no_text() -> InvalidInputError:
    """The error of a command that got nothing to work on."""
    return InvalidInputError("no text: give it as an argument or on stdin")


def _has_more() -> bool:
    """Whether stdin can be read without waiting; so it is at its end, too, and where nobody can tell."""
    try:
        return bool(select.select([sys.stdin], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{what} is not UTF-8: {error.reason} at byte {error.start}") from error
