"""What the verbs of heads give back: small records that answer both `result.label` and `result["label"]`."""

from __future__ import annotations

from dataclasses import dataclass

from ..generation.results import Record

__all__ = ["Answer", "Classification", "Entity", "FilledMasks", "LabelScore", "MaskedWord", "RankedDocument", "Span"]


@dataclass(frozen=True)
class LabelScore(Record):
    """A class by its name, and its score."""

    label: str
    score: float


@dataclass(frozen=True)
class Classification(Record):
    """The best class of a text, and all that were asked for, best first."""

    label: str
    score: float
    labels: list[LabelScore]


@dataclass(frozen=True)
class Entity(Record):
    """A part of a text that has a class: a token, a word, or several words.

    Attributes
    ----------
    label : str
        Without ``B-`` or ``I-`` before it, but for single tokens.
    score : float
    text : str
        As it stands in the text, from character `start` to `end`.
    start, end : int
    """

    label: str
    score: float
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Span(Record):
    """A part of a context, from character `start` to `end`, and how likely it is the answer."""

    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Answer(Record):
    """The best answer, empty where a context that has none is likeliest; and all that were asked for, best first."""

    text: str
    score: float
    start: int
    end: int
    spans: list[Span]


@dataclass(frozen=True)
class MaskedWord(Record):
    """A token in the place of a mask: its text, its share, its id."""

    text: str
    score: float
    token_id: int


@dataclass(frozen=True)
class FilledMasks(Record):
    """A text with the best word in each of its masks, and for every mask the best words, best first."""

    text: str
    masks: list[list[MaskedWord]]

    @property
    def words(self) -> list[MaskedWord]:
        """Those of the first mask."""
        return self.masks[0]


@dataclass(frozen=True)
class RankedDocument(Record):
    """A document, its place in the list that was given, and its score."""

    index: int
    score: float
    document: str
