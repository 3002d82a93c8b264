"""``edgeformer encode``"""

from __future__ import annotations

import io
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .inputs import input_texts
from .output import load_model, print_json

if TYPE_CHECKING:
    import numpy as np


def encode(
    file: options.ModelFile,
    texts: options.Texts = None,
    output: Annotated[
        str | None,
        options.option("--output", "-o", help="A file to write the vectors to: .npy, or .json with the texts."),
    ] = None,
    prompt: Annotated[str | None, options.option("--prompt", help="Put in front of every text.")] = None,
    prompt_name: Annotated[
        str | None, options.option("--prompt-name", help="The same, by its name among the file's own prompts.")
    ] = None,
    normalize: Annotated[
        bool | None,
        options.option("--normalize/--no-normalize", help="Vectors of length 1; default: as the model was trained."),
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut the end of a text that does not fit.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Texts in one run.")] = 32,
    threads: options.Threads = None,
    n_ctx: options.ContextLength = None,
    json: options.Json = False,
) -> None:
    """Turn texts into vectors: a line of numbers for each, or a file with one row for each.

    Example: edgeformer encode minilm.gguf "a cat" "a dog" --output vectors.npy
    """
    from ..errors import InvalidOptionError
    from ..files.storage import check_output

    if output is not None:
        if Path(output).suffix not in (".npy", ".json"):
            raise InvalidOptionError(
                f"--output {output}: the name must end in .npy or .json, which says what is written"
            )
        check_output(output, [file])
    choices: dict[str, Any] = {
        "prompt": prompt,
        "prompt_name": prompt_name,
        "normalize_embeddings": normalize,
        "truncate": "right" if truncate else None,
        "batch_size": batch_size,
    }
    sources = input_texts(texts)
    with load_model(file, threads=threads, n_ctx=n_ctx) as model:
        vectors = model.encode(sources, **choices)
    if output is not None:
        write_file(output, _npy(vectors) if Path(output).suffix == ".npy" else _json(sources, vectors))
        if json:
            print_json({"output": output, "shape": list(vectors.shape)})
    elif json:
        print_json(_documents(sources, vectors))
    else:
        for vector in vectors:
            print(" ".join(f"{value:.7g}" for value in vector))


def _documents(texts: list[str], vectors: np.ndarray) -> list[dict[str, Any]]:
    return [{"text": text, "vector": vector.tolist()} for text, vector in zip(texts, vectors, strict=True)]


def _json(texts: list[str], vectors: np.ndarray) -> bytes:
    return json_module.dumps(_documents(texts, vectors), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _npy(vectors: np.ndarray) -> bytes:
    import numpy as np

    content = io.BytesIO()
    np.save(content, vectors)
    return content.getvalue()


def write_file(path: str, content: bytes) -> None:
    """Write a file that is whole or not there.

    Raises
    ------
    OutputError
        The disk is full, or the folder cannot be written.
    """
    from ..files.storage import OutputFile

    with OutputFile(path, len(content)) as file:
        file.write(content)
        file.commit()
