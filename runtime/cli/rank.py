"""``edgeformer rank``"""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .inputs import no_text
from .output import load_model, print_json
from .texts import text_batches


def rank(
    file: options.ModelFile,
    query: Annotated[str, typer.Argument(metavar="QUERY", show_default=False)],
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DOCUMENT]...", help="Documents; without any, lines are read from stdin.", show_default=False
        ),
    ] = None,
    input: options.Input = None,
    top_k: Annotated[int | None, options.option("--top-k", min=1, help="So many of them; default all.")] = None,
    truncate: options.TruncateRight = False,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Sort documents by how well they fit a query: the score and the document, best first.

    Example: edgeformer rank reranker.gguf "how tall is it" < passages.txt
    """
    texts = [text for batch in text_batches(documents, input) for text in batch if text]
    if not texts:
        raise no_text()
    with load_model(file, threads=threads, n_ctx=n_ctx) as model:
        found = model.rank(query, texts, top_k=top_k, truncate="right" if truncate else None)
    if json:
        print_json(found)
        return
    for one in found:
        print(f"{one.score:.4f}\t{one.document}")
