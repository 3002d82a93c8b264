"""A loaded model: the calls that run token ids through its programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from .._kernels import core
from ..errors import ContextOverflowError, InvalidInputError, InvalidOptionError, UnsupportedModelError
from ..files.gguf.reader import GGUFFile
from ..graph.domains import TOKEN_TYPES
from ..models.registry import build_architecture
from .loading import LoadedModel, LoadOptions, load_model
from .memory_plan import plan_memory
from .runner import Runner
from .sequence import CachedSequence

__all__ = ["CachedSequence", "Session", "plan_memory"]

Feed = tuple[CachedSequence, Sequence[int]]


class Session:
    """A model in memory. Open one with `Session.open`; every method may be called from several threads.

    Attributes
    ----------
    architecture, family : str
        The file's ``general.architecture``, and for people what kind of model it is.
    metadata : mapping
        Everything that the file says about itself, by GGUF key.
    step_outputs, whole_outputs : frozenset of str
        What the program that appends to sequences gives (`forward`), and what those over whole sequences give
        (`hidden`). A model has one of the two or both.
    needs_source : bool
        Whether sequences begin with a source (`encode_source`) instead of nothing (`new_sequence`).
    vocab_size, source_vocab_size : int
        Token ids that `forward` and `encode_source` take; equal where one of the two is missing.
    embedding_width : int
        Columns of a pooled vector; 0 where nothing is pooled.
    n_ctx : int
        Positions that a sequence, and a source, may have.
    context_length : int
        Positions that the model was made for: the largest `n_ctx` to load it with.
    contexts : int
        Sequences of `n_ctx` positions that the caches hold at a time.
    batch : int
        Rows of the largest run.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._runner, self._lock = Runner(loaded), loaded.caches.lock
        self._model = model = loaded.architecture
        self.architecture = str(loaded.metadata["general.architecture"])
        self.family, self.metadata = model.family, loaded.metadata
        self.step_outputs, self.whole_outputs = model.step_outputs, model.whole_outputs
        self.needs_source = model.stepper is not None and model.reader is not None
        self.vocab_size, self.source_vocab_size = model.vocab_size, model.source_vocab_size
        self.embedding_width = model.embedding_width
        self.n_ctx, self.contexts, self.batch = loaded.n_ctx, loaded.caches.contexts, loaded.batch
        self.context_length = model.context_length
        self.isa, self.threads, self.memory = loaded.isa, loaded.pool.threads, loaded.memory
        self.decoder_start_token_id = model.decoder_start_token_id
        self.normalize_embeddings = model.normalize_embeddings

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

    def __repr__(self) -> str:
        state = f"n_ctx={self.n_ctx}, threads={self.threads}, isa={self.isa!r}" if self._runner.programs else "closed"
        return f"<edgeformer.Session: {self.architecture} {self.family}, {state}>"

    def close(self) -> None:
        """Frees weights and caches; later calls raise `InvalidInputError`."""
        with self._lock:
            self._runner.close()

    # -- sequences ----------------------------------------------------------------------------------------------------

    def new_sequence(self) -> CachedSequence:
        """An empty sequence of a model that reads no source."""
        if self._model.stepper is None or self.needs_source:
            raise UnsupportedModelError(
                f"a {self.family} model has no sequences of its own; encode_source makes those of a model that reads "
                "sources"
            )
        return self._runner.new_sequence()

    def encode_source(
        self, sources: Sequence[Sequence[int]], cancel: core.CancelFlag | None = None
    ) -> list[CachedSequence]:
        """Reads each source's token ids once; returns a sequence for each, ready for `forward`.

        `cancel`, set from elsewhere, stops the run between two ops: `GenerationCancelled`.
        """
        if self._model.reader is None:
            raise UnsupportedModelError(f"a {self.family} model has no encoder for sources")
        arrays = [self._check(ids, self.source_vocab_size) for ids in sources]
        sequences: list[CachedSequence] = []
        with self._lock:
            program = self._runner.program((self._model.reader, ()))
            for begin, end in self._runner.whole_runs(arrays):
                group = arrays[begin:end]
                made = [self._runner.new_sequence(len(ids)) for ids in group]
                self._runner.run_whole(program, group, [sequence.tables for sequence in made], None, cancel)
                sequences += made
        return sequences

    # -- runs ---------------------------------------------------------------------------------------------------------

    def forward(
        self,
        feeds: Sequence[Feed],
        *,
        outputs: str | int | Sequence[int] = "last",
        cancel: core.CancelFlag | None = None,
    ) -> np.ndarray:
        """Appends token ids to sequences, all in one ragged batch.

        Parameters
        ----------
        feeds : list of (CachedSequence, token ids)
            Each sequence at most once.
        outputs : {"last", "all"}, int or list of int
            Logits of each feed's last row, of every row, or of so many of its last rows: one number for all feeds, or
            one for each, 0 for none.
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
        asked = rows_asked(outputs, [len(array) for array in arrays])
        with self._lock:
            program = self._runner.program((self._model.stepper or "", ("logits",)))
            return self._runner.run_steps(program, "logits", [s for s, _ in feeds], arrays, asked, cancel)

    def hidden(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        pooled: bool = False,
        normalize: bool | None = None,
        token_types: Sequence[Sequence[int]] | None = None,
    ) -> np.ndarray:
        """Hidden states after the last norm, float32 [all rows in order, width]; pooled: [sequences, width].

        Of a model that reads sources, the states are those of the source.

        Parameters
        ----------
        token_ids : list of lists of int
        pooled : bool
            One vector a sequence, by the model's own pooling.
        normalize : bool, optional
            Pooled vectors of length one; default what the file says.
        token_types : list of lists of int, optional
            Segment ids; default all 0.

        Raises
        ------
        InvalidOptionError
            `normalize` without `pooled`, or `token_types` for a model that has none.
        UnsupportedModelError
            The model does not give this.
        """
        output = self._hidden_output(pooled, normalize)
        arrays = [self._check(ids, self.source_vocab_size) for ids in token_ids]
        name = self._model.giving(output)
        if name is None and not pooled:
            name = self._model.stepper
        types = self._token_types(name, arrays, token_types)
        with self._lock:
            program = self._runner.program((name or "", (output,)))
            if name == self._model.stepper:
                results = [self._runner.run_fresh(program, output, arrays)]
            else:
                results = [
                    self._runner.run_whole(program, arrays[begin:end], None, types and types[begin:end])[output]
                    for begin, end in self._runner.whole_runs(arrays)
                ]
        if len(results) == 1:
            return results[0]
        return np.concatenate(results) if results else np.empty((0, 0), np.float32)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _hidden_output(self, pooled: bool, normalize: bool | None) -> str:
        if not pooled:
            if normalize is not None:
                raise InvalidOptionError("normalize: pooled vectors have a length; ask for them with pooled=True")
            return "hidden"
        return "normalized" if (self.normalize_embeddings if normalize is None else normalize) else "pooled"

    def _token_types(
        self, name: str | None, arrays: list[np.ndarray], token_types: Sequence[Sequence[int]] | None
    ) -> list[np.ndarray] | None:
        if token_types is None:
            return None
        if name is None or not self._model.programs[name].takes(TOKEN_TYPES):
            raise InvalidOptionError(f"token_types: this {self.architecture} model has no embeddings of them")
        types = [np.asarray(t, np.int32) for t in token_types]
        if [len(t) for t in types] != [len(a) for a in arrays]:
            raise InvalidInputError("token_types must have the lengths of token_ids")
        return types

    def _check(self, ids: Sequence[int], vocab_size: int) -> np.ndarray:
        array = core.token_ids(ids, vocab_size)
        if len(array) > self.n_ctx:
            raise ContextOverflowError(len(array), self.n_ctx, largest=self.context_length)
        return array


def rows_asked(outputs: str | int | Sequence[int], lengths: list[int]) -> list[int]:
    """How many of its last rows each feed is to give results of.

    Raises
    ------
    InvalidInputError
        There is not a number for each feed, or one is not within its rows.
    """
    if outputs == "last":
        return [1] * len(lengths)
    if outputs == "all":
        return lengths
    asked = [outputs] * len(lengths) if isinstance(outputs, int) else outputs
    if isinstance(asked, str) or len(asked) != len(lengths):
        raise InvalidInputError(f"outputs: 'last', 'all', a number of rows, or one for each of {len(lengths)} feeds")
    for feed, (count, length) in enumerate(zip(asked, lengths, strict=True)):
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 <= count <= length:
            raise InvalidInputError(f"outputs: feed {feed} has {length} rows, and {count!r} of them were asked for")
    return [int(count) for count in asked]
