"""``edgeformer bench``: llama-bench's flags, because people know them."""

from __future__ import annotations

import csv
import io
from enum import Enum
from typing import Annotated, Any

import typer

from . import options
from .output import human_bytes, print_json, progress

SAMPLES = ("samples_ns", "samples_ts")  # lists: in JSON alone, as llama-bench does


class Format(str, Enum):
    """How to print the rows."""

    md = "md"
    csv = "csv"
    json = "json"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as llama-bench's table, with percentiles."""
    headings = ("model", "size", "params", "isa", "threads", "test", "t/s", "p50 ms", "p90 ms", "p99 ms", "peak memory")
    rule = ("---" if name in ("model", "isa", "test") else "---:" for name in headings)
    lines = [" | ".join(headings), " | ".join(rule)]
    for row in rows:
        peak = row["peak_memory_bytes"]
        cells = (
            row["model_type"],
            human_bytes(row["model_size"]),
            f"{row['model_n_params'] / 1e6:.2f} M",
            row["isa"],
            str(row["n_threads"]),
            row["test"],
            f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}",
            *(f"{row[name]:.3f}" for name in ("p50_ms", "p90_ms", "p99_ms")),
            "" if peak is None else human_bytes(peak),
        )
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def comma_separated(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV with a heading."""
    names = [name for name in rows[0] if name not in SAMPLES] if rows else []
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def bench(
    model: Annotated[
        list[str], typer.Option("--model", "-m", metavar="FILE", help="A GGUF file; may be given several times.")
    ],
    n_prompt: Annotated[
        int | None,
        options.option("--n-prompt", "-p", min=0, help="Tokens of the prompt; default: 512, or the model's context."),
    ] = None,
    n_gen: Annotated[
        int | None,
        options.option("--n-gen", "-n", min=0, help="Tokens to generate; default: 128, or the model's context."),
    ] = None,
    n_depth: Annotated[int, typer.Option("--n-depth", "-d", min=0, help="Context that is filled before a test.")] = 0,
    cache_type_k: Annotated[
        str, typer.Option("--cache-type-k", "-ctk", help="Type of cached keys: f16, f32 or q8_0.")
    ] = "f16",
    cache_type_v: Annotated[
        str, typer.Option("--cache-type-v", "-ctv", help="Type of cached values, the keys' own.")
    ] = "f16",
    threads: options.Threads = None,
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, help="Runs of each test, after one that is not counted.")
    ] = 5,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print the rows.")] = Format.md,
) -> None:
    """Measure a model's speed: reading a prompt (pp) and generating (tg).

    Milliseconds are those of one call: a token in tg, the whole prompt in pp.

    Example: edgeformer bench -m my-model.gguf -p 512 -n 128 -t 2 -r 5 -o json
    """
    from ..engine.memory_plan import check_kv_type
    from ..errors import InvalidOptionError
    from ..tools.benchmark import bench as measure

    for cache_type in (cache_type_k, cache_type_v):
        check_kv_type(cache_type)
    if cache_type_k != cache_type_v:
        raise InvalidOptionError(
            f"keys and values are cached in one type here: give {cache_type_k} or {cache_type_v} to both -ctk and -ctv"
        )
    rows: list[dict[str, Any]] = []
    for path in model:
        with progress("measuring") as report:
            rows += measure(
                path,
                n_prompt,
                n_gen,
                threads,
                repetitions,
                n_depth=n_depth,
                kv_type=cache_type_k,
                progress=report,
            )
    if output is Format.json:
        print_json(rows)
    else:
        print(markdown(rows) if output is Format.md else comma_separated(rows))
