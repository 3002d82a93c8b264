"""What a model computes, as numbers: logits, hidden states, and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InvalidInputError
from .base import Prompt, VerbBase, decoder_start

__all__ = ["InspectionVerbs"]


class InspectionVerbs(VerbBase):
    """Verbs that look inside."""

    def logits(self, prompt: Prompt, target: Prompt | None = None) -> np.ndarray:
        """Scores of every vocabulary entry as the next token, after each token.

        Parameters
        ----------
        prompt : str or list of int
            For an encoder-decoder: the source.
        target : str or list of int, optional
            For an encoder-decoder, and needed there: what the decoder is given. As ids, it begins with the decoder's
            start token; text gets that token in front.

        Returns
        -------
        ndarray, float32 [n, vocab_size]
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
        session = self._require("logits")
        ids = self._ids(prompt)
        if session.needs_source:
            feed = self._target_ids(target)
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

    def hidden_states(self, prompt: Prompt) -> np.ndarray:
        """The last hidden state of every token: what the output layer, or the pooling of `encode`, works on.

        Parameters
        ----------
        prompt : str or list of int
            For an encoder-decoder: the source, and the states are the encoder's, which the decoder attends to.

        Returns
        -------
        ndarray, float32 [n, width]

        Raises
        ------
        ContextOverflowError
            If the tokens do not fit in the context.
        InvalidInputError
            If there are no tokens, or one is out of range.
        UnsupportedModelError
            If the model does not give them.
        """
        session = self._require("hidden_states")
        return session.hidden([self._ids(prompt)])

    def tokenize(self, text: str, *, add_special_tokens: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`.

        Parameters
        ----------
        text : str
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
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens, parse_special=parse_special)

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

    def _target_ids(self, target: Any) -> list[int]:
        session = self._require("logits")
        if target is None:
            raise InvalidInputError("target: an encoder-decoder scores the tokens of a target; give it as text or ids")
        if not isinstance(target, str):
            return self._ids(target, "target")
        if self.target_tokenizer is None:
            raise InvalidInputError("target: the file carries no tokenizer; token ids are needed instead of text")
        return [decoder_start(session), *self.target_tokenizer.encode(target, add_special_tokens=False)]
