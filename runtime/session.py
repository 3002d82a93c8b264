"""A loaded model: its weights, caches, programs and threads, and the calls that run token ids through them."""
from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence as SequenceOf
from typing import Any

import numpy as np

from edgeformer._kernels import core
from edgeformer.cache import PagePool, PageTable
from edgeformer.errors import ContextOverflowError, InvalidInputError, InvalidOptionError, NotEnoughMemoryError, NumericError, UnsupportedModelError
from edgeformer.gguf import GGUFFile
from edgeformer.graph import Architecture
from edgeformer.memory import (
    ELEMENT_BYTES, MAX_OUTPUT_BYTES, MAX_PASS_ROWS, MAX_ROWS, available_memory, cache_specs, compile_programs, pages_within, plan_recipes)
from edgeformer.models import build_architecture
from edgeformer.program import Batch, Program, concatenate_pages
from edgeformer.weights import Weights

logger = logging.getLogger("edgeformer")
Feed = tuple["Sequence", SequenceOf[int]]


class Sequence:
    """One sequence in a session's caches: a decoder's history and, for an encoder-decoder, its source.

    Freed by `free`, or when it is collected.
    """

    def __init__(self, tables: dict[str, PageTable], source_length: int = 0) -> None:
        self._tables = tables
        self.source_length = source_length
        self._finalizer = weakref.finalize(self, _release, list(tables.values()))
        self._finalizer.atexit = False

    @property
    def length(self) -> int:
        """Positions in the decoder's cache."""
        return self._tables["self"].length

    def fork(self) -> Sequence:
        """A sequence with the same past; pages are shared until one of the two writes."""
        return Sequence({name: table.fork() for name, table in self._tables.items()}, self.source_length)

    def truncate(self, length: int) -> None:
        """Forgets the positions from `length` on."""
        if not 0 <= length <= self.length:
            raise InvalidInputError(f"cannot truncate a sequence of {self.length} positions to {length}")
        self._tables["self"].truncate(length)

    def free(self) -> None:
        """Gives the pages back; the sequence cannot be used afterwards."""
        self._finalizer()


def _release(tables: list[PageTable]) -> None:
    for table in tables:
        pages, table.pages, table.length = table.pages, [], 0
        table.pool.release_later(pages)


class Session:
    """A model in memory. Open one with `Session.open`; every method may be called from several threads."""

    def __init__(self, architecture: Architecture, metadata: Mapping[str, Any], pool: core.Pool, programs: dict[tuple[str, tuple[str, ...]], Program],
                 pools: dict[str, PagePool], weights: Weights, n_ctx: int, isa: str, memory: dict[str, int]) -> None:
        self._architecture, self._pool, self._programs, self._page_pools = architecture, pool, programs, pools
        self._weights, self._lock, self._closed = weights, threading.Lock(), False
        self.family, self.config, self.metadata = architecture.family, architecture.config, metadata
        self.architecture = str(metadata["general.architecture"])
        self.vocab_size, self.n_ctx, self.isa, self.memory = architecture.vocab_size, n_ctx, isa, memory
        self.decoder_start_token_id = architecture.decoder_start_token_id
        self.normalize_embeddings = architecture.normalize_embeddings

    @classmethod
    def open(cls, path: str | os.PathLike[str], threads: int | None = None, n_ctx: int | None = None, max_memory: int | None = None,
             isa: str | None = None, kv_type: str = "f16", use_numba: bool | None = None,
             progress: Callable[[int, int], None] | None = None) -> Session:
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
        kv_type : {"f16", "f32"}
            Element type of the decoder's caches.
        use_numba : bool, optional
            Norms from Numba (default where it is installed) or from their C twins; the result is the same.
        progress : callable, optional
            Called with (bytes read, bytes in all) while weights load.

        Raises
        ------
        ModelNotFoundError, ModelFormatError, UnsupportedModelError, NotEnoughMemoryError, InvalidOptionError, UnsupportedCPUError
        """
        if kv_type not in ELEMENT_BYTES:
            raise InvalidOptionError(f"kv_type {kv_type!r} is not known; choose one of {', '.join(ELEMENT_BYTES)}")
        for name, value in (("threads", threads), ("n_ctx", n_ctx), ("max_memory", max_memory)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidOptionError(f"{name} must be a positive integer, not {value!r}")
        with GGUFFile(path) as file:
            return _load(file, threads, n_ctx, max_memory, isa or core.best_isa(), kv_type, use_numba, progress)

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return int(self._pool.threads)

    def close(self) -> None:
        """Frees weights and caches; later calls raise `InvalidInputError`."""
        with self._lock:
            self._closed = True
            self._programs = {}
            self._pool.close()

    # -- sequences ----------------------------------------------------------------------------------------------------

    def new_sequence(self) -> Sequence:
        """An empty sequence of a decoder-only model."""
        if self.family != "decoder":
            raise UnsupportedModelError(f"a {self.family} model has no sequences of its own; encode_source makes those of an encoder-decoder")
        return Sequence({"self": PageTable(self._page_pools["self"])})

    def encode_source(self, sources: SequenceOf[SequenceOf[int]]) -> list[Sequence]:
        """Runs the encoder over each source's token ids once; returns a sequence for each, ready to decode."""
        if self.family != "encoder-decoder":
            raise UnsupportedModelError(f"a {self.family} model has no encoder for sources")
        arrays = [self._check(ids, self._source_vocab_size) for ids in sources]
        sequences: list[Sequence] = []
        with self._lock:
            for group in self._groups(arrays):
                tables = [PageTable(self._page_pools["cross"]) for _ in group]
                sequences += [Sequence({"self": PageTable(self._page_pools["self"]), "cross": table}, len(ids))
                              for table, ids in zip(tables, group, strict=True)]
                self._run_pass(("encode", ()), group, {"cross": tables}, None)
        return sequences

    # -- runs ---------------------------------------------------------------------------------------------------------

    def forward(self, feeds: SequenceOf[Feed], *, outputs: str = "last", cancel: core.CancelFlag | None = None) -> np.ndarray:
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

    def hidden(self, token_ids: SequenceOf[SequenceOf[int]], *, pooled: bool = False, normalize: bool | None = None,
               token_types: SequenceOf[SequenceOf[int]] | None = None) -> np.ndarray:
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
        results, done = [], 0
        with self._lock:
            for group in self._groups(arrays):
                group_types = None if types is None else np.concatenate(types[done:done + len(group)])
                tables = {name: [PageTable(pool) for _ in group] for name, pool in self._page_pools.items() if name == "cross"}
                try:
                    results.append(self._run_pass(("encode", (output,)), group, tables, group_types)[output])
                finally:
                    _release([table for some in tables.values() for table in some])
                done += len(group)
        return np.concatenate(results) if results else np.empty((0, 0), np.float32)

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _source_vocab_size(self) -> int:
        return int(self.config.src_vocab_size)

    def _program(self, key: tuple[str, tuple[str, ...]]) -> Program:
        if self._closed:
            raise InvalidInputError("the model is closed; load it again")
        if key not in self._programs:
            raise UnsupportedModelError(f"this {self.architecture} model cannot give {', '.join(key[1])}")
        return self._programs[key]

    def _check(self, ids: SequenceOf[int], vocab_size: int) -> np.ndarray:
        try:
            array = np.asarray(ids, np.int64)
        except (TypeError, ValueError, OverflowError):
            raise InvalidInputError("token ids must be integers") from None
        if array.ndim != 1 or len(array) == 0:
            raise InvalidInputError("no token ids: an empty prompt cannot be run; give at least one token")
        if len(array) > self.n_ctx:
            raise ContextOverflowError(len(array), self.n_ctx)
        if array.min() < 0 or array.max() >= vocab_size:
            wrong = array[(array < 0) | (array >= vocab_size)][0]
            raise InvalidInputError(f"token id {wrong} is outside the vocabulary 0..{vocab_size - 1}")
        return array.astype(np.int32)

    def _groups(self, arrays: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Cuts sequences into runs that fit the encoder's own pages."""
        free, groups, rows, pages = self._page_pools["pass"].num_free, [], 0, 0
        for array in arrays:
            need = -(-len(array) // 16)
            if not groups or rows + len(array) > MAX_PASS_ROWS or pages + need > free:
                groups.append([])
                rows = pages = 0
            groups[-1].append(array)
            rows, pages = rows + len(array), pages + need
        return groups

    def _run_pass(self, key: tuple[str, tuple[str, ...]], arrays: list[np.ndarray], tables: dict[str, list[PageTable]],
                  token_types: np.ndarray | None) -> dict[str, np.ndarray]:
        """One run of an encoder over whole sequences; `tables` of other caches are extended by them."""
        program, own = self._program(key), [PageTable(self._page_pools["pass"]) for _ in arrays]
        try:
            for some in (own, *tables.values()):
                for table, array in zip(some, arrays, strict=True):
                    table.extend(len(array))
            segments, page_tables = {}, {}
            lengths = [len(array) for array in arrays]
            for name, some in {"pass": own, **tables}.items():
                segments[name], page_tables[name] = _segments(some, lengths, [0] * len(some), lengths)
            positions = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
            batch = Batch(np.concatenate(arrays), positions, segments, page_tables, np.empty(0, np.int32), token_types)
            return self._finite(program.run(self._pool, batch))
        except BaseException:
            _release([table for some in tables.values() for table in some])
            raise
        finally:
            _release(own)

    def _run_chunks(self, program: Program, output: str, width: int, sequences: list[Sequence], arrays: list[np.ndarray], outputs: str,
                    cancel: core.CancelFlag | None) -> np.ndarray:
        """Feeds the rows in runs of bounded size; undoes everything on failure."""
        before = [sequence.length for sequence in sequences]
        for length, array in zip(before, arrays, strict=True):
            if length + len(array) > self.n_ctx:
                raise ContextOverflowError(length + len(array), self.n_ctx)
        wants_all = outputs == "all"
        limit = max(1, min(MAX_ROWS, MAX_OUTPUT_BYTES // (4 * width))) if wants_all else MAX_ROWS
        results = []
        try:
            for parts in _chunks([len(array) for array in arrays], limit):
                chosen = [(sequences[i], arrays[i][begin:end], end == len(arrays[i])) for i, begin, end in parts]
                results.append(self._run_rows(program, chosen, wants_all, cancel)[output])
        except BaseException:
            for sequence, length in zip(sequences, before, strict=True):
                sequence.truncate(length)
            raise
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _run_rows(self, program: Program, parts: list[tuple[Sequence, np.ndarray, bool]], wants_all: bool,
                  cancel: core.CancelFlag | None) -> dict[str, np.ndarray]:
        """One run of a decoder: (sequence, its next ids, whether they are the last of its feed)."""
        lengths = [len(ids) for _, ids, _ in parts]
        starts = [sequence.length for sequence, _, _ in parts]
        for sequence, ids, _ in parts:
            sequence._tables["self"].extend(len(ids))
        own = [sequence._tables["self"] for sequence, _, _ in parts]
        segments, page_tables = {}, {}
        segments["self"], page_tables["self"] = _segments(own, lengths, starts, [table.length for table in own])
        if "cross" in self._page_pools:
            cross = [sequence._tables["cross"] for sequence, _, _ in parts]
            segments["cross"], page_tables["cross"] = _segments(cross, lengths, [0] * len(parts), [table.length for table in cross])
        positions = np.concatenate([np.arange(s, s + n, dtype=np.int32) for s, n in zip(starts, lengths, strict=True)])
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) if wants_all else np.array([end - 1 for end, part in zip(ends, parts, strict=True) if part[2]])
        batch = Batch(np.concatenate([ids for _, ids, _ in parts]), positions, segments, page_tables, rows.astype(np.int32))
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

    def _finite(self, results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in results.items():
            if not np.isfinite(array).all():
                culprit = self._weights.first_non_finite()
                where = f"weights of {culprit} hold NaN or infinity" if culprit else "activations overflowed float32"
                raise NumericError(f"{name} are not finite: {where}; convert the checkpoint again from a sound source")
        return results


def _segments(tables: list[PageTable], lengths: list[int], positions: list[int], kv_lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The ef_segment rows of one cache, and its page table."""
    flat, starts = concatenate_pages([table.pages for table in tables])
    segments = np.zeros((len(tables), 6), np.int32)
    segments[:, 0] = np.cumsum([0, *lengths[:-1]])
    for column, values in enumerate((lengths, positions, kv_lengths, starts), 1):
        segments[:, column] = values
    return segments, flat


def _chunks(lengths: list[int], limit: int) -> list[list[tuple[int, int, int]]]:
    """(feed, begin, end) of each run's parts: feeds in order, at most `limit` rows a run."""
    runs: list[list[tuple[int, int, int]]] = [[]]
    room = limit
    for index, length in enumerate(lengths):
        begin = 0
        while begin < length:
            if room == 0:
                runs.append([])
                room = limit
            end = min(length, begin + room)
            runs[-1].append((index, begin, end))
            room -= end - begin
            begin = end
    return runs


def _load(file: GGUFFile, threads: int | None, n_ctx: int | None, max_memory: int | None, isa: str, kv_type: str, use_numba: bool | None,
          progress: Callable[[int, int], None] | None) -> Session:
    architecture = build_architecture(file)
    recipes = compile_programs(architecture, file)
    n_ctx, plan, budget = _fit_context(file, architecture, recipes, n_ctx, max_memory, kv_type)
    pool = core.Pool(threads or core.default_threads())
    weights = Weights(file, pool, progress)
    caches = {}
    for name, spec in cache_specs(recipes).items():
        element = core.EF_F32 if spec.lifetime == "pass" or kv_type == "f32" else core.EF_F16
        pages = pages_within(spec, n_ctx, kv_type, budget)
        caches[name] = core.Cache(pages, spec.num_layers, spec.num_heads, spec.key_dim, spec.value_dim, element)
    programs = {key: Program(recipe, weights, caches, isa=isa, use_numba=use_numba) for key, recipe in recipes.items()}
    memory = {"weights": weights.nbytes, "cache": plan.cache, "scratch": plan.scratch}
    return Session(architecture, dict(file.metadata), pool, programs, {name: PagePool(cache) for name, cache in caches.items()}, weights, n_ctx, isa, memory)


def _fit_context(file: GGUFFile, architecture: Architecture, recipes: Any, n_ctx: int | None, max_memory: int | None,
                 kv_type: str) -> tuple[int, Any, int]:
    """The context to run with, its memory plan, and the bytes left for caches. A context that was asked for is never cut."""
    if n_ctx is not None and n_ctx > architecture.context_length:
        raise InvalidOptionError(f"n_ctx {n_ctx} is more than the {architecture.context_length} positions that the model was made for")
    wanted = n_ctx or architecture.context_length
    limit = min(available_memory(), max_memory) if max_memory else available_memory()
    while True:
        plan = plan_recipes(file, architecture, recipes, wanted, None, 1, kv_type)
        if plan.total <= limit:
            break
        if n_ctx is not None or wanted <= 256 or plan.total - plan.cache > limit:
            raise NotEnoughMemoryError(
                f"{file.path} does not fit (weights {plan.weights}, cache of {wanted} positions {plan.cache}, scratch {plan.scratch}): use a "
                "smaller n_ctx, a smaller type (convert --type q4_0) or a larger max_memory", plan.total, limit)
        wanted = max(wanted // 2, 256)
    if wanted < architecture.context_length and n_ctx is None:
        logger.warning("context cut from %d to %d positions to fit %d bytes of memory", architecture.context_length, wanted, limit)
    return wanted, plan, (limit - plan.weights - plan.scratch) // 2
