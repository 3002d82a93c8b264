"""``edgeformer encode``"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated

from . import options
from .inputs import input_texts
from .output import load_model, print_json

if TYPE_CHECKING:
    import numpy as np


def encode(
    file: options.ModelFile,
    texts: options.Texts = None,
    output: Annotated[str | None, options.option("--output", "-o", help="A .npy file to write the vectors to.")] = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Turn texts into vectors: a line of numbers for each, or a NumPy file with one row for each.

    Example: edgeformer encode minilm.gguf "a cat" "a dog" --output vectors.npy
    """
    sources = input_texts(texts)
    with load_model(file, threads=threads) as model:
        vectors = model.encode(sources)
    if output is not None:
        write_npy(output, vectors)
        if json:
            print_json({"output": output, "shape": list(vectors.shape)})
    elif json:
        print_json([{"text": text, "vector": vector.tolist()} for text, vector in zip(sources, vectors, strict=True)])
    else:
        for vector in vectors:
            print(" ".join(f"{value:.7g}" for value in vector))


def write_npy(path: str, array: np.ndarray) -> None:
    """Write a NumPy file that is whole or not there.

    Raises
    ------
    OutputError
        The disk is full, or the folder cannot be written.
    """
    import numpy as np

    from ..files.storage import OutputFile

    content = io.BytesIO()
    np.save(content, array)
    with OutputFile(path, content.getbuffer().nbytes) as file:
        file.write(content.getbuffer())
        file.commit()
