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
            help="A Hugging Face folder, a .pt, .pth, .bin or .safetensors file with its config.json beside it, or a "
            "GGUF file of F32, F16 or BF16 weights.",
        ),
    ],
    out: Annotated[str, typer.Argument(metavar="OUT.gguf", help="The file to write.")],
    type: Annotated[
        str,
        typer.Option(
            "--type",
            help="Weights: f32, f16, bf16, i8_row, or a file type of llama-quantize: q8_0, q6_k, q5_k_m, q4_k_m, q4_0, "
            "q3_k_m, q2_k, iq4_xs, ... A wrong one lists all.",
        ),
    ] = "q8_0",
    importance: Annotated[
        str | None,
        typer.Option(
            "--importance",
            metavar="FILE",
            help="How much each column matters, of `edgeformer calibrate` or llama-imatrix: fewer errors below 8 bits.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Turn a PyTorch checkpoint into a GGUF file. Torch is not needed.

    Prints what became of each tensor; its error is relative to its weights (root mean squares). The file appears
    only when it is whole.

    Example: edgeformer convert ./my-model my-model.gguf --type q4_0
    """
    from ..converters import convert as convert_checkpoint

    with progress("converting") as report:
        result = convert_checkpoint(
            source,
            out,
            type=type,
            importance=importance,
            progress=lambda name, index, count: report(index, count, name),
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
