"""`tokens`: classes of the words of a text, and the entities that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidOptionError, quote
from ..host.memory import ShortMemory
from ..text.defaults import checked_integer
from ..text.located import LocatedTokens
from .classify import classifier_of
from .heads import HeadVerbs, check_truncate, fitted, results, shares, texts_of, trimmed

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..engine.adapters import Adapter
    from ..text.tokenizer import Tokenizer
    from .results import Entity

    class TokenOptions(TypedDict, total=False):
        """Keyword arguments of `tokens`."""

        aggregation: str
        ignore_labels: Sequence[str]
        stride: int | None
        truncate: str | None
        adapter: Adapter | None


__all__ = ["TokenVerbs"]

AGGREGATIONS = ("simple", "first", "average", "max", "none")
Float64 = NDArray[np.float64]


class Piece:
    """A token, or a word, on its way to an entity: where it stands, the scores of all classes, the number of the best
    one, and whether it continues the word before it.
    """

    def __init__(self, start: int, end: int, scores: Float64, continues: bool) -> None:
        self.start, self.end, self.scores, self.continues = start, end, scores, continues
        self.best = int(scores.argmax())


class TokenVerbs(HeadVerbs):
    """Verbs of models that tell classes of tokens apart."""

    @overload
    def tokens(self, text: str, **options: Unpack[TokenOptions]) -> list[Entity]: ...

    @overload
    def tokens(self, text: list[str], **options: Unpack[TokenOptions]) -> list[list[Entity]]: ...

    @ShortMemory("tokens")
    def tokens(
        self,
        text: Any,
        *,
        aggregation: str = "simple",
        ignore_labels: Sequence[str] = ("O",),
        stride: int | None = None,
        truncate: str | None = None,
        adapter: Adapter | None = None,
    ) -> list[Entity] | list[list[Entity]]:
        """The parts of a text that the model names: people, places, parts of speech.

        Parameters
        ----------
        text : str or list of str
        aggregation : {"simple", "first", "average", "max", "none"}
            "none": every token for itself. "simple": neighbours of the same class are one entity; ``B-`` before a class
            begins another. The others first make words of their tokens, and give all of a word one class: that of its
            first token, that of the greatest score, or that of the average scores. They are those of transformers'
            token-classification pipeline.
        ignore_labels : list of str
            Classes that are left out.
        stride : int, optional
            Read a text that does not fit in windows that share so many tokens. Of entities that overlap, the longer
            one stays, of equals the one with the greater score. Default: such a text raises.
        truncate : "right", optional
            Leave the end of such a text out.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.

        Returns
        -------
        list of Entity, or a list of such lists
            In the order of the text; offsets are characters.

        Raises
        ------
        ContextOverflowError
            A text does not fit, and neither `stride` nor `truncate` was given.
        InvalidInputError, InvalidOptionError
            Something is of the wrong kind.
        UnsupportedModelError
            The model tells no classes of tokens apart.
        """
        session = self._require("tokens", adapter)
        check_truncate(truncate)
        check_options(aggregation, ignore_labels, stride, truncate, session.n_ctx)
        items, single = texts_of(text, "text")
        windows: list[LocatedTokens] = []
        owners: list[int] = []
        for index, item in enumerate(items):
            located = self._locate(item, f"text[{index}]")
            if stride is None:
                cut = [fitted(session, located, truncate)]
            else:
                cut = windows_of(located, 0, session.n_ctx, stride)
            windows += cut
            owners += [index] * len(cut)
        labels, tokenizer = classifier_of(session).labels, self.tokenizer
        assert tokenizer is not None  # or no text had become tokens
        given: list[list[Entity]] = [[] for _ in items]
        for owner, window, rows in zip(owners, windows, results(session, "token_classes", windows), strict=True):
            pieces = pieces_of(tokenizer, window, items[owner], rows)
            given[owner] += [
                entity
                for entity in entities_of(pieces, aggregation, labels, items[owner])
                if entity.label not in ignore_labels
            ]
        given = [without_overlaps(found) if owners.count(i) > 1 else found for i, found in enumerate(given)]
        return given[0] if single else given


def check_options(
    aggregation: str, ignore_labels: Sequence[str], stride: int | None, truncate: str | None, n_ctx: int
) -> None:
    """Raises InvalidOptionError for options that are wrong or contradict each other."""
    if aggregation not in AGGREGATIONS:
        raise InvalidOptionError(f"aggregation: one of {', '.join(AGGREGATIONS)} is needed, not {quote(aggregation)}")
    if isinstance(ignore_labels, str):
        raise InvalidOptionError(f"ignore_labels: a list of str is needed, not {quote(ignore_labels)}")
    if stride is None:
        return
    checked_integer("stride", stride, 0, n_ctx - 1)
    if truncate is not None:
        raise InvalidOptionError("stride and truncate contradict each other: give one")
    if aggregation == "none":
        raise InvalidOptionError("stride: windows share tokens, which stand twice then; take another aggregation")


def windows_of(tokens: LocatedTokens, text: int, room: int, stride: int) -> list[LocatedTokens]:
    """The tokens in windows of at most `room`, in each of which all but `text` stands whole; they share `stride`.

    Raises
    ------
    InvalidOptionError
        No window is long enough to go on.
    """
    count = tokens.count(text)
    room -= len(tokens) - count
    if count <= room:
        return [tokens]
    if room <= stride:
        raise InvalidOptionError(
            f"stride: a window has room for {max(room, 0)} tokens of the text; {stride} is too much"
        )
    starts = range(0, count - stride, room - stride)
    return [tokens.window(text, start, start + room) for start in starts]


def pieces_of(tokenizer: Tokenizer, tokens: LocatedTokens, text: str, rows: NDArray[np.float32]) -> list[Piece]:
    """The tokens of the text itself. Where the tokenizer marks what continues a word, its marks say so; else a token
    does that has no space before it.
    """
    pieces = []
    for token, (start, end), of, row in zip(tokens.ids, tokens.spans, tokens.texts, rows, strict=True):
        if of is None:
            continue
        if tokenizer.decoder.style == "wordpiece":
            continues = len(tokenizer.token(token)) != end - start
        else:
            continues = start > 0 and " " not in text[start - 1 : start + 1]
        pieces.append(Piece(start, end, shares(row), continues and token != tokenizer.unk_token_id))
    return pieces


def entities_of(pieces: list[Piece], aggregation: str, labels: Sequence[str], text: str) -> list[Entity]:
    """Entities of tokens, in the order of the text."""
    if aggregation == "none":
        return [entity([piece], labels[piece.best], text) for piece in pieces]
    if aggregation != "simple":
        pieces = [word_of(word, aggregation) for word in words_of(pieces)]
    groups: list[list[Piece]] = []
    for piece in pieces:
        begins, name = tag_of(labels[piece.best])
        if groups and not begins and name == tag_of(labels[groups[-1][-1].best])[1]:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [entity(group, labels[group[0].best].split("-", 1)[-1], text) for group in groups]


def words_of(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Tokens word by word."""
    words: list[list[Piece]] = []
    for piece in pieces:
        if words and piece.continues:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def word_of(word: list[Piece], aggregation: str) -> Piece:
    """The tokens of a word as one."""
    if aggregation == "average":
        scores = np.add.accumulate([piece.scores for piece in word])[-1] / len(word)
    elif aggregation == "max":
        scores = max(word, key=lambda piece: float(piece.scores.max())).scores
    else:
        scores = word[0].scores
    return Piece(word[0].start, word[-1].end, scores, False)


def tag_of(label: str) -> tuple[bool, str]:
    """Whether a class begins an entity, and what it names: those of ``B-`` and ``I-`` belong together."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label


def entity(group: list[Piece], label: str, text: str) -> Entity:
    """One entity: its score is the average of its parts'; spaces at its ends are none of it."""
    from .results import Entity

    start, end = trimmed(text, group[0].start, group[-1].end)
    best = [piece.scores[piece.best] for piece in group]
    return Entity(label, float(np.add.accumulate(best)[-1]) / len(group), text[start:end], start, end)


def without_overlaps(entities: list[Entity]) -> list[Entity]:
    """Entities of several windows; of those that overlap, one."""
    kept: list[Entity] = []
    for found in sorted(entities, key=lambda one: one.start):
        if kept and found.start < kept[-1].end:
            longer = (found.end - found.start, found.score) > (kept[-1].end - kept[-1].start, kept[-1].score)
            kept[-1] = found if longer else kept[-1]
        else:
            kept.append(found)
    return kept
