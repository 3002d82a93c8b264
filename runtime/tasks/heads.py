"""What the verbs of heads share: texts to tokens that fit, runs of them, numbers to scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._kernels import core
from ..errors import ContextOverflowError, InvalidInputError, InvalidOptionError, quote
from ..text.defaults import checked_integer
from ..text.located import LocatedTokens
from .base import VerbBase, is_single, listed

if TYPE_CHECKING:
    from ..engine.session import Session

__all__ = [
    "HeadVerbs",
    "best_first",
    "check_truncate",
    "checked_top",
    "fitted",
    "results",
    "scores_of",
    "shares",
    "texts_of",
    "trimmed",
]

Float64 = NDArray[np.float64]


class HeadVerbs(VerbBase):
    """Part of the verbs that read whole texts."""

    def _locate(self, text: Any, what: str, text_pair: Any = None, parse_special: bool = False) -> LocatedTokens:
        """The tokens of a text, or of two together."""
        for one in (text, "" if text_pair is None else text_pair):
            if not isinstance(one, str):
                raise InvalidInputError(f"{what}: a str is needed, not {quote(one)}")
        if self.tokenizer is None:
            raise InvalidInputError(f"{what}: the file carries no tokenizer")
        tokens = self.tokenizer.locate(text, text_pair, parse_special)
        if not tokens.ids:
            raise InvalidInputError(f"{what}: it has no tokens")
        return tokens


def fitted(session: Session, tokens: LocatedTokens, truncate: str | None, *, may_be_cut: bool = True) -> LocatedTokens:
    """The tokens, or where they are more than the context and `truncate` asks for it, as many as it has.

    `may_be_cut`: the error may speak of that option.

    Raises
    ------
    ContextOverflowError
        They are more, and shall not be cut.
    """
    if len(tokens) > session.n_ctx and truncate is None:
        way = "right" if may_be_cut else None
        raise ContextOverflowError(len(tokens), session.n_ctx, largest=session.context_length, truncate=way)
    return tokens.fitted(session.n_ctx)


def results(
    session: Session, output: str, tokens: Sequence[LocatedTokens], rows: Sequence[Sequence[int]] | None = None
) -> list[NDArray[np.float32]]:
    """A head's numbers for each of these, with their token types where the model has embeddings of them."""
    if not tokens:
        return []
    typed = session.takes_token_types and any(any(one.types) for one in tokens)
    types = [one.types for one in tokens] if typed else None
    return session.outputs(output, [one.ids for one in tokens], token_types=types, rows=rows)


def shares(row: NDArray[np.float32]) -> Float64:
    """Softmax of float32 [n], with the same bits on every machine."""
    weights, sums = core.weigh(np.ascontiguousarray(row), row.max(), 1.0)
    return np.asarray(weights, np.float64) / float(np.add.accumulate(sums)[-1])


def scores_of(row: NDArray[np.float32], kind: str) -> Float64:
    """Scores of classes from their numbers, by one of `SCORES`."""
    if kind == "softmax":
        return shares(row)
    if kind == "sigmoid":
        return np.array([shares(np.array([number, 0], np.float32))[0] for number in row])
    return np.asarray(row, np.float64)


def best_first(scores: Any, count: int | None = None) -> list[int]:
    """Places of the greatest scores, of equals the first before the others."""
    places: list[int] = np.argsort(-np.asarray(scores), kind="stable")[:count].tolist()
    return places


def checked_top(name: str, value: int | None) -> int | None:
    """The option `name`, how many of the best to give, None for all. Raises InvalidOptionError."""
    return None if value is None else checked_integer(name, value, 1)


def check_truncate(truncate: str | None) -> None:
    """Raises InvalidOptionError for another value than the two that there are."""
    if truncate not in (None, "right"):
        raise InvalidOptionError(f"truncate: 'right' or None is needed, not {quote(truncate)}")


def texts_of(texts: Any, what: str) -> tuple[list[Any], bool]:
    """The texts of a list, or the one that was given alone, and whether it was."""
    single = is_single(texts)
    return ([texts] if single else listed(texts, what)), single


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A part of a text without the spaces at its ends, which some tokenizers count as part of a token."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, max(start, end - len(part) + len(part.rstrip()))
