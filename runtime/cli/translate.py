"""``edgeformer translate``"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ContextOverflowError, InvalidInputError
from . import options
from .complaints import complain, in_flags
from .inputs import decoded_line, line_batches, no_text
from .output import load_model, print_json, progress

if TYPE_CHECKING:
    from ..model import Model

BATCH_SIZE = 32  # lines in one run: the first answers come early, and the cache need not hold all

Refusal = InvalidInputError | ContextOverflowError


def translate(
    file: options.ModelFile,
    texts: options.Texts = None,
    source_language: Annotated[
        str | None, options.option("--source-language", "-s", help="Code of the language, e.g. eng_Latn or en.")
    ] = None,
    target_language: Annotated[
        str | None, options.option("--target-language", "-l", help="Code of the language to translate into.")
    ] = None,
    split: Annotated[
        bool | None,
        typer.Option("--split/--no-split", help="Sentence by sentence; default: as the model is trained."),
    ] = None,
    prefix: options.SourcePrefix = None,
    through: Annotated[
        str | None, options.option("--through", metavar="FILE", help="Give the translations to this second model.")
    ] = None,
    pivot_language: Annotated[
        str | None, options.option("--pivot-language", help="Code of the language between the two models.")
    ] = None,
    num_beams: options.NumBeams = 1,
    truncate: options.TruncateLeft = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Give an empty line for a text that cannot be translated; exit code 1."),
    ] = False,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Run an encoder-decoder over texts: one line of output for each, as soon as it is known.

    An empty line gives an empty line, so the output stays beside its input.

    Example: printf '4 March 1997\\n' | edgeformer translate dates.gguf
    """
    from contextlib import ExitStack

    batches: Iterator[Sequence[str | bytes]] = _batches(texts) if texts else line_batches(BATCH_SIZE)
    choices: dict[str, Any] = {
        "source_language": source_language,
        "target_language": target_language,
        "split": split,
        "prefix": prefix,
        "pivot_language": pivot_language,
        "num_beams": num_beams,
        "truncate": "left" if truncate else None,
    }
    answers = _Answers("text" if texts else "line", keep_going, json)
    with ExitStack() as stack:
        model = stack.enter_context(load_model(file, threads=threads, n_ctx=n_ctx))
        if through is not None:
            choices["through"] = stack.enter_context(load_model(through, threads=threads, n_ctx=n_ctx))
        report = stack.enter_context(progress("translating"))
        try:
            for batch in batches:
                for source, answer in zip(*_translated(model, batch, choices), strict=True):
                    answers.add(source, answer)
                sys.stdout.flush()
                if not sys.stdout.isatty():
                    report(len(answers.documents), len(texts) if texts else None)
        finally:
            answers.end()
    if not answers.documents:
        raise no_text()
    if any("error" in document for document in answers.documents):
        raise typer.Exit(1)


class _Answers:
    """Prints answers: lines at once, or one JSON document at the end, whatever ends the work.

    Parameters
    ----------
    what : str
        What a source is called in errors, before its number.
    keep_going : bool
        A refusal is complained of and not raised.
    json : bool
    """

    def __init__(self, what: str, keep_going: bool, json: bool) -> None:
        self.documents: list[dict[str, str | None]] = []
        self._what, self._keep_going, self._json = what, keep_going, json

    def add(self, source: str, answer: str | Refusal) -> None:
        """Take the next one. Raises `InvalidInputError`, with its number, for a refusal that shall not be left out."""
        if isinstance(answer, str):
            self.documents.append({"source": source, "text": answer})
        else:
            message = f"{self._what} {len(self.documents) + 1}: {in_flags(answer)}"
            if not self._keep_going:
                raise InvalidInputError(message) from answer
            complain(message)
            self.documents.append({"source": source, "text": None, "error": in_flags(answer)})
        if not self._json:
            print(self.documents[-1]["text"] or "")

    def end(self) -> None:
        """Print what is still to be printed."""
        if self._json and self.documents:
            print_json(self.documents)
        sys.stdout.flush()


def _batches(texts: list[str]) -> Iterator[list[str]]:
    return (texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE))


def _translated(
    model: Model, batch: Sequence[str | bytes], choices: dict[str, Any]
) -> tuple[list[str], list[str | Refusal]]:
    """The texts of a batch, and for each its translation or what is wrong with it."""
    sources: list[str] = []
    answers: list[str | Refusal] = []
    for line in batch:
        try:
            sources.append(line if isinstance(line, str) else decoded_line(line))
            answers.append("")
        except InvalidInputError as error:
            sources.append(line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line)
            answers.append(error)
    good = [index for index, answer in enumerate(answers) if answer == "" and sources[index]]
    for index, answer in zip(good, _answers(model, [sources[index] for index in good], choices), strict=True):
        answers[index] = answer
    return sources, answers


def _answers(model: Model, sources: list[str], choices: dict[str, Any]) -> list[str | Refusal]:
    """Translations of `sources` in one run; where one of them is refused, of its halves."""
    try:
        return list(model.translate(sources, **choices))
    except (InvalidInputError, ContextOverflowError) as error:
        if len(sources) == 1:
            return [error]
        half = len(sources) // 2
        return _answers(model, sources[:half], choices) + _answers(model, sources[half:], choices)
