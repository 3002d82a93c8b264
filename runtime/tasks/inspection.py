"""What a model computes, as numbers: logits, hidden states, and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..errors import InvalidInputError, quote
from ..host.memory import ShortMemory
from .base import Prompt, Prompts, VerbBase, decoder_start, is_single, listed

if TYPE_CHECKING:
    from ..engine.adapters import Adapter
    from ..engine.session import Session

__all__ = ["InspectionVerbs"]


class InspectionVerbs(VerbBase):
    """Verbs that look inside."""

    @overload
    def logits(
        self,
        prompt: Prompt,
        target: Prompt | None = None,
        *,
        special_tokens: bool = False,
        adapter: Adapter | None = None,
    ) -> np.ndarray: ...

    @overload
    def logits(
        self,
        prompt: Prompts,
        target: Prompts | None = None,
        *,
        special_tokens: bool = False,
        adapter: Adapter | None = None,
    ) -> list[np.ndarray]: ...

    @ShortMemory("logits")
    def logits(
        self, prompt: Any, target: Any = None, *, special_tokens: bool = False, adapter: Adapter | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Scores of every vocabulary entry as the next token, after each token.

        Parameters
        ----------
        prompt : str, list of int, or a list of either
            For an encoder-decoder: the source. A list is run one by one and gives a list.
        target : str, list of int, or a list of either, optional
            For an encoder-decoder, and needed there: what the decoder is given, one for each source. As ids, it begins
            with the decoder's start token; text gets that token in front.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.
        special_tokens : bool
            Let a text spell the model's control tokens, as in `generate`.

        Returns
        -------
        ndarray, float32 [n, vocab_size], or a list of them
            Row i scores what follows the first i + 1 tokens; n is the number of tokens of the prompt, or of the target.

        Raises
        ------
        ContextOverflowError
            If the tokens do not fit in the context.
        InvalidInputError
            If there are no tokens, one is out of range, or `target` is missing or not wanted.
        UnsupportedModelError
            If the model has no vocabulary to score.
        """
        session = self._require("logits", adapter)
        if is_single(prompt):
            return self._logits(session, prompt, target, "", special_tokens)
        prompts = listed(prompt, "prompt")
        targets = [None] * len(prompts) if target is None else listed(target, "target")
        if len(targets) != len(prompts) or (target is not None and is_single(target)):
            raise InvalidInputError(f"target: one for each of {len(prompts)} prompts is needed")
        pairs = zip(prompts, targets, strict=True)
        return [self._logits(session, one, its, f"[{index}]", special_tokens) for index, (one, its) in enumerate(pairs)]

    def _logits(self, session: Session, prompt: Any, target: Any, place: str, special_tokens: bool) -> np.ndarray:
        """`logits` of one prompt; `place` says where it stands in a list."""
        ids = self._ids(prompt, f"prompt{place}", special_tokens)
        if session.needs_source:
            feed = self._target_ids(session, target, f"target{place}")
            (sequence,) = session.encode_source([ids])
        elif target is not None:
            raise InvalidInputError("target: only an encoder-decoder has one")
        else:
            feed = ids
            sequence = session.new_sequence()
        try:
            return session.forward([(sequence, feed)], outputs="all")
        finally:
            sequence.free()

    @ShortMemory("hidden_states")
    def hidden_states(
        self,
        prompt: Prompt | np.ndarray,
        target: Prompt | None = None,
        *,
        layers: bool = False,
        adapter: Adapter | None = None,
    ) -> np.ndarray:
        """The last hidden state of every token: what the output layer, or the pooling of `encode`, works on.

        Parameters
        ----------
        prompt : str, list of int or float32 array
            For an encoder-decoder: the source, and the states are the encoder's, which the decoder attends to. For a
            model of images or sounds: the rows [n, width], or the grid of rows [height, width of the grid, width], of
            one.
        target : str or list of int, optional
            For an encoder-decoder: as in `logits`; the states are then the decoder's, one for each token of the target.
        layers : bool
            Give the states before the first layer and after each, as they stand before the last norm. The first call
            with it takes some memory that is kept.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.

        Returns
        -------
        ndarray, float32 [n, width], with `layers` [layers + 1, n, width]

        Raises
        ------
        ContextOverflowError
            If the tokens do not fit in the context.
        InvalidInputError
            If there are no tokens, one is out of range, or `target` is not wanted.
        NotEnoughMemoryError
            If there is no memory for `layers`.
        UnsupportedModelError
            If the model does not give them.
        """
        session = self._require("hidden_states", adapter)
        if session.features_taken is not None and isinstance(prompt, np.ndarray) and target is None:
            return session.features([prompt], layers=layers)[0]
        ids, sources = self._looked_at(session, prompt, target)
        return session.hidden([ids], layers=layers, sources=None if sources is None else [sources])

    def attention_weights(self, prompt: Prompt | np.ndarray, target: Prompt | None = None) -> list[np.ndarray]:
        """How much every token takes from every other, in each attention of the model.

        Queries and keys are the model's own; the weights are computed from them in NumPy by the reference interpreter,
        from keys that are not rounded to the type of the cache.

        Parameters
        ----------
        prompt, target : str or list of int, or float32 array
            As in `hidden_states`.

        Returns
        -------
        list of ndarray, float32 [heads, n, positions]
            One for each attention in the order of the layers; each row of one adds up to 1. With a `target`, a layer
            has two: over the target, then over the source. They take 4 * heads * n * positions bytes each.

        Raises
        ------
        ContextOverflowError, InvalidInputError, NotEnoughMemoryError, UnsupportedModelError
            As in `hidden_states`; also if the model has no attention.
        """
        session = self._require("attention_weights")
        if session.features_taken is not None and isinstance(prompt, np.ndarray) and target is None:
            return session.attention(prompt)
        ids, source = self._looked_at(session, prompt, target)
        return session.attention(ids, source)

    def _looked_at(self, session: Session, prompt: Prompt, target: Prompt | None) -> tuple[list[int], list[int] | None]:
        """The token ids whose rows are looked at, and the source that they are read over."""
        ids = self._ids(prompt)
        if target is None:
            return ids, None
        if not session.needs_source:
            raise InvalidInputError("target: only an encoder-decoder has one")
        return self._target_ids(session, target, "target"), ids

    @overload
    def tokenize(self, text: str, *, add_special_tokens: bool = True, parse_special: bool = False) -> list[int]: ...

    @overload
    def tokenize(
        self, text: list[str], *, add_special_tokens: bool = True, parse_special: bool = False
    ) -> list[list[int]]: ...

    def tokenize(
        self, text: Any, *, add_special_tokens: bool = True, parse_special: bool = False
    ) -> list[int] | list[list[int]]:
        """Token ids of `text`; of a list of texts, a list.

        Parameters
        ----------
        text : str or list of str
        add_special_tokens : bool
            Add what the model expects around a text (start, end, separators).
        parse_special : bool
            Let the text of a control token stand for that token. Never set it for text from a user.

        Raises
        ------
        InvalidInputError
            If the file carries no tokenizer, or `text` is not valid Unicode (a lone surrogate).
        """
        self._require("tokenize")
        if self.tokenizer is None:
            raise InvalidInputError("tokenize: the file carries no tokenizer")
        options = {"add_special_tokens": add_special_tokens, "parse_special": parse_special}
        if isinstance(text, str):
            return self.tokenizer.encode(text, **options)
        texts = listed(text, "text")
        for item in texts:
            if not isinstance(item, str):
                raise InvalidInputError(f"text: a str or a list of them is needed, not {quote(item)}")
        return [self.tokenizer.encode(item, **options) for item in texts]

    def detokenize(self, ids: Sequence[int] | np.ndarray, *, skip_special_tokens: bool = True) -> str:
        """Text of token ids; for an encoder-decoder, of its target.

        Raises
        ------
        InvalidInputError
            If the file carries no tokenizer, or an id is out of range.
        """
        self._require("detokenize")
        if self.target_tokenizer is None:
            raise InvalidInputError("detokenize: the file carries no tokenizer")
        return self.target_tokenizer.decode(self._ids(ids, "ids"), skip_special_tokens=skip_special_tokens)

    def _target_ids(self, session: Session, target: Any, what: str) -> list[int]:
        if target is None:
            raise InvalidInputError(f"{what}: an encoder-decoder scores the tokens of a target; give it as text or ids")
        if not isinstance(target, str):
            return self._ids(target, what)
        if self.target_tokenizer is None:
            raise InvalidInputError(f"{what}: the file carries no tokenizer; token ids are needed instead of text")
        return [decoder_start(session), *self.target_tokenizer.encode(target, add_special_tokens=False)]
