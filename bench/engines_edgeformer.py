"""edgeformer as worker.py hosts it, and the reader of memory that is timed beside it."""

from __future__ import annotations

from importlib.metadata import version

from edgeformer._kernels import core
from edgeformer.engine.session import Session

from .token_ids import seconds, token_ids


def edgeformer_version(isa: str) -> str:
    return f"edgeformer {version('edgeformer')} ({isa})"


class Decoder:
    """A GGUF: `{"prefill": n}` or `{"decode": n}`, from empty sequences, logits of every sequence's last row.

    `context` is for one sequence; `sequences` of them decode together, one step of all in a call.
    """

    def __init__(self, path: str, threads: int, context: int, isa: str | None = None, sequences: int = 1) -> None:
        self.session = Session.open(path, threads=threads, n_ctx=context, isa=isa)
        self.sequences = sequences
        self.version = edgeformer_version(self.session.isa)

    def run(self, prefill: int = 0, decode: int = 0) -> float:
        sequences = [self.session.new_sequence() for _ in range(self.sequences)]
        steps = [token_ids(prefill)] if prefill else [[token] for token in token_ids(decode)]

        def work() -> None:
            for ids in steps:
                self.session.forward([(sequence, ids) for sequence in sequences])

        elapsed = seconds(work)
        for sequence in sequences:
            sequence.free()
        return elapsed


class Encoder:
    """A converted encoder: `{"batch": b, "tokens": t}` to hidden states."""

    def __init__(self, path: str, threads: int, isa: str | None = None) -> None:
        self.session = Session.open(path, threads=threads, isa=isa)
        self.version = edgeformer_version(self.session.isa)

    def run(self, batch: int, tokens: int) -> float:
        sentences = [token_ids(tokens, row * tokens) for row in range(batch)]
        return seconds(lambda: self.session.hidden(sentences))

    def pooled(self, ids: list[list[int]]) -> list[list[float]]:
        """The mean of each sentence's hidden states, of length one."""
        vectors: list[list[float]] = self.session.hidden(ids, pooled=True, normalize=True).tolist()
        return vectors


class MemoryReader:
    """Reads memory larger than any cache, as fast as the machine can, whatever it is asked to run."""

    def __init__(self, threads: int, nbytes: int) -> None:
        self.pool, self.memory = core.Pool(threads), core.ReadBuffer(nbytes)
        self.version = f"{nbytes >> 20} MiB, {threads} threads"

    def run(self, **_: int) -> float:
        return seconds(lambda: self.memory.checksum(None, self.pool))
