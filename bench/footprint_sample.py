"""One sample in a fresh process, as JSON: `import` | `load PATH THREADS PROMPT CONTEXT` | `memory` with the same.

import: milliseconds that `import edgeformer` takes once NumPy is there. load: seconds until a model is ready to run.
memory: megabytes that the process held at most while it loaded, read a prompt and decoded eight tokens.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy  # noqa: F401 -- not part of what is measured

from .token_ids import seconds, token_ids


def import_milliseconds() -> float:
    def bring_in() -> None:
        import edgeformer  # noqa: F401

    return 1e3 * seconds(bring_in)


def opened(path: str, threads: str, context: str) -> Any:
    from edgeformer.engine.session import Session

    return Session.open(path, threads=int(threads), n_ctx=int(context))


def load_seconds(path: str, threads: str, prompt: str, context: str) -> float:
    from edgeformer.engine.session import Session  # noqa: F401 -- importing is another row

    return seconds(lambda: opened(path, threads, context))


def peak_megabytes(path: str, threads: str, prompt: str, context: str) -> float:
    from edgeformer.generation.results import peak_memory_bytes

    session = opened(path, threads, context)
    sequence = session.new_sequence()
    session.forward([(sequence, token_ids(int(prompt)))])
    for token in token_ids(8):
        session.forward([(sequence, [token])])
    return (peak_memory_bytes() or 0) / 1e6


if __name__ == "__main__":
    measures = {"import": import_milliseconds, "load": load_seconds, "memory": peak_megabytes}
    print(json.dumps({"value": measures[sys.argv[1]](*sys.argv[2:])}))
