"""`fill_mask`: words in the place of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .._kernels import core
from ..errors import InvalidInputError, InvalidOptionError, quote
from ..host.memory import ShortMemory
from ..text.defaults import checked_integer
from ..text.located import LocatedTokens
from .heads import HeadVerbs, best_first, fitted, results, shares, texts_of

if TYPE_CHECKING:
    from ..engine.adapters import Adapter
    from ..text.tokenizer import Tokenizer
    from .results import FilledMasks, MaskedWord

__all__ = ["MaskVerbs"]

TEXTS_OF_A_RUN = 16  # a row of results has as many numbers as the vocabulary


class MaskVerbs(HeadVerbs):
    """Verbs of models that were trained to guess words behind masks."""

    @overload
    def fill_mask(
        self, text: str, *, top_k: int = 5, targets: Sequence[str] | None = None, adapter: Adapter | None = None
    ) -> FilledMasks: ...

    @overload
    def fill_mask(
        self, text: list[str], *, top_k: int = 5, targets: Sequence[str] | None = None, adapter: Adapter | None = None
    ) -> list[FilledMasks]: ...

    @ShortMemory("fill_mask")
    def fill_mask(
        self, text: Any, *, top_k: int = 5, targets: Sequence[str] | None = None, adapter: Adapter | None = None
    ) -> FilledMasks | list[FilledMasks]:
        """The likeliest words in the place of each mask of a text.

        Parameters
        ----------
        text : str or list of str
            With the model's mask token, as its vocabulary spells it (``[MASK]``, ``<mask>``). Other special tokens in
            the text count as such, too.
        top_k : int
            So many words for a mask.
        targets : list of str, optional
            Only these words, each one token of the vocabulary; their scores are still shares of the whole vocabulary.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.

        Returns
        -------
        FilledMasks, or a list of them

        Raises
        ------
        ContextOverflowError
            A text does not fit.
        InvalidInputError
            A text has no mask, or is none.
        InvalidOptionError
            `top_k` or `targets` is wrong.
        UnsupportedModelError
            The model does not guess words.
        """
        from .results import FilledMasks

        session = self._require("fill_mask", adapter)
        checked_integer("top_k", top_k, 1)
        items, single = texts_of(text, "text")
        tokens = [
            fitted(session, self._locate(item, f"text[{index}]", parse_special=True), None, may_be_cut=False)
            for index, item in enumerate(items)
        ]
        tokenizer = self.tokenizer
        assert tokenizer is not None  # or no text had become tokens
        places = [masks_of(one, tokenizer, f"text[{index}]") for index, one in enumerate(tokens)]
        chosen = None if targets is None else target_ids(tokenizer, targets)
        given: list[FilledMasks] = []
        for begin in range(0, len(tokens), TEXTS_OF_A_RUN):
            part = slice(begin, begin + TEXTS_OF_A_RUN)
            rows = results(session, "words", tokens[part], places[part])
            for one, masks, logits in zip(tokens[part], places[part], rows, strict=True):
                words = [best_words(tokenizer, row, top_k, chosen) for row in logits]
                given.append(FilledMasks(filled(tokenizer, one.ids, masks, words), words))
        return given[0] if single else given


def masks_of(tokens: LocatedTokens, tokenizer: Tokenizer, what: str) -> list[int]:
    """The places of the masks. Raises InvalidInputError where there is none."""
    mask = tokenizer.mask_token_id
    places = [place for place, token in enumerate(tokens.ids) if token == mask]
    if not places:
        spelled = "" if mask is None else f": write {tokenizer.token(mask)} where a word is to be found"
        raise InvalidInputError(f"{what}: it has no mask{spelled}")
    return places


def target_ids(tokenizer: Tokenizer, targets: Sequence[str]) -> list[int]:
    """The tokens of the words that may be chosen: each as it begins a text, or as it stands after a space."""
    if isinstance(targets, str) or not len(targets):
        raise InvalidOptionError(f"targets: a list of one or more str is needed, not {quote(targets)}")
    ids = []
    for word in targets:
        spelled = [tokenizer.encode(text, add_special_tokens=False) for text in (f" {word}", word)]
        found = next((some[0] for some in spelled if len(some) == 1), None)
        if found is None:
            raise InvalidOptionError(f"targets: {quote(word)} is not one token of the vocabulary")
        ids.append(found)
    return list(dict.fromkeys(ids))


def best_words(
    tokenizer: Tokenizer, logits: NDArray[np.float32], count: int, chosen: list[int] | None
) -> list[MaskedWord]:
    """The likeliest tokens in the place of a mask."""
    from .results import MaskedWord

    scores = shares(logits)
    ids = core.top(logits, count).tolist() if chosen is None else [chosen[i] for i in best_first(scores[chosen], count)]
    return [MaskedWord(tokenizer.decode([token], False).strip(), float(scores[token]), token) for token in ids]


def filled(tokenizer: Tokenizer, ids: list[int], places: list[int], words: list[list[MaskedWord]]) -> str:
    """The text with the best word in each mask."""
    best = dict(zip(places, (some[0].token_id for some in words), strict=True))
    return tokenizer.decode([best.get(place, token) for place, token in enumerate(ids)])
