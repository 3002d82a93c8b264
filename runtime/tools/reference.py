"""A model file run by the NumPy interpreter of its graphs: the oracle of every architecture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError
from ..files.gguf.reader import GGUFFile
from ..graph.domains import ROWS, as_grids
from ..graph.interpreter import Array, Caches, interpret, text_inputs
from ..models.registry import build_architecture


class ReferenceModel:
    """A model file run by the interpreter.

    Parameters
    ----------
    path : path of a GGUF file
    dtype : type of the numbers
    observe : callable, optional
        Called with the name of every matrix and the rows [n, columns] that it is multiplied with.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dtype: type[np.floating[Any]] = np.float64,
        observe: Callable[[str, Array], None] | None = None,
    ) -> None:
        self.observe = observe
        with GGUFFile(path) as file:
            self.architecture = build_architecture(file)
            self.tensors = {name: file.dequantize(name).astype(dtype, copy=False) for name in file.tensors}

    def logits(self, token_ids: Sequence[int]) -> Array:
        """Logits of every position of a decoder-only model, float64 [n, vocab]."""
        return self._run(self.architecture.stepper, token_ids, {})["logits"]

    def hidden(self, token_ids: Sequence[int]) -> Array:
        """Hidden states after the last norm, float64 [n, width]; of the source for an encoder-decoder."""
        return self._run(self.architecture.giving("hidden") or self.architecture.stepper, token_ids, {})["hidden"]

    def embedding(self, token_ids: Sequence[int], *, normalize: bool) -> Array:
        """The pooled vector of an encoder, float64 [width]."""
        output = "normalized" if normalize else "pooled"
        return self._run(self.architecture.giving(output), token_ids, {})[output][0]

    def output(self, name: str, token_ids: Sequence[int]) -> Array:
        """A named output of one sequence, float64 [rows of the output, width]; of rows asked for, all.

        An encoder-decoder reads it as `Session.outputs` says.
        """
        caches: Caches = {}
        if self.architecture.reader is not None:
            self._run(self.architecture.reader, token_ids, caches)
            token_ids = [self.architecture.decoder_start_token_id or 0, *token_ids[:-1]]
        return self._run(self.architecture.giving(name) or self.architecture.stepper, token_ids, caches)[name]

    def features(self, rows: Array) -> dict[str, Array]:
        """All that a model of float rows [n, width] gives for one sample."""
        (graph,) = self.architecture.programs.values()
        (source,) = graph.features_taken
        return interpret(graph, self.tensors, {source.name: rows}, {ROWS: as_grids([len(rows)])}, {}, self.observe)

    def logits_pair(self, source_ids: Sequence[int], target_ids: Sequence[int]) -> Array:
        """Logits of every target position of an encoder-decoder, float64 [n, vocab]."""
        caches: Caches = {}
        self._run(self.architecture.reader, source_ids, caches)
        return self._run(self.architecture.stepper, target_ids, caches)["logits"]

    def _run(self, program: str | None, token_ids: Sequence[int], caches: Caches) -> dict[str, Array]:
        if program is None:
            raise UnsupportedModelError(f"this {self.architecture.family} model does not give this")
        graph = self.architecture.programs[program]
        return interpret(graph, self.tensors, *text_inputs(token_ids), caches, self.observe)
