"""``edgeformer convert``"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .output import human_bytes, print_json, print_rows, progress

if TYPE_CHECKING:
    from ..converters import ConversionReport, TensorReport


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
    adapter: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            metavar="FOLDER",
            help="A LoRA adapter of PEFT, to be added to the weights.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="FOLDER",
            help="SOURCE is an adapter of PEFT, and this the checkpoint that it belongs to: make a file of it alone.",
            show_default=False,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="A row for every tensor, too.")] = False,
    json: options.Json = False,
) -> None:
    """Turn a PyTorch checkpoint into a GGUF file. Torch is not needed.

    Prints what became of the tensors, type by type; errors are relative to the weights (root mean squares). The file
    appears only when it is whole.

    Example: edgeformer convert ./my-model my-model.gguf --type q4_0
    """
    from ..converters import convert as convert_checkpoint

    with progress("converting") as report:
        result = convert_checkpoint(
            source,
            out,
            type=type,
            importance=importance,
            adapter=adapter,
            base=base,
            progress=lambda name, index, count: report(index, count, name),
        )
    if json:
        print_json(result)
        return
    if verbose:
        _print_tensors(out, result)
    _print_types(out, result)
    reasons = [tensor.reason for tensor in result.tensors if tensor.reason]
    for reason in dict.fromkeys(reasons):
        count = reasons.count(reason)
        print(f"note: {count} tensor{'s' if count > 1 else ''}: {reason}")
    for note in result.notes:
        print(f"note: {note}")
    summary = f"{human_bytes(result.nbytes)}, {_bits_a_weight(result.tensors)} bits a weight"
    print(f"{out}: {result.architecture}, {len(result.tensors)} tensors, {summary}")


def _print_tensors(title: str, result: ConversionReport) -> None:
    print_rows(
        title,
        ("tensor", "shape", "from", "to", ">bytes", ">error"),
        (
            (t.name, "x".join(map(str, t.shape)), t.source_dtype, t.type, t.nbytes, _percent(t.error))
            for t in result.tensors
        ),
    )


def _print_types(title: str, result: ConversionReport) -> None:
    """A row for every type, those that take most bytes first, with the tensor that lost most."""
    by_type: dict[str, list[TensorReport]] = {}
    for tensor in result.tensors:
        by_type.setdefault(tensor.type, []).append(tensor)
    rows = []
    for name, tensors in sorted(by_type.items(), key=lambda item: -sum(tensor.nbytes for tensor in item[1])):
        worst = max(tensors, key=lambda tensor: tensor.error)
        nbytes = human_bytes(sum(tensor.nbytes for tensor in tensors))
        largest = (_percent(worst.error), worst.name) if worst.error else (_percent(0.0), "")
        rows.append((name, len(tensors), nbytes, _bits_a_weight(tensors), *largest))
    columns = ("type", ">tensors", ">size", ">bits a weight", ">largest error", "of tensor")
    print_rows(title, columns, rows)


def _bits_a_weight(tensors: Sequence[TensorReport]) -> str:
    weights = sum(math.prod(tensor.shape) for tensor in tensors)
    return f"{8 * sum(tensor.nbytes for tensor in tensors) / weights:.2f}" if weights else "0"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
