"""``edgeformer evaluate``"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InvalidOptionError, quote
from . import options
from .output import human_bytes, print_json, print_rows, progress

if TYPE_CHECKING:
    from ..tools.evaluation import Evaluation


def evaluate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="GGUF model files, side by side.", show_default=False)
    ],
    task: Annotated[str, typer.Option("--task", help="generate (loss), translate, encode (pairs) or classify.")],
    data: Annotated[str, typer.Option("--data", help="Labelled data: .csv, .tsv, .jsonl; a text, .txt, for generate.")],
    reference: Annotated[
        str | None,
        options.option("--float", metavar="PATH", help="The float file or checkpoint to compare with."),
    ] = None,
    column: Annotated[
        list[str] | None,
        options.option("--column", metavar="NAME=COLUMN", help="What the data call a column; may be repeated."),
    ] = None,
    limit: Annotated[int | None, options.option("--limit", min=1, help="Rows at most.")] = None,
    num_beams: Annotated[int | None, options.option("--num-beams", min=1, help="Of translate.")] = None,
    truncate: options.TruncateRight = False,
    picture: Annotated[
        str | None,
        options.option("--picture", metavar="FILE", help="Draw quality against time and bytes."),
    ] = None,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    kv_type: options.KvType = "f16",
    json: options.Json = False,
) -> None:
    """Measure how good models are on labelled data, and the time of an item.

    generate needs the column text; translate source and target; encode sentence1, sentence2 and score; classify text
    and label, and takes text_pair.

    Example: edgeformer evaluate small.gguf smaller.gguf --task classify --data reviews.csv --float ./checkpoint
    """
    from ..tools.evaluation import evaluate as run
    from ..tools.evaluation.pictures import draw

    choices: dict[str, Any] = {"num_beams": num_beams, "truncate": "right" if truncate else None}
    common: dict[str, Any] = {
        "columns": dict(map(_renamed, column or [])),
        "limit": limit,
        "options": {name: value for name, value in choices.items() if value is not None},
        "threads": threads,
        "n_ctx": n_ctx,
        "kv_type": kv_type,
    }
    found: list[Evaluation] = []
    against: Evaluation | None = None
    for path in [*([reference] if reference is not None else []), *files]:
        with progress(f"evaluating {os.path.basename(path)}") as report:
            found.append(run(path, data, task, reference=against, progress=report, **common))
        if reference is not None and against is None:
            against = found[0]
    if picture is not None:
        draw(found, picture)
    if json:
        print_json(found)
    else:
        _print_table(found)


def _print_table(found: list[Evaluation]) -> None:
    names = list(found[0].figures)
    columns = ["file", *(f">{name}" for name in names), ">gap", ">ms an item", ">size"]
    rows = [
        [
            entry.path,
            *(_figure(name, entry.figures) for name in names),
            "" if entry.gap is None else f"{entry.gap:+.4g}",
            f"{entry.ms_per_item:.3g}",
            human_bytes(entry.file_bytes),
        ]
        for entry in found
    ]
    print_rows(f"{found[0].task}, {found[0].items} items; the gap is of {found[0].primary}", columns, rows)
    for entry in found:
        if entry.confusion is not None and entry.classes is not None:
            shown = zip(entry.classes, entry.confusion.counts, strict=True)
            print_rows(
                f"{entry.path}: what is there, and what was found",
                ["", *(f">{label}" for label in entry.confusion.labels), ">precision", ">recall", ">f1"],
                [[c.label, *counts, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}"] for c, counts in shown],
            )


def _figure(name: str, figures: Mapping[str, float]) -> str:
    return f"{figures[name]:.0f}" if name == "tokens" else f"{figures[name]:.4f}"


def _renamed(text: str) -> tuple[str, str]:
    name, sign, column = text.partition("=")
    if not sign:
        raise InvalidOptionError(f"--column: NAME=COLUMN is needed, not {quote(text)}")
    return name, column
