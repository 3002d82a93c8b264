"""Figures of quality, by their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InvalidInputError
from ...generation.results import Record
from ...host.packages import required

__all__ = ["ClassFigures", "Confusion", "average_ranks", "confusion_of", "pearson", "spearman", "translation_figures"]


@dataclass(frozen=True)
class ClassFigures(Record):
    """Of one class: the share of right ones among those found, the share of those there that were found, their
    harmonic mean, and how many there are. A share of nothing is 0.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confusion(Record):
    """What was found for what is there: ``counts[i][j]`` items of class `labels[i]` were taken for `labels[j]`."""

    labels: list[str]
    counts: list[list[int]]

    @property
    def accuracy(self) -> float:
        total = sum(map(sum, self.counts))
        return sum(row[place] for place, row in enumerate(self.counts)) / total

    def classes(self) -> list[ClassFigures]:
        """The figures of every class."""
        figures = []
        for place, label in enumerate(self.labels):
            right, there = self.counts[place][place], sum(self.counts[place])
            found = sum(row[place] for row in self.counts)
            precision, recall = right / found if found else 0.0, right / there if there else 0.0
            f1 = 2 * right / (there + found) if there + found else 0.0
            figures.append(ClassFigures(label, precision, recall, f1, there))
        return figures


def confusion_of(there: Sequence[str], found: Sequence[str], labels: Sequence[str]) -> Confusion:
    """The confusion matrix over `labels`, and after them those that occur besides."""
    known = list(dict.fromkeys([*labels, *there, *found]))
    place = {label: index for index, label in enumerate(known)}
    counts = [[0] * len(known) for _ in known]
    for right, taken in zip(there, found, strict=True):
        counts[place[right]][place[taken]] += 1
    return Confusion(known, counts)


def average_ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs; float64 [n]."""
    array = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def pearson(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """The correlation of two series.

    Raises
    ------
    InvalidInputError
        One of them is constant, or has fewer than two values.
    """
    a, b = (np.asarray(values, np.float64) - np.mean(values) for values in (x, y))
    spread = math.sqrt(float(a @ a) * float(b @ b))
    if len(a) < 2 or spread == 0:
        raise InvalidInputError("a correlation needs two items at least, and scores that differ")
    return float(a @ b) / spread


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """The correlation of two series' ranks."""
    return pearson(average_ranks(x), average_ranks(y))


def translation_figures(found: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF as sacrebleu has them by default, from 0 to 100, and the share of texts that are equal."""
    with required("sacrebleu", "evaluate"):
        import sacrebleu

    return {
        "bleu": float(sacrebleu.corpus_bleu(list(found), [list(references)]).score),
        "chrf": float(sacrebleu.corpus_chrf(list(found), [list(references)]).score),
        "exact": sum(map(str.__eq__, found, references)) / len(found),
    }
