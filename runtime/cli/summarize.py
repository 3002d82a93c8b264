"""``edgeformer summarize``"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import options
from .inputs import input_prompt, no_text
from .output import load_model, print_json


def summarize(
    file: options.ModelFile,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Texts; without any, stdin is one text.", show_default=False),
    ] = None,
    max_tokens: Annotated[
        int | None, options.option("--max-tokens", "-n", help="Tokens at most; default: the model's own.")
    ] = None,
    num_beams: Annotated[int | None, options.option("--num-beams", help="Beams; default: the model's own.")] = None,
    prefix: options.SourcePrefix = None,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Summarize texts with an encoder-decoder that was trained for it. They may be of any length.

    Example: edgeformer summarize bart-large-cnn.gguf < article.txt
    """
    sources = texts or [input_prompt("-")]
    if not any(source.strip() for source in sources):
        raise no_text()
    choices: dict[str, Any] = {"max_tokens": max_tokens, "num_beams": num_beams, "prefix": prefix}
    with load_model(file, threads=threads, n_ctx=n_ctx) as model:
        summaries = model.summarize(sources, **choices)
    if json:
        print_json([{"source": source, "text": text} for source, text in zip(sources, summaries, strict=True)])
    else:
        print("\n".join(summaries))
