"""The runs of a loaded model: rows of sequences through its programs, undone where they fail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np

from .._kernels import core
from ..errors import ContextOverflowError, InvalidInputError, NumericError, UnsupportedModelError, quote
from ..graph.domains import OUTPUTS
from ..graph.graph import SOURCE
from ..graph.values import Value
from .batching import asking, batch_of, batch_of_samples, cut_runs, runs_by_results, whole_runs
from .caches import Caches
from .loading import LoadedModel
from .memory_plan import MAX_OUTPUT_BYTES
from .program import Batch, Program
from .programs import ProgramKey
from .sequence import CachedSequence, release
from .threads import Threads


class Runner:
    """Programs, caches and threads of a session. Every method but `close` is called under the lock of the caches."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._threads: Threads | None = loaded.threads
        self.caches = loaded.caches
        self.model, self.binder = loaded.architecture, loaded.binder
        self.programs = dict(loaded.programs)
        self._n_ctx, self.max_rows = loaded.n_ctx, loaded.max_rows
        self._context_length = loaded.architecture.context_length
        self._name = str(loaded.metadata["general.architecture"])
        self.beside: list[Runner] = []  # of adapters, over the same weights, caches and threads

    @property
    def pool(self) -> core.Pool:
        """The threads of an open model."""
        self.check_open()
        assert self._threads is not None  # as every open model has
        return self._threads.pool

    def close(self) -> None:
        """Forgets weights, caches and programs, and those beside them."""
        while self.beside:
            self.beside.pop().close()
        self.programs, self.caches = {}, Caches({}, {}, 0, {})
        self.binder.clear()
        self._threads = None

    def program(self, key: ProgramKey) -> Program:
        """The program that gives these outputs.

        Raises
        ------
        InvalidInputError
            The model is closed.
        UnsupportedModelError
            The model does not give them.
        """
        self.check_open()
        if key not in self.programs:
            raise UnsupportedModelError(f"this {self._name} model cannot give {', '.join(key[1])}")
        return self.programs[key]

    def showing(self, name: str, what: str, values: Mapping[str, Value]) -> Program:
        """The program `name` with these values as its outputs: made, and its memory taken, at the first request.

        Raises
        ------
        InvalidInputError, NotEnoughMemoryError
            The model is closed, or there is no room for it.
        """
        self.check_open()
        key = name, (f"{what} inside",)
        if key not in self.programs:
            self.programs[key] = self.binder.bind_later(self.model.programs[name].showing(values), self.max_rows, what)
        return self.programs[key]

    def floats(self, name: str) -> np.ndarray:
        """A tensor that some program reads as a vector, float32, end to end."""
        return self.binder.floats(name)

    def check_open(self) -> None:
        if not self.programs:
            raise InvalidInputError("the model is closed; load it again")

    def new_sequence(self, source_length: int = 0) -> CachedSequence:
        """An empty sequence; one that begins with a source gets that from `run_whole`."""
        self.check_open()
        return CachedSequence(self.caches, source_length)

    def read_sources(self, arrays: list[np.ndarray], cancel: core.CancelFlag | None) -> list[CachedSequence]:
        """A sequence for each source, which the program that reads them has read."""
        program = self.program((self.model.reader or "", ()))
        sequences: list[CachedSequence] = []
        for begin, end in self._whole_runs(arrays):
            made = [self.new_sequence(len(ids)) for ids in arrays[begin:end]]
            self.run_whole(program, arrays[begin:end], kept=made, cancel=cancel)
            sequences += made
        return sequences

    def states(
        self,
        program: Program,
        arrays: list[np.ndarray],
        types: list[np.ndarray] | None = None,
        sources: list[np.ndarray] | None = None,
        asked: list[np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """All outputs for every row of these sequences, which are forgotten afterwards.

        Of results that rows are asked for of, a program that steps gives those of the last row, another those of the
        rows `asked` of each sequence.
        """
        runs = [
            self._stepped(program, arrays[begin:end], None if sources is None else sources[begin:end])
            if program.steps
            else self.run_whole(
                program,
                arrays[begin:end],
                types=None if types is None else types[begin:end],
                asked=None if asked is None else asked[begin:end],
            )
            for begin, end in self._runs_of(program, arrays, sources, asked)
        ]
        return _joined(runs, program)

    def _runs_of(
        self,
        program: Program,
        arrays: list[np.ndarray],
        sources: list[np.ndarray] | None,
        asked: list[np.ndarray] | None,
    ) -> list[tuple[int, int]]:
        if program.steps:
            return self._stepped_runs([max(map(len, both)) for both in zip(arrays, sources or arrays, strict=True)])
        runs, widths = self._whole_runs(arrays), [w for _, w, d in program.recipe.outputs.values() if d == OUTPUTS]
        if asked is None or not widths:
            return runs
        return runs_by_results(runs, [len(rows) for rows in asked], MAX_OUTPUT_BYTES // (4 * sum(widths)))

    def _stepped(
        self, program: Program, arrays: list[np.ndarray], sources: list[np.ndarray] | None
    ) -> dict[str, np.ndarray]:
        """The outputs of a program that steps for new sequences."""
        last = all(domain == OUTPUTS for _, _, domain in program.recipe.outputs.values())
        new = [self.new_sequence() for _ in arrays] if sources is None else self.read_sources(sources, None)
        try:
            return self.run_steps(program, new, arrays, [1 if last else len(array) for array in arrays], None)
        finally:
            for sequence in new:
                sequence.free()

    def _stepped_runs(self, lengths: list[int]) -> list[tuple[int, int]]:
        """As many new sequences at a time as have room in the caches beside those there are."""
        self.check_open()
        free = min(pool.num_free for pool in self.caches.pools.values())
        return whole_runs(lengths, sum(lengths), free)

    def _whole_runs(self, arrays: list[np.ndarray]) -> list[tuple[int, int]]:
        self.check_open()
        pages = self.caches.run_pages
        lengths = [len(array) if array.ndim == 1 else math.prod(array.shape[:-1]) for array in arrays]
        return whole_runs(lengths, self.max_rows, self.max_rows if pages is None else pages)

    def _check_sequences(self, sequences: list[CachedSequence], arrays: list[np.ndarray]) -> None:
        """Each is of this session, not freed, named once, and has room for what it is fed."""
        for index, (sequence, array) in enumerate(zip(sequences, arrays, strict=True)):
            if not isinstance(sequence, CachedSequence):
                raise InvalidInputError(f"feeds[{index}]: a sequence of this session is needed, not {quote(sequence)}")
            if sequence.caches is not self.caches:
                raise InvalidInputError(f"feeds[{index}]: the sequence belongs to another session")
            if sequence.is_free:
                raise InvalidInputError(f"feeds[{index}]: the sequence was freed; make a new one")
            if sequence.length + len(array) > self._n_ctx:
                needed = sequence.length + len(array)
                raise ContextOverflowError(needed, self._n_ctx, largest=self._context_length)
        if len(set(sequences)) != len(sequences):
            raise InvalidInputError("a sequence stands twice in one batch; fork it")

    def _check_prefixes(
        self,
        program: Program,
        sequences: list[CachedSequence],
        arrays: list[np.ndarray],
        prefixes: Sequence[int],
    ) -> None:
        """One for each feed, of its rows, where nothing was before, and the attention takes them."""
        if not program.recipe.takes_prefix:
            raise UnsupportedModelError(f"the attention of this {self._name} model takes no prefix")
        if len(prefixes) != len(arrays):
            raise InvalidInputError(f"prefixes: {len(prefixes)} for {len(arrays)} feeds")
        for feed, (sequence, array, prefix) in enumerate(zip(sequences, arrays, prefixes, strict=True)):
            most = 0 if sequence.length else len(array)
            if not 0 <= prefix <= most:
                raise InvalidInputError(f"prefixes[{feed}] is {prefix}; it must be 0 to {most}, rows of a new sequence")

    def run_whole(
        self,
        program: Program,
        arrays: list[np.ndarray],
        *,
        kept: Sequence[CachedSequence] = (),
        types: list[np.ndarray] | None = None,
        asked: list[np.ndarray] | None = None,
        cancel: core.CancelFlag | None = None,
    ) -> dict[str, np.ndarray]:
        """One run over whole sequences. What it writes of sources goes to the sequences `kept`, or is forgotten."""
        tables = [sequence.tables for sequence in kept] or [self.caches.tables(SOURCE) for _ in arrays]
        try:
            for own, array in zip(tables, arrays, strict=True):
                for table in self.caches.of_lifetime(own, SOURCE):
                    table.extend(len(array))
            nothing = [0] * len(arrays)  # before them, and asked for
            batch = batch_of(program.recipe.caches, arrays, nothing, tables, nothing, token_types=types)
            return self._run(program, batch if asked is None else asking(batch, asked), cancel)
        except BaseException:
            for sequence in kept:
                sequence.free()
            raise
        finally:
            if not kept:
                release(table for own in tables for table in own.values())

    def features(
        self, program: Program, samples: list[np.ndarray], cancel: core.CancelFlag | None = None
    ) -> dict[str, list[np.ndarray]]:
        """All outputs of a program of float rows, sample by sample."""
        (source,) = program.recipe.features
        results: dict[str, list[np.ndarray]] = {name: [] for name in program.recipe.outputs}
        for begin, end in self._whole_runs(samples):
            batch = batch_of_samples(samples[begin:end], source.name)
            for name, rows_of_all in self._run(program, batch, cancel).items():
                domain = program.recipe.outputs[name][2]
                results[name] += np.split(rows_of_all, np.cumsum(program.rows_of(domain, batch.lengths))[:-1])
        return results

    def run_steps(
        self,
        program: Program,
        sequences: list[CachedSequence],
        arrays: list[np.ndarray],
        asked: list[int],
        cancel: core.CancelFlag | None,
        prefixes: Sequence[int] = (),
        out: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Appends the rows in runs of bounded size; undoes everything on failure. One run alone may use `out`."""
        self._check_sequences(sequences, arrays)
        if any(prefixes):
            self._check_prefixes(program, sequences, arrays, prefixes)
        before = [sequence.length for sequence in sequences]
        max_outputs = program.max_rows
        if max(asked, default=0) > 1:
            row_bytes = 4 * sum(width for _, width, _ in program.recipe.outputs.values())
            max_outputs = max(1, min(max_outputs, MAX_OUTPUT_BYTES // row_bytes))
        results: list[dict[str, np.ndarray]] = []
        runs = cut_runs([len(array) for array in arrays], asked, program.max_rows, max_outputs, prefixes)
        kept = [sequence.keep() for sequence in sequences] if len(runs) > 1 else []
        try:
            for run in runs:
                ids, positions, tables, num_outputs = [], [], [], []
                for feed, begin, end, count in run:
                    sequence = sequences[feed]
                    sequence.extend(end - begin)
                    ids.append(arrays[feed][begin:end])
                    positions.append(before[feed] + begin)
                    tables.append(sequence.tables)
                    num_outputs.append(count)
                seen = [prefixes[feed] for feed, *_ in run] if prefixes else None
                batch = batch_of(program.recipe.caches, ids, positions, tables, num_outputs, prefixes=seen)
                results.append(self._run(program, batch, cancel, out if len(runs) == 1 else None))
        except BaseException:
            for sequence, length, forks in zip(sequences, before, kept or repeat({}), strict=False):
                sequence.cut(length, forks)
            raise
        finally:
            for forks in kept:
                release(forks.values())
        return _joined(results, program)

    def top_log_probs(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`core.top_log_probs` on the model's threads, when it is its turn."""
        assert self._threads is not None
        with self._threads.turn:
            return core.top_log_probs(rows, count, pool=self._threads.pool)

    def _run(
        self, program: Program, batch: Batch, cancel: core.CancelFlag | None, out: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """One run, when it is its turn among all that share the threads."""
        assert self._threads is not None  # an open model, which alone has programs, has threads
        with self._threads.turn:
            results = program.run(self._threads.pool, batch, cancel, out)
        for name, (_, finite) in results.items():
            if not finite:
                raise NumericError(f"{name} are not finite: activations overflowed float32; is the checkpoint sound?")
        return {name: array for name, (array, _) in results.items()}


def _joined(results: list[dict[str, np.ndarray]], program: Program) -> dict[str, np.ndarray]:
    """The rows of several runs of a program, end to end."""
    if len(results) == 1:
        return results[0]
    widths = {name: width for name, (_, width, _) in program.recipe.outputs.items()}
    return {
        name: np.concatenate([np.empty((0, width), np.float32), *(result[name] for result in results)])
        for name, width in widths.items()
    }
