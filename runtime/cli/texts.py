"""Commands that give one result a text: texts from arguments, a file or stdin, results as soon as they are known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ContextOverflowError, InvalidInputError, InvalidOptionError
from .complaints import in_flags
from .inputs import decoded_line, line_batches, no_text
from .output import load_model, print_json, progress

if TYPE_CHECKING:
    from ..model import Model

BATCH_SIZE = 32  # texts in one run: the first results come early

Call = Callable[["Model", list[str]], Sequence[Any]]


def each_text(
    file: str,
    texts: list[str] | None,
    input: str | None,
    call: Call,
    show: Callable[[str, Any], None],
    *,
    json: bool,
    **loading: Any,
) -> None:
    """Give every text to the model, and show its result at once, or all in one JSON document at the end.

    Parameters
    ----------
    file : str
        The model's.
    texts, input : list of str and str, optional
        The texts, or a file whose lines they are; without either, the lines of stdin.
    call : callable
        Gives the results of some texts.
    show : callable
        Prints a text's result. An empty text has none and gives an empty line.
    **loading
        For `load`.

    Raises
    ------
    InvalidInputError
        There is no text, or one is wrong; the message has its number.
    """
    documents: list[dict[str, Any]] = []
    what = "text" if texts else "line"
    with load_model(file, **loading) as model, progress("working") as report:
        try:
            for batch in text_batches(texts, input):
                for text, result in zip(batch, _results(model, batch, call, what, len(documents) + 1), strict=True):
                    documents.append({"text": text, "result": result})
                    if not json:
                        show(text, result) if result is not None else print()
                sys.stdout.flush()
                if not sys.stdout.isatty():
                    report(len(documents), len(texts) if texts else None)
        finally:
            if json and documents:
                print_json(documents)
    if not documents:
        raise no_text()


def text_batches(texts: list[str] | None, input: str | None) -> Iterator[list[str]]:
    """The texts, some at a time.

    Raises
    ------
    InvalidInputError, InvalidOptionError
        A line is not UTF-8; both ways are given.
    """
    if texts and input is not None:
        raise InvalidOptionError("--input: there are texts on the command line, too; give one of the two")
    if texts:
        yield from (texts[begin : begin + BATCH_SIZE] for begin in range(0, len(texts), BATCH_SIZE))
        return
    number = 0
    for lines in line_batches(BATCH_SIZE) if input is None else file_batches(input):
        batch = []
        for line in lines:
            number += 1
            try:
                batch.append(decoded_line(line))
            except InvalidInputError as error:
                raise InvalidInputError(f"line {number}: {error}") from error
        yield batch


def file_batches(path: str) -> Iterator[list[bytes]]:
    """The lines of a file, some at a time."""
    from ..files.storage import InputFile

    with InputFile(path) as file:
        lines = bytes(file.read(0, file.size)).split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    yield from (lines[begin : begin + BATCH_SIZE] for begin in range(0, len(lines), BATCH_SIZE))


def _results(model: Model, batch: list[str], call: Call, what: str, first: int) -> list[Any]:
    """The result of each text, None of an empty one; where one is refused, the error has its number."""
    full = [index for index, text in enumerate(batch) if text]
    results: list[Any] = [None] * len(batch)
    try:
        found = call(model, [batch[index] for index in full])
    except (InvalidInputError, ContextOverflowError):
        found = [_result(model, batch[index], call, f"{what} {first + index}") for index in full]
    for index, result in zip(full, found, strict=True):
        results[index] = result
    return results


def _result(model: Model, text: str, call: Call, what: str) -> Any:
    try:
        return call(model, [text])[0]
    except (InvalidInputError, ContextOverflowError) as error:
        raise InvalidInputError(f"{what}: {in_flags(error)}") from error
