"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ModelFile = Annotated[str, typer.Argument(metavar="FILE", help="A GGUF model file.", show_default=False)]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-t", min=1, help="Threads; default: every core this process may use.", show_default=False),
]
ContextLength = Annotated[
    int | None,
    typer.Option("--n-ctx", "-c", min=1, help="Context in tokens; default: the model's own.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TEXT]...", help="Texts; without any, lines are read from stdin.", show_default=False),
]
NumBeams = Annotated[int, typer.Option("--num-beams", min=1, help="Beams of the search; 1 is greedy.")]
