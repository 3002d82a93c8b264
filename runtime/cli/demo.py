"""``edgeformer demo``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .output import human_bytes, print_json, print_rows, progress

if TYPE_CHECKING:
    from ..tools.demo import DemoReport


def demo(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Dates of your own to read.", show_default=False)
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """See everything once, offline: a trained checkpoint converted, quantized, checked, timed and used.

    The model reads dates in nine languages and writes ISO 8601.

    Example: edgeformer demo "the 4th of March, 1997" "12. Mai 2031"
    """
    from ..tools.demo import run_demo

    with progress("demo") as report:
        found = run_demo(texts or (), threads=threads, progress=report)
    if json:
        print_json(found)
    else:
        _print(found)


def _print(found: DemoReport) -> None:
    print(f"Checkpoint: {found.checkpoint} ({human_bytes(found.checkpoint_bytes)}, a torch.nn.Transformer)")
    print(f"Machine: {found.isa}, {found.threads} threads\n")
    print_rows(
        f"What quantization did (accuracy: {found.num_samples} held-out dates, every character right)",
        ("type", ">file", ">weights", ">error of the weights", ">accuracy", ">convert s", ">load s"),
        (
            (
                v.type,
                human_bytes(v.file_bytes),
                human_bytes(v.tensor_bytes),
                f"{100 * v.weight_error:.2f} %",
                f"{100 * v.accuracy:.1f} %",
                f"{v.convert_seconds:.2f}",
                f"{v.load_seconds:.2f}",
            )
            for v in found.variants
        ),
    )
    latency = found.latency
    types = [variant.type for variant in found.variants]
    answers = ((row.source, *(row.answers[name] for name in types)) for row in found.translations)
    print_rows("Dates read", ("written", *types), answers)
    percentiles = ", ".join(f"{name} {getattr(latency, f'{name}_ms'):.2f} ms" for name in ("p50", "p90", "p99"))
    print(f"One date ({latency.type}): {percentiles}")
    print(f"{latency.batch_size} dates in one call: {latency.batch_dates_per_second:,.0f} dates a second")
    print(f"All of this took {found.seconds:.1f} s.\n")
    print("Next: edgeformer convert ./your-model your-model.gguf --type q8_0")
    print("      edgeformer inspect your-model.gguf")
    print('      edgeformer generate your-model.gguf --prompt "..." (or translate, encode)')
