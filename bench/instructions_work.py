"""The fixed work whose instructions are counted: `PYTHON -m bench.instructions_work FOLDER ROW ...`, under callgrind.

Only edgeformer's public names are used, so that any build of it can be counted. A row is made ready and done once; then
it is done again between two marks. A mark is `getpgid(0)`, a system call that computes nothing and that nobody else
makes: callgrind ends a part of its counts there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 -- its import is no part of edgeformer's

from .token_ids import token_ids

CONTEXT = 128
VOCABULARY = 2048  # of the files that model_files.py writes for this
DATES = ["3 March 1999", "le 14 juillet 2021", "31.12.1950", "zwölfter Mai 2004"]
Work = Callable[[], Any]


def ids(count: int) -> list[int]:
    """Ids of the small vocabulary."""
    return [token % VOCABULARY for token in token_ids(count)]


@cache
def opened(path: Path, n_ctx: int | None = None) -> Any:
    """The model, loaded once for all its rows."""
    import edgeformer

    return edgeformer.load(path, threads=1, n_ctx=n_ctx)


def prompt(path: Path, tokens: int) -> Work:
    """A prompt and the token after it."""
    model = opened(path, CONTEXT)
    return lambda: model.generate(ids(tokens), max_tokens=1, temperature=0)


def decode(path: Path, tokens: int) -> Work:
    """So many tokens, one by one."""
    model = opened(path, CONTEXT)
    return lambda: model.generate(ids(1), max_tokens=tokens, temperature=0)


def encode(path: Path, tokens: int) -> Work:
    """Vectors of two sentences, the second one half as long."""
    model = opened(path)
    return lambda: model.encode([ids(tokens), ids(tokens // 2)])


def translate(path: Path, beams: int) -> Work:
    """The demo's dates, together."""
    model = opened(path)
    return lambda: model.translate(DATES, num_beams=beams)


def load(path: Path, _: int) -> Work:
    """Loading and closing."""
    import edgeformer

    return lambda: edgeformer.load(path, threads=1, n_ctx=CONTEXT).close()


def bring_in(_: Path, __: int) -> Work:
    """`import edgeformer` once NumPy is there; the only row that cannot be done twice."""

    def work() -> None:
        import edgeformer  # noqa: F401

    return work


# Name of the row: maker of the work, file, number.
ROWS: dict[str, tuple[Callable[[Path, int], Work], str, int]] = {
    "import": (bring_in, "", 0),
    "load q4_0": (load, "llama-q4_0.gguf", 0),
    "prompt of 64, q4_0": (prompt, "llama-q4_0.gguf", 64),
    "8 tokens, q4_0": (decode, "llama-q4_0.gguf", 8),
    "prompt of 64, q8_0": (prompt, "llama-q8_0.gguf", 64),
    "8 tokens, q8_0": (decode, "llama-q8_0.gguf", 8),
    "prompt of 8, f32": (prompt, "llama-f32.gguf", 8),
    "2 tokens, f32": (decode, "llama-f32.gguf", 2),
    "encoder, 64 and 32 tokens, i8_row": (encode, "encoder-i8_row.gguf", 64),
    "encoder-decoder, 4 sources, q8_0": (translate, "dates.gguf", 1),
    "encoder-decoder, 4 sources, 2 beams, q8_0": (translate, "dates.gguf", 2),
    "prompt of 4, q4_0": (prompt, "llama-q4_0.gguf", 4),
    "2 tokens, q4_0": (decode, "llama-q4_0.gguf", 2),
}


def main() -> None:
    """Do every row named, marks around it."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for name in names:
        make, file, number = ROWS[name]
        work = make(folder / file, number)
        if make is not bring_in:
            work()
        os.getpgid(0)
        work()
        os.getpgid(0)


if __name__ == "__main__":
    main()
