"""``edgeformer bench``: llama-bench's flags, because people know them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from . import options
from .bench_formats import Format, print_rows
from .output import progress

RANGE = re.compile(r"(\d+)(?:-(\d+)(?:([+*])(\d+))?)?")
FLASH_ATTENTION = ("1", "on", "auto", "true")


class WholeNames(TyperCommand):
    """A command that takes the letters after one dash as one name: `-ngl 0` is not `-n gl`, as it is elsewhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {name for parameter in self.params for name in parameter.opts}
        for argument in itertools.takewhile(lambda text: text != "--", args):
            if re.match("-[A-Za-z]{2}", argument) and argument.partition("=")[0] not in names:
                ctx.fail(f"No such option: {argument}")
        return super().parse_args(ctx, args)


def words(texts: list[str] | None) -> list[str]:
    """The values of an option that was given several times, or once with commas."""
    return [word.strip() for text in texts or () for word in text.split(",")]


def numbers(texts: list[str] | None, name: str, least: int) -> list[int]:
    """The same of numbers, among them llama-bench's ranges: ``1-3`` is 1, 2, 3; ``1-8*2`` is 1, 2, 4, 8.

    Raises
    ------
    typer.BadParameter
        Naming the option `name`.
    """
    found: list[int] = []
    for word in words(texts):
        match = RANGE.fullmatch(word)
        if match is None:
            raise typer.BadParameter(
                f"a number, a list such as 64,128 or a range is needed, not {word!r}", None, None, name
            )
        first, last, sign, step = match.groups()
        found += _range(int(first), int(last or first), sign or "+", int(step or 1), name)
    if found and min(found) < least:
        raise typer.BadParameter(f"at least {least} is needed, not {min(found)}", None, None, name)
    return found


def _range(first: int, last: int, sign: str, step: int, name: str) -> Iterator[int]:
    if step < 1 or (sign == "*" and (step < 2 or first < 1)):
        raise typer.BadParameter("a range that does not grow has no end", None, None, name)
    while first <= last:
        yield first
        first = first + step if sign == "+" else first * step


def pairs(texts: list[str] | None) -> list[tuple[int, int]]:
    """``["512,128"]`` -> ``[(512, 128)]``."""
    found = []
    for text in texts or ():
        match = re.fullmatch(r"(\d+),(\d+)", text)
        if match is None:
            raise typer.BadParameter(f"two numbers such as 512,128 are needed, not {text!r}", None, None, "-pg")
        found.append((int(match[1]), int(match[2])))
    return found


def cache_types(keys: list[str] | None, values: list[str] | None) -> list[str]:
    """The types to cache keys and values in; both have the same."""
    from ..engine.memory_plan import check_kv_type
    from ..errors import InvalidOptionError

    of_keys, of_values = words(keys) or ["f16"], words(values) or ["f16"]
    for name in (*of_keys, *of_values):
        check_kv_type(name)
    if of_keys != of_values:
        raise InvalidOptionError(
            f"keys and values are cached in one type here: give both -ctk and -ctv {','.join(of_keys)}, or both "
            f"{','.join(of_values)}"
        )
    return of_keys


def only(texts: list[str] | None, possible: tuple[str, ...], name: str, why: str) -> None:
    """Refuse values that ask for what cannot be had here."""
    for word in words(texts):
        if word not in possible:
            raise typer.BadParameter(f"{word!r}: {why}", None, None, name)


def bench(
    model: Annotated[
        list[str], typer.Option("--model", "-m", metavar="FILE", help="A GGUF file; may be given several times.")
    ],
    n_prompt: Annotated[
        list[str] | None,
        options.option(
            "--n-prompt", "-p", metavar="N,...", help="Tokens of the prompt; default: 512, or the model's context."
        ),
    ] = None,
    n_gen: Annotated[
        list[str] | None,
        options.option(
            "--n-gen", "-n", metavar="N,...", help="Tokens to generate; default: 128, or the model's context."
        ),
    ] = None,
    n_prompt_gen: Annotated[
        list[str] | None,
        options.option("--prompt-gen", "-pg", metavar="PP,TG", help="Read so many and then generate so many."),
    ] = None,
    n_depth: Annotated[
        list[str] | None,
        options.option("--n-depth", "-d", metavar="N,...", help="Context that is filled before a test; default: 0."),
    ] = None,
    n_batch: Annotated[
        list[str] | None,
        options.option(
            "--batch-size", "-b", metavar="N,...", help="Tokens of a prompt in one call at most; default: all."
        ),
    ] = None,
    n_ubatch: Annotated[
        list[str] | None,
        options.option(
            "--ubatch-size",
            "-ub",
            metavar="N,...",
            help="Tokens in one run at most; default: what memory is planned for.",
        ),
    ] = None,
    cache_type_k: Annotated[
        list[str] | None,
        options.option(
            "--cache-type-k", "-ctk", metavar="TYPE,...", help="Type of cached keys: f16, f32 or q8_0; default: f16."
        ),
    ] = None,
    cache_type_v: Annotated[
        list[str] | None,
        options.option("--cache-type-v", "-ctv", metavar="TYPE,...", help="Type of cached values, the keys' own."),
    ] = None,
    threads: Annotated[
        list[str] | None,
        options.option("--threads", "-t", metavar="N,...", help="Threads; default: every core this process may use."),
    ] = None,
    flash_attn: Annotated[
        list[str] | None,
        options.option("--flash-attn", "-fa", metavar="N", help="1 alone: there is no other attention here."),
    ] = None,
    n_gpu_layers: Annotated[
        list[str] | None, options.option("--n-gpu-layers", "-ngl", metavar="N", help="0 alone: no GPU is used here.")
    ] = None,
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, help="Runs of each test, after one that is not counted.")
    ] = 5,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print the rows.")] = Format.md,
) -> None:
    """Measure a model's speed: reading a prompt (pp) and generating (tg).

    Options take lists, by commas or by repeating them, and ranges (1-8, 64-256+64, 1-8*2); all combinations are
    measured. Milliseconds are those of one call: a token in tg, the whole prompt in pp.

    Example: edgeformer bench -m my-model.gguf -p 128,512 -n 128 -t 1,2 -r 5 -o json
    """
    from ..tools.benchmark import bench as measure

    only(flash_attn, FLASH_ATTENTION, "--flash-attn", "attention never keeps a whole matrix of scores here; give 1")
    only(n_gpu_layers, ("0",), "--n-gpu-layers", "no GPU is used here; give 0 or leave it out")
    sizes: dict[str, Any] = {
        "n_prompt": numbers(n_prompt, "--n-prompt", 0) or None,
        "n_gen": numbers(n_gen, "--n-gen", 0) or None,
        "n_prompt_gen": pairs(n_prompt_gen),
        "n_depth": numbers(n_depth, "--n-depth", 0) or 0,
        "n_batch": numbers(n_batch, "--batch-size", 1) or None,
        "n_ubatch": numbers(n_ubatch, "--ubatch-size", 1) or None,
    }
    types = cache_types(cache_type_k, cache_type_v)
    counts: list[int | None] = [*numbers(threads, "--threads", 1)] or [None]

    def rows() -> Iterator[dict[str, Any]]:
        for path, kv_type, count in itertools.product(model, types, counts):
            with progress(f"measuring {path}", after=0) as report:
                found = measure(path, threads=count, repetitions=repetitions, kv_type=kv_type, progress=report, **sizes)
            yield from found

    asked = {"n_batch": n_batch, "n_ubatch": n_ubatch, "type_k": cache_type_k}
    print_rows(rows(), output, [name for name, given in asked.items() if given])
