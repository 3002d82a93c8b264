"""``edgeformer classify``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .texts import each_text

if TYPE_CHECKING:
    from ..tasks.results import Classification


def classify(
    file: options.ModelFile,
    texts: options.Texts = None,
    input: options.Input = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Classes of each text.")] = 1,
    label: Annotated[
        list[str] | None,
        options.option("--label", "-l", help="Zero-shot: a label of yours; one option for each."),
    ] = None,
    hypothesis: Annotated[
        str, typer.Option("--hypothesis", help="Zero-shot: what the text may entail, {} for the label.")
    ] = "This example is {}.",
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Zero-shot: each label by itself; else they share 1.")
    ] = False,
    truncate: options.TruncateRight = False,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Tell the class of each text: one line for each, with the label and its score.

    Example: edgeformer classify sentiment.gguf "What a day!"
    """
    choices: dict[str, Any] = {
        "labels": label or None,
        "hypothesis_template": hypothesis,
        "multi_label": multi_label,
        "truncate": "right" if truncate else None,
        "top_k": top_k,
    }

    def show(_: str, result: Classification) -> None:
        print("\t".join(f"{scored.label}\t{scored.score:.4f}" for scored in result.labels))

    each_text(
        file,
        texts,
        input,
        lambda model, batch: model.classify(batch, **choices),
        show,
        json=json,
        threads=threads,
        n_ctx=n_ctx,
    )
