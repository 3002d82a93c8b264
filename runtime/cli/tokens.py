"""``edgeformer tokens``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .texts import each_text

if TYPE_CHECKING:
    from ..tasks.results import Entity


def tokens(
    file: options.ModelFile,
    texts: options.Texts = None,
    input: options.Input = None,
    aggregation: Annotated[
        str, typer.Option("--aggregation", "-a", help="simple, first, average, max or none (single tokens).")
    ] = "simple",
    stride: Annotated[
        int | None,
        options.option("--stride", min=0, help="Read long texts in windows that share so many tokens."),
    ] = None,
    truncate: options.TruncateRight = False,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Name the people, places and so on in each text: the same text, with a label behind each part that has one.

    Example: edgeformer tokens ner.gguf "Ada Lovelace was born in London"
    """
    choices: dict[str, Any] = {
        "aggregation": aggregation,
        "stride": stride,
        "truncate": "right" if truncate else None,
    }

    def show(text: str, entities: list[Entity]) -> None:
        shown, position = "", 0
        for entity in entities:
            shown += f"{text[position : entity.start]}[{entity.text}]({entity.label})"
            position = entity.end
        print(shown + text[position:])

    each_text(
        file,
        texts,
        input,
        lambda model, batch: model.tokens(batch, **choices),
        show,
        json=json,
        threads=threads,
        n_ctx=n_ctx,
    )
