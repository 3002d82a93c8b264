"""``edgeformer fill-mask``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .texts import each_text

if TYPE_CHECKING:
    from ..tasks.results import FilledMasks


def fill_mask(
    file: options.ModelFile,
    texts: options.Texts = None,
    input: options.Input = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Words for each mask.")] = 5,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Find words for the masks in each text: one line a mask, with the likeliest words and their shares.

    Example: edgeformer fill-mask bert.gguf "Paris is the [MASK] of France."
    """

    def show(_: str, result: FilledMasks) -> None:
        for words in result.masks:
            print("\t".join(f"{word.text}\t{word.score:.4f}" for word in words))

    each_text(
        file,
        texts,
        input,
        lambda model, batch: model.fill_mask(batch, top_k=top_k),
        show,
        json=json,
        threads=threads,
        n_ctx=n_ctx,
    )
