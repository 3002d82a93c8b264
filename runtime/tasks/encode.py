"""`encode`: vectors of sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import ContextOverflowError, InvalidInputError, InvalidOptionError, quote
from ..generation.options import reject_unknown
from ..host.memory import ShortMemory
from .base import Prompt, VerbBase, is_single, listed

if TYPE_CHECKING:
    from ..engine.adapters import Adapter
    from ..engine.session import Session

__all__ = ["EmbeddingVerbs"]

OPTIONS = (
    "prompt",
    "prompt_name",
    "batch_size",
    "normalize_embeddings",
    "truncate",
    "adapter",
    "convert_to_numpy",
    "show_progress_bar",
)


class EmbeddingVerbs(VerbBase):
    """Verbs of models that pool their rows."""

    @ShortMemory("encode")
    def encode(
        self,
        sentences: Prompt | list[str] | list[list[int]],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int = 32,
        normalize_embeddings: bool | None = None,
        truncate: str | None = None,
        adapter: Adapter | None = None,
        convert_to_numpy: bool = True,
        show_progress_bar: bool | None = None,
        **unknown: NoReturn,
    ) -> np.ndarray:
        """The vectors that sentence-transformers' `encode` gives.

        One thing differs: a sentence longer than the model's context raises instead of losing its end in silence.
        ``truncate="right"`` asks for sentence-transformers' behaviour.

        Parameters
        ----------
        sentences : str, list of int, or a list of either
            Token ids are used as they are.
        prompt : str, optional
            Put in front of every sentence.
        prompt_name : str, optional
            The same, by its name among the prompts that the file carries (``general.prompts.json``). Default: the one
            that the file names as its default, if any.
        batch_size : int
            Sentences a forward pass; they are sorted by length first, and the order is restored. The vectors do not
            depend on it.
        normalize_embeddings : bool, optional
            Scale every vector to length 1. Default: what the model was trained with.
        truncate : "right", optional
            Cut what does not fit from the end of a sentence, keeping the special tokens around it.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.
        convert_to_numpy : True
            For calls that were written for sentence-transformers: vectors are NumPy arrays always.
        show_progress_bar : bool, optional
            The same: a library shows none.

        Returns
        -------
        ndarray, float32 [width] for one sentence, [len(sentences), width] for a list

        Raises
        ------
        ContextOverflowError
            If a sentence does not fit and `truncate` was not asked for.
        InvalidInputError
            For text that is not valid Unicode, an empty list of ids, or a token out of range.
        InvalidOptionError
            For a wrong option, or a prompt name that the file does not have.
        UnsupportedModelError
            If the model pools nothing.
        """
        session = self._require("encode", adapter)
        reject_unknown("encode", unknown, OPTIONS)
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise InvalidOptionError(f"batch_size: an integer of at least 1 is needed, not {quote(batch_size)}")
        if truncate not in (None, "right"):
            raise InvalidOptionError(f"truncate: 'right' or None is needed, not {quote(truncate)}")
        if convert_to_numpy is not True:
            raise InvalidOptionError("convert_to_numpy: vectors are NumPy arrays here; leave it out")
        single = is_single(sentences)
        items = [sentences] if single else listed(sentences, "sentences")
        prefix = self._prompt_text(prompt, prompt_name)
        rows = [self._sentence_ids(session, item, index, prefix, truncate) for index, item in enumerate(items)]
        vectors = _embed(session, rows, batch_size, normalize_embeddings)
        return vectors[0] if single else vectors

    @ShortMemory("similarity")
    def similarity(
        self,
        sentences: Prompt | list[str] | list[list[int]],
        others: Prompt | list[str] | list[list[int]],
        **options: Any,
    ) -> np.ndarray:
        """How near the vectors of sentences are: the cosine of the angle between them.

        Parameters
        ----------
        sentences, others : str, list of int, or a list of either
        **options
            Those of `encode`, for both, but for `normalize_embeddings`.

        Returns
        -------
        ndarray, float32 [number of sentences, number of others]
            From -1 to 1; an axis of a single sentence is there, too.

        Raises
        ------
        ContextOverflowError, InvalidInputError, InvalidOptionError, UnsupportedModelError
            As for `encode`.
        """
        self._require("similarity")
        if "normalize_embeddings" in options:
            raise InvalidOptionError("normalize_embeddings: a cosine does not depend on lengths; leave it out")
        first, second = (
            np.atleast_2d(self.encode(some, normalize_embeddings=True, **options)).astype(np.float64)
            for some in (sentences, others)
        )
        # Column by column in order, for the sums of a library of matrices differ from machine to machine.
        return np.array([np.add.accumulate(row * second, axis=1)[:, -1] for row in first], np.float32).reshape(
            len(first), len(second)
        )

    def _prompt_text(self, prompt: str | None, name: str | None) -> str:
        if prompt is not None and name is not None:
            raise InvalidOptionError("prompt and prompt_name contradict each other: give one")
        prompts = self._prompts.by_name
        name = name if name is not None or prompt is not None else self._prompts.default
        if name is None:
            return prompt or ""
        if name not in prompts:
            known = ", ".join(sorted(prompts)) or "none"
            raise InvalidOptionError(f"prompt_name: the file has no prompt {quote(name)}; it has: {known}")
        return prompts[name]

    def _sentence_ids(self, session: Session, item: Any, index: int, prefix: str, truncate: str | None) -> list[int]:
        what = f"sentences[{index}]"
        if isinstance(item, str):
            text = prefix + item
            ids = self._ids(text, what)
        else:
            if prefix:
                raise InvalidOptionError(f"prompt: it is text, and {what} is token ids")
            text = ""
            ids = self._ids(item, what)
        if not ids:
            raise InvalidInputError(f"{what}: it has no tokens")
        if len(ids) <= session.n_ctx:
            return ids
        if truncate is None:
            raise ContextOverflowError(len(ids), session.n_ctx, largest=session.context_length, truncate="right")
        return self._cut(ids, text, session.n_ctx)

    def _cut(self, ids: list[int], text: str, room: int) -> list[int]:
        """The first tokens of the text between the special tokens that the tokenizer put around it."""
        plain = ids if self.tokenizer is None or not text else self.tokenizer.encode(text, add_special_tokens=False)
        num_special = len(ids) - len(plain)
        starts = [start for start in range(num_special + 1) if ids[start : start + len(plain)] == plain]
        start = starts[0] if starts else 0
        tail = ids[start + len(plain) :]
        return ids[: room - len(tail)] + tail


def _embed(session: Session, rows: list[list[int]], batch_size: int, normalize: bool | None) -> np.ndarray:
    """Vectors of `rows`, computed longest first, in the order of `rows`."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    vectors = np.zeros((len(rows), session.embedding_width), np.float32)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        vectors[batch] = session.hidden([rows[index] for index in batch], pooled=True, normalize=normalize)
    return vectors
