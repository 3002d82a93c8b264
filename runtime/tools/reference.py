"""A model file run by the NumPy interpreter of its graphs: the oracle of every architecture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..files.gguf.reader import GGUFFile
from ..graph.interpreter import Array, interpret
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
        return self._decode(token_ids, {})["logits"]

    def hidden(self, token_ids: Sequence[int]) -> Array:
        """Hidden states after the last norm, float64 [n, width]; of the source for an encoder-decoder."""
        if self.architecture.family == "decoder":
            return self._decode(token_ids, {})["hidden"]
        return self._run("encode", token_ids, {})["hidden"]

    def embedding(self, token_ids: Sequence[int], *, normalize: bool) -> Array:
        """The pooled vector of an encoder, float64 [width]."""
        return self._run("encode", token_ids, {})["normalized" if normalize else "pooled"][0]

    def logits_pair(self, source_ids: Sequence[int], target_ids: Sequence[int]) -> Array:
        """Logits of every target position of an encoder-decoder, float64 [n, vocab]."""
        caches: dict[Any, tuple[Array, Array]] = {}
        self._run("encode", source_ids, caches)
        return self._decode(target_ids, caches)["logits"]

    def _decode(self, token_ids: Sequence[int], caches: dict[Any, tuple[Array, Array]]) -> dict[str, Array]:
        return self._run("decode", token_ids, caches)

    def _run(self, program: str, token_ids: Sequence[int], caches: dict[Any, tuple[Array, Array]]) -> dict[str, Array]:
        return interpret(self.architecture.programs[program], self.tensors, token_ids, caches, self.observe)
