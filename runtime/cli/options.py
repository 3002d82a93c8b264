"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

ModelFile = Annotated[str, typer.Argument(metavar="FILE", help="A GGUF model file.", show_default=False)]


def option(*names: str, help: str, min: int | None = None, metavar: str | None = None) -> Any:
    """An option whose default (None) is explained in `help` and needs no showing."""
    return typer.Option(*names, help=help, min=min, metavar=metavar, show_default=False)


Threads = Annotated[
    int | None, option("--threads", "-t", min=1, help="Threads; default: every core this process may use.")
]
ContextLength = Annotated[
    int | None, option("--n-ctx", "-c", min=1, help="Context in tokens; default: the model's own.")
]
KvType = Annotated[str, typer.Option("--kv-type", help="Type of cached keys and values: f16, f32 or q8_0.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]
TruncateLeft = Annotated[bool, typer.Option("--truncate", help="Cut the start of a text that does not fit.")]
Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TEXT]...", help="Texts; without any, lines are read from stdin.", show_default=False),
]
NumBeams = Annotated[int, typer.Option("--num-beams", min=1, help="Beams of the search; 1 is greedy.")]
SourcePrefix = Annotated[
    str | None, option("--prefix", help="Put this in front of every source; default: what the model's file says.")
]
Input = Annotated[str | None, option("--input", "-i", metavar="FILE", help="A file whose lines are the texts.")]
TruncateRight = Annotated[bool, typer.Option("--truncate", help="Cut the end of a text that does not fit.")]
