"""A stand-in for `Session` whose logits are looked up in a table by the last token: what comes next is known."""

from __future__ import annotations

import itertools
import threading

import numpy as np
from edgeformer._kernels import core
from edgeformer.errors import ContextOverflowError, GenerationCancelled
from edgeformer.model import Model
from edgeformer.text.settings import TextSettings

BOS, EOS = 256, 257
VOCABULARY = 258


def byte_pieces() -> list[str]:
    """One token a byte, in GPT-2's spelling, then the start and the end token."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)] + ["<s>", "<e>"]


def byte_metadata(**more: object) -> dict[str, object]:
    return {
        "general.architecture": "bigram",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": byte_pieces(),
        "tokenizer.ggml.token_type": [1] * 256 + [3, 3],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.add_bos_token": True,
        **more,
    }


class FakeSequence:
    def __init__(self, session: FakeSession, ids: tuple[int, ...] = (), source: tuple[int, ...] = ()) -> None:
        self.session, self.ids, self.source = session, list(ids), source
        self.is_free = False
        session.live += 1

    @property
    def length(self) -> int:
        return len(self.ids)

    def fork(self) -> FakeSequence:
        assert not self.is_free
        return FakeSequence(self.session, tuple(self.ids), self.source)

    def free(self) -> None:
        if not self.is_free:
            self.is_free = True
            self.session.live -= 1


class FakeSession:
    """Counts the sequences that are not freed (`live`), the forward passes (`steps`) and the `most` feeds of one."""

    def __init__(
        self, table: np.ndarray, *, n_ctx: int = 64, family: str = "decoder", metadata: dict | None = None
    ) -> None:
        self.table = np.asarray(table, np.float32)
        self.n_ctx, self.contexts, self.family, self.architecture = n_ctx, 64, family, "bigram"
        self.attends, self.features_taken = False, None
        self.needs_source = family == "encoder-decoder"
        self.step_outputs = frozenset(() if family == "encoder" else ("hidden", "logits"))
        self.whole_outputs = frozenset(
            {"encoder": ("hidden", "pooled"), "encoder-decoder": ("hidden",)}.get(family, ())
        )
        self.metadata = byte_metadata() if metadata is None else metadata
        self.vocab_size, self.embedding_width = self.table.shape[1], 4
        self.context_length = 64
        self.decoder_start_token_id = 0 if family == "encoder-decoder" else None
        self.threads, self.isa, self.memory = 1, "scalar", {}
        self.live = self.most = self.steps = 0
        self.before_step = lambda: None
        self.closed = False
        self._lock = threading.Lock()

    def new_sequence(self) -> FakeSequence:
        return FakeSequence(self)

    def encode_source(self, sources: list[list[int]], cancel: core.CancelFlag | None = None) -> list[FakeSequence]:
        return [FakeSequence(self, source=tuple(source)) for source in sources]

    def forward(
        self,
        feeds: list[tuple[FakeSequence, list[int]]],
        *,
        outputs: str = "last",
        cancel: core.CancelFlag | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        with self._lock:
            self.steps += 1
            self.most = max(self.most, len(feeds))
            self.before_step()
            if cancel is not None and cancel.is_set():
                raise GenerationCancelled()
            rows = []
            for sequence, ids in feeds:
                assert not sequence.is_free
                assert len(ids) > 0
                if sequence.length + len(ids) > self.n_ctx:
                    raise ContextOverflowError(sequence.length + len(ids), self.n_ctx)
                sequence.ids.extend(ids)
                rows.extend(self.table[list(ids)] if outputs == "all" else [self.table[ids[-1]]])
            return np.array(rows, np.float32)

    def top_log_probs(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        return core.top_log_probs(rows, count)

    def hidden(
        self,
        token_ids: list[list[int]],
        *,
        pooled: bool = False,
        normalize: bool | None = None,
        layers: bool = False,
        sources: list[list[int]] | None = None,
    ) -> np.ndarray:
        self.steps += 1
        if pooled:
            scale = -1.0 if normalize else 1.0
            return np.array([[len(ids), ids[0], ids[-1], scale] for ids in token_ids], np.float32)
        return np.array([[token] * 4 for ids in token_ids for token in ids], np.float32)

    def close(self) -> None:
        self.closed = True


def model_of(session: FakeSession) -> Model:
    path = "/nowhere/bigram.gguf"
    texts = TextSettings.from_metadata(session.metadata, path, session.vocab_size)
    return Model(session, path, {}, "", texts)  # type: ignore[arg-type]


def says(text: str, end: int = EOS) -> np.ndarray:
    """A table that, begun anywhere in `text`, greedily goes on to its end (its bytes must all differ)."""
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    chain = [BOS, *text.encode(), end]
    assert len(set(chain)) == len(chain)
    for token, following in itertools.pairwise(chain):
        table[token, following] = 10.0
    return table
