"""``edgeformer hash``: the same bits everywhere, shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .output import print_json, progress

if TYPE_CHECKING:
    import numpy as np

    from ..engine.session import Session

THREADS = (1, 2)
LENGTH = 24


def fixed_tokens(vocab_size: int, length: int) -> list[int]:
    """Token ids that depend on nothing but the vocabulary's size."""
    return [(7919 * i + 13) % vocab_size for i in range(length)]


def fixed_rows(width: int, length: int) -> np.ndarray:
    """Float rows from -1 to 1 that depend on nothing but their width: float32 [length, width]."""
    import numpy as np

    return (np.array(fixed_tokens(257, length * width), np.float32).reshape(length, width) - 128) / 128


def fixed_outputs(session: Session) -> np.ndarray:
    """Logits, or the hidden states of what has none, for fixed tokens or rows: float32 [tokens, width]."""
    length = min(LENGTH, session.n_ctx)
    if session.features_taken is not None:
        return session.features([fixed_rows(session.features_taken.width, length)])[0]
    tokens = fixed_tokens(session.vocab_size, length)
    sources = [fixed_tokens(session.source_vocab_size, length)] if session.needs_source else None
    if "logits" not in session.step_outputs:
        return session.hidden([tokens], sources=sources)
    sequence = session.new_sequence() if sources is None else session.encode_source(sources)[0]
    return session.forward([(sequence, tokens)], outputs="all")


def _variants() -> Iterator[dict[str, Any]]:
    """Every way of computing that must not matter: instruction set, threads, Numba or the C twins."""
    from importlib.util import find_spec

    from .._kernels import core

    for isa in core.isa_names():
        for threads in THREADS:
            for use_numba in (True, False) if find_spec("numba") else (False,):
                yield {"isa": isa, "threads": threads, "use_numba": use_numba}


def hash_file(path: str) -> list[dict[str, Any]]:
    """SHA-256 of the model's outputs for `fixed_tokens` in every variant that this machine can run."""
    from ..engine.session import Session

    rows = []
    variants = list(_variants())
    with progress("hashing") as report:
        for done, variant in enumerate(variants):
            session = Session.open(path, n_ctx=None, **variant)
            try:
                digest = hashlib.sha256(fixed_outputs(session).tobytes()).hexdigest()
            finally:
                session.close()
            rows.append({"file": path, **variant, "sha256": digest})
            report(done + 1, len(variants), path)
    return rows


def hash_files(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="GGUF model files.", show_default=False)],
    json: options.Json = False,
) -> None:
    """Show that a model's numbers do not depend on the machine: hashes for each instruction set and thread count.

    Runs fixed tokens, or fixed rows of an image or sound, and prints the SHA-256 of the logits, or hidden states, for
    each instruction set, for 1 and 2 threads, with norms by Numba and by C. Compare the hash with another machine's.
    Exit code 1 if two hashes of a file differ.

    Example: edgeformer hash my-model.gguf
    """
    rows = [row for path in files for row in hash_file(path)]
    same = {path: len({row["sha256"] for row in rows if row["file"] == path}) == 1 for path in files}
    if json:
        print_json({"equal": all(same.values()), "rows": rows})
    else:
        for row in rows:
            norms = "Numba" if row["use_numba"] else "C"
            print(f"{row['sha256']}  {row['isa']:<10}  {row['threads']} threads  {norms:<5}  {row['file']}")
        for path in files:
            print(f"{path}: {'all equal' if same[path] else 'NOT EQUAL'}")
    if not all(same.values()):
        raise typer.Exit(1)
