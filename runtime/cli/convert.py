"""``edgeformer convert``"""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .output import human_bytes, print_json, print_rows, progress


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A Hugging Face folder, or a .pt, .pth, .bin or .safetensors file with its config.json beside it.",
        ),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT.gguf", help="The file to write.")],
    type: Annotated[
        str, typer.Option("--type", help="Weights: f32, f16, bf16, q8_0 (8 bits) or q4_0 (4 bits).")
    ] = "q8_0",
    json: options.Json = False,
) -> None:
    """Turn a PyTorch checkpoint into a GGUF file. Torch is not needed.

    Prints what became of each tensor; its error is relative to its weights (root mean squares). The file appears
    only when it is whole.

    Example: edgeformer convert ./my-model my-model.gguf --type q4_0
    """
    from edgeformer.converters import convert as convert_checkpoint

    with progress("converting") as report:
        result = convert_checkpoint(
            source, out, type=type, progress=lambda name, index, count: report(index, count, name)
        )
    if json:
        print_json(result)
        return
    print_rows(
        out,
        ("tensor", "shape", "from", "to", ">bytes", ">error"),
        (
            (t.name, "x".join(map(str, t.shape)), t.source_dtype, t.type, t.nbytes, f"{100 * t.error:.2f} %")
            for t in result.tensors
        ),
    )
    for note in result.notes:
        print(f"note: {note}")
    print(f"{out}: {result.architecture}, {len(result.tensors)} tensors, {human_bytes(result.nbytes)}")
