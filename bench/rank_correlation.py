"""How well vectors of sentences rank pairs as people did; the benchmark and the tests ask the same."""

from __future__ import annotations

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """Place of every value [n] in ascending order, ties at their mean place."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[group]


def spearman(vectors: np.ndarray, scores: np.ndarray) -> float:
    """Rank correlation of the cosines of the pairs (i, i + n) of unit vectors [2n, width] with people's scores [n]."""
    first, second = np.split(vectors.astype(np.float64), 2)
    return float(np.corrcoef(ranks((first * second).sum(axis=1)), ranks(scores))[0, 1])
