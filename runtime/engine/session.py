"""A loaded model: the calls that run token ids through its programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from itertools import accumulate

import numpy as np

from .._kernels import core
from ..errors import ContextOverflowError, InvalidInputError, NumericError, UnsupportedModelError
from ..files.gguf.reader import GGUFFile
from ..host.forks import fork_safe_lock
from ..models.registry import build_architecture
from .batching import chunks, groups
from .batching import segments as segments_of
from .cache import PagePool, PageTable
from .loading import LoadedModel, LoadOptions, load_model
from .memory_plan import MAX_OUTPUT_BYTES, ProgramKey, plan_memory
from .program import Batch, Program
from .sequence import Sequence, release

__all__ = ["Sequence", "Session", "plan_memory"]

Feed = tuple[Sequence, SequenceOf[int]]


class Session:
    """A model in memory. Open one with `Session.open`; every method may be called from several threads."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._lock, self._weights, self.batch = fork_safe_lock(), loaded.weights, loaded.batch
        self._pool, self._programs, self._page_pools = loaded.pool, dict(loaded.programs), loaded.page_pools
        architecture = loaded.architecture
        self.architecture = str(loaded.metadata["general.architecture"])
        self.family, self.config, self.metadata = architecture.family, architecture.config, loaded.metadata
        self.vocab_size, self.n_ctx, self.isa = architecture.vocab_size, loaded.n_ctx, loaded.isa
        self.memory = loaded.memory
        self.decoder_start_token_id = architecture.decoder_start_token_id
        self.normalize_embeddings = architecture.normalize_embeddings

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        threads: int | None = None,
        n_ctx: int | None = None,
        max_memory: int | None = None,
        isa: str | None = None,
        kv_type: str = "f16",
        use_numba: bool | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Session:
        """Loads the model at `path`.

        Parameters
        ----------
        path : path of a GGUF file
        threads : int, optional
            Default: the processors this process may use.
        n_ctx : int, optional
            Positions a sequence may have; default the model's own, less where memory does not suffice.
        max_memory : int, optional
            Bytes for weights, caches and scratch together.
        isa : str, optional
            Instruction set of the kernels (see `core.isa_names`); the result is the same.
        kv_type : {"f16", "f32", "q8_0"}
            Element type of the decoder's caches.
        use_numba : bool, optional
            Norms from Numba (default where it is installed) or from their C twins; the result is the same.
        progress : callable, optional
            Called with (bytes read, bytes in all) while weights load.

        Raises
        ------
        ModelNotFoundError, ModelFormatError, UnsupportedModelError, NotEnoughMemoryError, InvalidOptionError,
        UnsupportedCPUError
        """
        options = LoadOptions(threads, n_ctx, max_memory, isa, kv_type, use_numba, progress)
        with GGUFFile(path) as file:
            return cls(load_model(file, build_architecture(file), options))

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return int(self._pool.threads)

    def close(self) -> None:
        """Frees weights and caches; later calls raise `InvalidInputError`."""
        with self._lock:
            self._programs, self._page_pools = {}, {}
            self._weights.clear()
            self._pool.close()

    # -- sequences ----------------------------------------------------------------------------------------------------

    def new_sequence(self) -> Sequence:
        """An empty sequence of a decoder-only model."""
        if self.family != "decoder":
            raise UnsupportedModelError(
                f"a {self.family} model has no sequences of its own; encode_source makes those of an encoder-decoder"
            )
        return Sequence({"self": PageTable(self._pages("self"))}, self._lock)

    def encode_source(
        self, sources: SequenceOf[SequenceOf[int]], cancel: core.CancelFlag | None = None
    ) -> list[Sequence]:
        """Runs the encoder over each source's token ids once; returns a sequence for each, ready to decode.

        `cancel`, set from elsewhere, stops the run between two ops: `GenerationCancelled`.
        """
        if self.family != "encoder-decoder":
            raise UnsupportedModelError(f"a {self.family} model has no encoder for sources")
        arrays = [self._check(ids, self._source_vocab_size) for ids in sources]
        sequences: list[Sequence] = []
        with self._lock:
            for begin, end in self._groups(arrays):
                group = arrays[begin:end]
                tables = [PageTable(self._pages("cross")) for _ in group]
                sequences += [
                    Sequence({"self": PageTable(self._pages("self")), "cross": table}, self._lock, len(ids))
                    for table, ids in zip(tables, group, strict=True)
                ]
                self._run_pass(("encode", ()), group, {"cross": tables}, None, cancel)
        return sequences

    # -- runs ---------------------------------------------------------------------------------------------------------

    def forward(
        self, feeds: SequenceOf[Feed], *, outputs: str = "last", cancel: core.CancelFlag | None = None
    ) -> np.ndarray:
        """Appends token ids to sequences, all in one ragged batch.

        Parameters
        ----------
        feeds : list of (Sequence, token ids)
            Each sequence at most once.
        outputs : {"last", "all"}
            Logits of each feed's last row, or of every row.
        cancel : core.CancelFlag, optional
            Set from elsewhere, stops the run between two ops.

        Returns
        -------
        float32 array [rows, vocab_size], in the order of the feeds.

        Raises
        ------
        ContextOverflowError, InvalidInputError, NotEnoughMemoryError, NumericError, GenerationCancelled
            The sequences are as they were before the call.
        """
        arrays = [self._check(ids, self.vocab_size) for _, ids in feeds]
        if len({id(sequence) for sequence, _ in feeds}) != len(feeds):
            raise InvalidInputError("a sequence stands twice in one batch; fork it")
        with self._lock:
            program = self._program(("decode", ("logits",)))
            return self._run_chunks(program, "logits", self.vocab_size, [s for s, _ in feeds], arrays, outputs, cancel)

    def hidden(
        self,
        token_ids: SequenceOf[SequenceOf[int]],
        *,
        pooled: bool = False,
        normalize: bool | None = None,
        token_types: SequenceOf[SequenceOf[int]] | None = None,
    ) -> np.ndarray:
        """Hidden states after the last norm, float32 [all rows in order, width]; pooled: [sequences, width].

        Parameters
        ----------
        token_ids : list of lists of int
        pooled : bool
            One vector a sequence, by the model's own pooling (encoders).
        normalize : bool, optional
            Pooled vectors of length one; default what the file says.
        token_types : list of lists of int, optional
            Segment ids; default all 0.
        """
        if self.family == "decoder":
            return self._decoder_hidden(token_ids)
        vocab_size = self.vocab_size if self.family == "encoder" else self._source_vocab_size
        arrays = [self._check(ids, vocab_size) for ids in token_ids]
        output = "hidden"
        if pooled:
            output = "normalized" if (self.normalize_embeddings if normalize is None else normalize) else "pooled"
        types = None if token_types is None else [np.asarray(t, np.int32) for t in token_types]
        if types is not None and [len(t) for t in types] != [len(a) for a in arrays]:
            raise InvalidInputError("token_types must have the lengths of token_ids")
        results = []
        with self._lock:
            for begin, end in self._groups(arrays):
                group_types = None if types is None else np.concatenate(types[begin:end])
                cross = {
                    name: [PageTable(pool) for _ in arrays[begin:end]]
                    for name, pool in self._page_pools.items()
                    if name == "cross"
                }
                results.append(self._run_pass(("encode", (output,)), arrays[begin:end], cross, group_types)[output])
                release([table for tables in cross.values() for table in tables])
        if len(results) == 1:
            return results[0]
        return np.concatenate(results) if results else np.empty((0, 0), np.float32)

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _source_vocab_size(self) -> int:
        return int(self.config.src_vocab_size)

    def _check_open(self) -> None:
        if not self._programs:
            raise InvalidInputError("the model is closed; load it again")

    def _pages(self, name: str) -> PagePool:
        self._check_open()
        return self._page_pools[name]

    def _program(self, key: ProgramKey) -> Program:
        self._check_open()
        if key not in self._programs:
            raise UnsupportedModelError(f"this {self.architecture} model cannot give {', '.join(key[1])}")
        return self._programs[key]

    def _check(self, ids: SequenceOf[int], vocab_size: int) -> np.ndarray:
        array = core.token_ids(ids, vocab_size)
        if len(array) > self.n_ctx:
            raise ContextOverflowError(len(array), self.n_ctx)
        return array

    def _groups(self, arrays: list[np.ndarray]) -> list[tuple[int, int]]:
        lengths = [len(array) for array in arrays]
        return groups(lengths, self.batch, self._pages("pass").num_free)

    def _run_pass(
        self,
        key: ProgramKey,
        arrays: list[np.ndarray],
        tables: dict[str, list[PageTable]],
        token_types: np.ndarray | None,
        cancel: core.CancelFlag | None = None,
    ) -> dict[str, np.ndarray]:
        """One run of an encoder over whole sequences; `tables` of other caches are extended by them."""
        program, own = self._program(key), [PageTable(self._pages("pass")) for _ in arrays]
        try:
            for some in (own, *tables.values()):
                for table, array in zip(some, arrays, strict=True):
                    table.extend(len(array))
            segments, page_tables = {}, {}
            lengths = [len(array) for array in arrays]
            for name, some in {"pass": own, **tables}.items():
                segments[name], page_tables[name] = segments_of(some, lengths, [0] * len(some), lengths)
            positions = core.row_positions([0] * len(lengths), lengths)
            batch = Batch(np.concatenate(arrays), positions, segments, page_tables, np.empty(0, np.int32), token_types)
            return self._finite(program.run(self._pool, batch, cancel))
        except BaseException:
            release([table for some in tables.values() for table in some])
            raise
        finally:
            release(own)

    def _run_chunks(
        self,
        program: Program,
        output: str,
        width: int,
        sequences: list[Sequence],
        arrays: list[np.ndarray],
        outputs: str,
        cancel: core.CancelFlag | None,
    ) -> np.ndarray:
        """Feeds the rows in runs of bounded size; undoes everything on failure."""
        before = [sequence.length for sequence in sequences]
        for length, array in zip(before, arrays, strict=True):
            if length + len(array) > self.n_ctx:
                raise ContextOverflowError(length + len(array), self.n_ctx)
        wants_all = outputs == "all"
        limit = program.max_rows
        if wants_all:
            limit = max(1, min(limit, MAX_OUTPUT_BYTES // (4 * width)))
        results = []
        try:
            for parts in chunks([len(array) for array in arrays], limit):
                chosen = [(sequences[i], arrays[i][begin:end], end == len(arrays[i])) for i, begin, end in parts]
                results.append(self._run_rows(program, chosen, wants_all, cancel)[output])
        except BaseException:
            for sequence, length in zip(sequences, before, strict=True):
                sequence.truncate(length)
            raise
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _run_rows(
        self,
        program: Program,
        parts: list[tuple[Sequence, np.ndarray, bool]],
        wants_all: bool,
        cancel: core.CancelFlag | None,
    ) -> dict[str, np.ndarray]:
        """One run of a decoder: (sequence, its next ids, whether they are the last of its feed)."""
        lengths = [len(ids) for _, ids, _ in parts]
        starts = [sequence.length for sequence, _, _ in parts]
        for sequence, ids, _ in parts:
            sequence.tables["self"].extend(len(ids))
        own = [sequence.tables["self"] for sequence, _, _ in parts]
        segments, page_tables = {}, {}
        segments["self"], page_tables["self"] = segments_of(own, lengths, starts, [table.length for table in own])
        if "cross" in self._page_pools:
            cross = [sequence.tables["cross"] for sequence, _, _ in parts]
            segments["cross"], page_tables["cross"] = segments_of(
                cross, lengths, [0] * len(parts), [table.length for table in cross]
            )
        tokens = np.concatenate([ids for _, ids, _ in parts])
        ends = accumulate(lengths)
        rows = range(len(tokens)) if wants_all else [end - 1 for end, part in zip(ends, parts, strict=True) if part[2]]
        positions, output_rows = core.row_positions(starts, lengths), np.array(rows, np.int32)
        batch = Batch(tokens, positions, segments, page_tables, output_rows)
        return self._finite(program.run(self._pool, batch, cancel))

    def _decoder_hidden(self, token_ids: SequenceOf[SequenceOf[int]]) -> np.ndarray:
        arrays = [self._check(ids, self.vocab_size) for ids in token_ids]
        sequences = [self.new_sequence() for _ in arrays]
        try:
            with self._lock:
                program = self._program(("decode", ("hidden",)))
                width = program.recipe.outputs["hidden"][1]
                return self._run_chunks(program, "hidden", width, sequences, arrays, "all", None)
        finally:
            for sequence in sequences:
                sequence.free()

    def _finite(self, results: dict[str, tuple[np.ndarray, bool]]) -> dict[str, np.ndarray]:
        for name, (_, finite) in results.items():
            if not finite:
                culprit = self._weights.first_non_finite()
                where = f"weights of {culprit} hold NaN or infinity" if culprit else "activations overflowed float32"
                raise NumericError(f"{name} are not finite: {where}; convert the checkpoint again from a sound source")
        return {name: array for name, (array, _) in results.items()}
