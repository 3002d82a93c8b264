"""``edgeformer answer``"""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .inputs import no_text, stdin_text
from .output import load_model, print_json


def answer(
    file: options.ModelFile,
    question: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False)],
    context: Annotated[
        str, typer.Argument(metavar="[CONTEXT]", help="The text to look in; '-': stdin, all of it.", show_default=False)
    ] = "-",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Answers, best first.")] = 1,
    impossible: Annotated[bool, typer.Option("--impossible", help="The text may hold no answer.")] = False,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Find the answer to a question in a text of any length: one line for each, with its score.

    Example: edgeformer answer qa.gguf "Who wrote it?" < book.txt
    """
    text = stdin_text() if context == "-" else context
    if not text:
        raise no_text()
    with load_model(file, threads=threads, n_ctx=n_ctx) as model:
        found = model.answer(question, text, top_k=top_k, impossible=impossible)
    if json:
        print_json(found)
        return
    for span in found.spans:
        print(f"{' '.join(span.text.split())}\t{span.score:.4f}")
