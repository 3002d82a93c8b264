"""Where an encoder-decoder looked in its source while a target was made: word alignment and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..host.exact import logarithm

if TYPE_CHECKING:
    from ..engine.session import Session

__all__ = ["coverage_score", "source_attention"]


def source_attention(
    session: Session, source: Sequence[int], feed: Sequence[int], token_ids: Sequence[int]
) -> np.ndarray:
    """How much each token of a source was looked at when each token of a target was chosen.

    The target is read once more, as a whole. Its attention is that of the steps that made it.

    Parameters
    ----------
    session : Session
    source : sequence of int
    feed : sequence of int
        What the decoder was given first.
    token_ids : sequence of int
        What it gave.

    Returns
    -------
    ndarray, float32 [len(token_ids) + 1, len(source)]
        The mean over the heads of the last layer; the last row is that of the token after these, e.g. the end token.
    """
    last_layer = session.attention([*feed, *token_ids], source)[-1]
    rows: np.ndarray = last_layer[:, len(feed) - 1 :].mean(0)
    return rows


def coverage_score(rows: np.ndarray, weight: float) -> float:
    """What a hypothesis loses for tokens of its source that it did not look at: ``weight`` times the sum over the
    source of ``log(min(sum over the target, 1))`` (Wu et al. 2016, "Google's Neural Machine Translation System",
    section 7).

    Parameters
    ----------
    rows : ndarray, float32 [target, source]
    weight : float
        Their beta.
    """
    covered = np.clip(rows.astype(np.float64).sum(0), np.finfo(np.float32).tiny, 1.0)
    return weight * sum(logarithm(float(value)) for value in covered)
