"""``edgeformer plan``"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from . import options
from .output import human_bytes, print_json, print_rows


def plan(
    file: options.ModelFile,
    context: Annotated[
        int | None, options.option("--context", min=1, help="Tokens of context; default: the model's own.")
    ] = None,
    batch: Annotated[
        int | None, options.option("--batch", min=1, help="Tokens in one run; default: what a long prompt takes.")
    ] = None,
    sequences: Annotated[int, typer.Option("--sequences", min=1, help="Full contexts at the same time.")] = 1,
    kv_type: options.KvType = "f16",
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Say how much memory a model will take, before loading anything.

    Python with its libraries, some 35 MB, and the tokenizer, about 0.6 KB a token, come on top.

    Example: edgeformer plan my-model.gguf --context 4096 --sequences 4
    """
    from ..engine.memory_plan import plan_memory

    memory = plan_memory(file, context, batch, sequences, kv_type, threads)
    if json:
        print_json({**dataclasses.asdict(memory), "total": memory.total})
        return
    parts = (
        ("weights", memory.weights, ""),
        ("cache", memory.cache, f"{memory.sequences} x {memory.n_ctx} positions"),
        ("scratch", memory.scratch, f"runs of {memory.batch} tokens"),
        ("total", memory.total, ""),
    )
    rows = [(name, human_bytes(size), f"{size:,}", note) for name, size, note in parts]
    print_rows(file, ("part", ">size", ">bytes", "for"), rows)
