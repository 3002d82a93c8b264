"""The commands together."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..host.interrupts import interrupts_wait
from . import (
    answer,
    bench,
    calibrate,
    chat,
    classify,
    convert,
    demo,
    doctor,
    encode,
    evaluate,
    fill_mask,
    generate,
    hashes,
    inspect,
    pack,
    plan,
    rank,
    summarize,
    tokens,
    translate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HELP = """Run Transformers, quantized, on a small CPU.

Start with: [bold]edgeformer demo[/bold] (offline, under a minute). Then convert a checkpoint of yours:

edgeformer convert ./my-model my-model.gguf --type q8_0

edgeformer generate my-model.gguf --prompt "Once upon a time"
"""

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "convert": convert.convert,
    "calibrate": calibrate.calibrate,
    "inspect": inspect.inspect,
    "plan": plan.plan,
    "pack": pack.pack,
    "generate": generate.generate,
    "chat": chat.chat,
    "translate": translate.translate,
    "summarize": summarize.summarize,
    "encode": encode.encode,
    "classify": classify.classify,
    "rank": rank.rank,
    "tokens": tokens.tokens,
    "answer": answer.answer,
    "fill-mask": fill_mask.fill_mask,
    "evaluate": evaluate.evaluate,
    "bench": bench.bench,
    "hash": hashes.hash_files,
    "doctor": doctor.doctor,
}


def _with_numpy(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, run with NumPy imported, which all commands need and a Ctrl-C must not cut short."""

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        with interrupts_wait():
            import numpy  # noqa: F401
        function(**arguments)

    return run


for name, function in COMMANDS.items():
    app.command(name, cls=bench.WholeNames if name == "bench" else None)(_with_numpy(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"edgeformer {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True, help=HELP)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def command() -> Any:
    """The click command that everything above makes."""
    return typer.main.get_command(app)
