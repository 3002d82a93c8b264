"""``edgeformer calibrate``"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import print_json, progress


def limit_threads(count: int | None) -> int | None:
    """Let NumPy, which calibration runs on, multiply in so many threads. It asks once, when it is imported first, so
    this runs while options are parsed.

    Raises
    ------
    InvalidOptionError
        It was imported already.
    """
    from ..errors import InvalidOptionError

    if count is None:
        return None
    if "numpy" in sys.modules:
        raise InvalidOptionError("--threads: NumPy is loaded already; set OPENBLAS_NUM_THREADS before it is")
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(count)))
    return count


def calibrate(
    file: options.ModelFile,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A text file in UTF-8, of the kind the model is for.")],
    out: Annotated[str, typer.Argument(metavar="OUT.gguf", help="The importance file to write.")],
    max_tokens: Annotated[
        int | None, options.option("--max-tokens", min=1, help="Leave out the rest; default: 32,768.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            "-t",
            min=1,
            callback=limit_threads,
            help="Threads; default: every core this process may use.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Find out which columns of a model's matrices matter, for `edgeformer convert --importance`.

    Runs the model, best in f16 or f32, over the text. llama-quantize takes the file, too.

    Example: edgeformer calibrate my-model-f16.gguf text.txt my-model-importance.gguf
    """
    from ..converters.types.importance import write_importance
    from ..errors import InvalidInputError, ModelNotFoundError
    from ..files.gguf.reader import GGUFFile
    from ..files.storage import check_output
    from ..tools.calibration import MAX_TOKENS, measure_activations

    check_output(out, [file, text])
    try:
        content = Path(text).read_text("utf-8")
    except OSError as error:
        raise ModelNotFoundError(text, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{text} is not UTF-8: {error.reason} at byte {error.start}") from error
    with GGUFFile(file) as model:
        architecture = model.get("general.architecture", str)
    with progress("calibrating") as report:
        seen = measure_activations(file, content, max_tokens=max_tokens or MAX_TOKENS, progress=report)
    write_importance(out, architecture, seen, sources=[file, text])
    tokens = max((activations.count for activations in seen.values()), default=0)
    if json:
        print_json({"output": out, "architecture": architecture, "tokens": tokens, "matrices": list(seen)})
        return
    print(f"{out}: {len(seen)} matrices, {tokens:,} tokens")
