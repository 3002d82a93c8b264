"""``edgeformer pack``"""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .output import human_bytes, print_json, progress


def pack(
    file: options.ModelFile,
    out: Annotated[str, typer.Argument(metavar="OUT.gguf", help="The file to write.")],
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Write a model file in the form that loads in no time, shared by all processes that load it.

    The new file holds the same weights, laid out as the kernels read them on every CPU, so it is mapped and nothing is
    copied. It must stay as it is while it is in use. Other programs refuse it; keep the original.

    Example: edgeformer pack my-model.gguf my-model.packed.gguf
    """
    from ..engine.packing import pack as pack_model

    with progress("packing") as report:
        result = pack_model(file, out, threads=threads, progress=lambda done, total: report(done, total, file))
    if json:
        print_json(result)
        return
    print(f"{out}: {result.num_packed} of {result.num_tensors} tensors packed, {human_bytes(result.nbytes)}")
    for names in result.copied:
        print(f"note: {' + '.join(names)}: will be copied when the model is loaded")
