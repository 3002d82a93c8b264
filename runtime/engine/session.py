"""A loaded model: the calls that run token ids through its programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from .._kernels import core
from ..errors import InvalidInputError, InvalidOptionError, UnsupportedModelError
from ..files.gguf.reader import GGUFFile
from ..graph.domains import TOKEN_TYPES
from ..models.registry import build_architecture
from .batching import rows_asked
from .inputs import check_asked, check_ids, check_rows, check_token_types, hidden_output, result_rows, shifted
from .inside import LAYERS, layer_values, looks_of, seen_values, source_keys, weights_of
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
    attends, takes_token_types : bool
        Whether there is attention to look at, and whether there are embeddings of token types.
    needs_source : bool
        Whether sequences begin with a source (`encode_source`) instead of nothing (`new_sequence`).
    vocab_size, source_vocab_size : int
        Token ids that `forward` and `encode_source` take; equal where one of the two is missing.
    embedding_width : int
        Columns of a pooled vector; 0 where nothing is pooled.
    classifier : Classifier or None
        Names of the classes, and how their numbers become scores.
    features_taken : Features or None
        The float rows that the model takes instead of token ids, if it does: their name and width.
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
        self.attends, self.takes_token_types = model.attends, model.takes_token_types
        self.needs_source = model.stepper is not None and model.reader is not None
        self.vocab_size, self.source_vocab_size = model.vocab_size, model.source_vocab_size
        self.embedding_width, self.features_taken = model.embedding_width, model.features_taken
        self.n_ctx, self.contexts, self.batch = loaded.n_ctx, loaded.caches.contexts, loaded.max_rows
        self.context_length = model.context_length
        self.isa, self.threads, self.memory = loaded.isa, loaded.threads.pool.threads, loaded.memory
        self.decoder_start_token_id = model.decoder_start_token_id
        self.normalize_embeddings, self.classifier = model.normalize_embeddings, model.classifier

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
            return cls(load_model(file, build_architecture(file, n_ctx), options))

    def __repr__(self) -> str:
        state = f"n_ctx={self.n_ctx}, threads={self.threads}, isa={self.isa!r}" if self._runner.programs else "closed"
        return f"<edgeformer.Session: {self.architecture} {self.family}, {state}>"

    def close(self) -> None:
        """Frees weights and caches; later calls raise `InvalidInputError`."""
        with self._lock:
            self._runner.close()

    def new_sequence(self) -> CachedSequence:
        """An empty sequence of a model that reads no source."""
        if self._model.stepper is None or self.needs_source:
            what = "has no sequences of its own; encode_source makes those of a model that reads sources"
            raise UnsupportedModelError(f"a {self.family} model {what}")
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
        with self._lock:
            return self._runner.read_sources(arrays, cancel)

    def forward(
        self,
        feeds: Sequence[Feed],
        *,
        outputs: str | int | Sequence[int] = "last",
        cancel: core.CancelFlag | None = None,
        prefixes: Sequence[int] = (),
        out: np.ndarray | None = None,
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
        prefixes : list of int, optional
            How many rows at the beginning of each feed see one another both ways, 0 for none; of new sequences, and of
            a model whose attention takes that.
        out : float32 array [rows or more, vocab_size], optional
            Memory that the result may take.

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
            sequences = [sequence for sequence, _ in feeds]
            return self._runner.run_steps(program, sequences, arrays, asked, cancel, list(prefixes), out)["logits"]

    def top_log_probs(self, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`core.top_log_probs` of rows of logits, on the model's threads."""
        return self._runner.top_log_probs(rows, count)

    def hidden(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        pooled: bool = False,
        normalize: bool | None = None,
        token_types: Sequence[Sequence[int]] | None = None,
        layers: bool = False,
        sources: Sequence[Sequence[int]] | None = None,
    ) -> np.ndarray:
        """Hidden states after the last norm, float32 [all rows in order, width]; pooled: [sequences, width].

        Parameters
        ----------
        token_ids : list of lists of int
            Of a model that reads sources, the sources, unless `sources` are given.
        pooled : bool
            One vector a sequence, by the model's own pooling.
        normalize : bool, optional
            Pooled vectors of length one; default what the file says.
        token_types : list of lists of int, optional
            Segment ids; default all 0.
        layers : bool
            The states before the first layer and after each, before the last norm: float32 [layers + 1, rows, width].
            The first request makes a program for them and takes the memory that it works in (`memory` tells).
        sources : list of lists of int, optional
            A source for each of `token_ids`; the states are then those of the program that steps over it.

        Raises
        ------
        InvalidOptionError
            Options that contradict each other, or that this model has no use for.
        UnsupportedModelError
            The model does not give this.
        NotEnoughMemoryError
            There is no memory for `layers`.
        """
        output = hidden_output(pooled, normalize, self.normalize_embeddings, layers)
        name = self._program_of(output, sources)
        arrays, read = self._arrays(token_ids, name), self._sources(sources, len(token_ids))
        types = self._types(name, arrays, token_types)
        with self._lock:
            if not layers:
                return self._runner.states(self._runner.program((name, (output,))), arrays, types, read)[output]
            program = self._runner.showing(name, LAYERS, layer_values(self._model.programs[name]))
            return np.stack(list(self._runner.states(program, arrays, types, read).values()))

    def outputs(
        self,
        output: str,
        token_ids: Sequence[Sequence[int]],
        *,
        token_types: Sequence[Sequence[int]] | None = None,
        rows: Sequence[Sequence[int]] | None = None,
    ) -> list[np.ndarray]:
        """One of the named results of each sequence, in one ragged batch as far as memory goes.

        An encoder-decoder reads a sequence whole, and again with its start token in place of the last, as BART does.

        Parameters
        ----------
        output : str
            What the model gives: "classes" (a row a sequence), "token_classes", "spans" (a row a token), "words".
        token_ids, token_types
            As in `hidden`.
        rows : list of lists of int, optional
            Of "words": the rows of each sequence whose results are asked for, ascending; default all.

        Returns
        -------
        list of float32 arrays [rows of the output, its width], one for each sequence; raises as `hidden` does
        """
        sources = token_ids if self.needs_source else None
        name, read = self._program_of(output, sources), self._sources(sources, len(token_ids))
        arrays = self._arrays(token_ids, name) if read is None else shifted(read, self.decoder_start_token_id)
        types = self._types(name, arrays, token_types)
        asked = None if name == self._model.stepper else check_asked(rows, arrays)
        with self._lock:
            program = self._runner.program((name, (output,)))
            states = self._runner.states(program, arrays, types, read, asked)[output]
            return np.split(states, np.cumsum(result_rows(program.recipe, output, arrays, asked))[:-1])

    def attention(self, token_ids: Sequence[int] | np.ndarray, source: Sequence[int] | None = None) -> list[np.ndarray]:
        """Where each row of one sequence looks: a float32 array [heads, rows, positions] for each attention in order.

        Queries and keys are the model's own, taken out of its program; the weights are computed from them by the NumPy
        interpreter, which does not round keys to the type of the cache.

        Parameters
        ----------
        token_ids : list of int
            Of a model that reads sources, the source, unless `source` is given. Of a model that takes float rows, a
            sample as `features` takes it.
        source : list of int, optional
            The attention is then that of the program that steps: over itself and over the source.

        Raises
        ------
        InvalidOptionError, NotEnoughMemoryError
            As for `hidden`.
        """
        sources = None if source is None else [source]
        name = self._program_of("hidden", sources)
        looks = looks_of(self._model.programs[name])
        seen, read = seen_values(looks), self._sources(sources, 1)
        keys: dict[str, np.ndarray] = {}
        if self.features_taken is not None:
            sample = check_rows(np.asarray(token_ids), 0, self.features_taken, self._context)
            with self._lock:
                shown = self._runner.features(self._runner.showing(name, "attention", seen), [sample])
                return weights_of(looks, {value: rows for value, (rows,) in shown.items()}, keys, self._runner.floats)
        arrays = self._arrays([list(token_ids)], name)
        with self._lock:
            if read is not None and self._model.reader is not None:
                written = source_keys(self._model.programs[self._model.reader])
                keys = self._runner.states(self._runner.showing(self._model.reader, "keys", written), read)
            shown_rows = self._runner.states(self._runner.showing(name, "attention", seen), arrays, None, read)
            return weights_of(looks, shown_rows, keys, self._runner.floats)

    def features(
        self,
        samples: Sequence[np.ndarray],
        *,
        output: str = "hidden",
        layers: bool = False,
        cancel: core.CancelFlag | None = None,
    ) -> list[np.ndarray]:
        """Runs a model that takes float rows: the patches of an image, the frames of a sound.

        Parameters
        ----------
        samples : list of float32 arrays [rows, width] or [height, width of the grid, width]
            All in one ragged batch, as far as memory goes.
        output : str
            What the model gives: "hidden", "classes".
        layers : bool
            Of "hidden": the states before the first layer and after each, as in `hidden`.
        cancel : core.CancelFlag, optional
            Set from elsewhere, stops the run between two ops.

        Returns
        -------
        list of float32 arrays [rows of the output, its width], one for each sample; [layers + 1, rows, width] of layers

        Raises
        ------
        UnsupportedModelError
            The model takes no float rows, or does not give this.
        ContextOverflowError, InvalidInputError, InvalidOptionError, NotEnoughMemoryError, NumericError,
        GenerationCancelled
        """
        taken = self.features_taken
        if taken is None:
            raise UnsupportedModelError(f"a {self.architecture} model takes no float rows; it takes token ids")
        if layers and output != "hidden":
            raise InvalidOptionError(f"layers: {output} has none; leave it out")
        arrays = [check_rows(sample, index, taken, self._context) for index, sample in enumerate(samples)]
        name = self._model.giving(output) or self._model.whole[0]
        with self._lock:
            if not layers:
                return self._runner.features(self._runner.program((name, (output,))), arrays, cancel)[output]
            program = self._runner.showing(name, LAYERS, layer_values(self._model.programs[name]))
            states = self._runner.features(program, arrays, cancel).values()
            return [np.stack(of_one) for of_one in zip(*states, strict=True)]

    # -- inside -------------------------------------------------------------------------------------------------------

    def _program_of(self, output: str, sources: object) -> str:
        """The program that gives hidden states: one over whole sequences, else, or with sources, the one that steps."""
        if sources is not None and not self.needs_source:
            raise InvalidOptionError(f"sources: this {self.architecture} model reads none")
        name = self._model.giving(output) if sources is None else None
        if name is None and output in self.step_outputs and (sources is not None or not self.needs_source):
            name = self._model.stepper
        if name is None:
            raise UnsupportedModelError(f"this {self.architecture} model cannot give {output}")
        return name

    def _arrays(self, token_ids: Sequence[Sequence[int]], name: str) -> list[np.ndarray]:
        vocab_size = self.vocab_size if name == self._model.stepper else self.source_vocab_size
        return [self._check(ids, vocab_size) for ids in token_ids]

    def _sources(self, sources: Sequence[Sequence[int]] | None, count: int) -> list[np.ndarray] | None:
        if sources is None:
            return None
        if len(sources) != count:
            raise InvalidInputError(f"sources: {len(sources)} for {count} sequences")
        return [self._check(ids, self.source_vocab_size) for ids in sources]

    def _types(
        self, name: str, arrays: list[np.ndarray], token_types: Sequence[Sequence[int]] | None
    ) -> list[np.ndarray] | None:
        if token_types is not None and not self._model.programs[name].takes(TOKEN_TYPES):
            raise InvalidOptionError(f"token_types: this {self.architecture} model has no embeddings of them")
        return None if token_types is None else check_token_types(token_types, arrays)

    @property
    def _context(self) -> tuple[int, int]:
        return self.n_ctx, self.context_length

    def _check(self, ids: Sequence[int], vocab_size: int) -> np.ndarray:
        if self.features_taken is not None:
            what = f"float rows ({self.features_taken.name}), not token ids"
            raise UnsupportedModelError(f"a {self.architecture} model takes {what}")
        return check_ids(ids, vocab_size, self._context)
