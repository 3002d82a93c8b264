"""`answer`: the part of a text that answers a question."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInputError
from ..host.memory import ShortMemory
from ..text.defaults import checked_integer
from ..text.located import LocatedTokens
from .heads import HeadVerbs, best_first, results, shares, texts_of, trimmed
from .tokens import windows_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..engine.adapters import Adapter
    from .results import Answer, Span

    class AnswerOptions(TypedDict, total=False):
        """Keyword arguments of `answer`."""

        top_k: int
        max_answer_tokens: int
        impossible: bool
        window: int | None
        stride: int | None
        adapter: Adapter | None


__all__ = ["AnswerVerbs"]

WINDOW, STRIDE = 384, 128  # tokens of a window, and those that two share, unless told: transformers'
NEVER = np.float32(-10000.0)  # what a token has that can be no part of an answer
Float64 = NDArray[np.float64]


class AnswerVerbs(HeadVerbs):
    """Verbs of models that find answers in texts."""

    @overload
    def answer(self, question: str, context: str, **options: Unpack[AnswerOptions]) -> Answer: ...

    @overload
    def answer(self, question: list[str], context: list[str], **options: Unpack[AnswerOptions]) -> list[Answer]: ...

    @ShortMemory("answer")
    def answer(
        self,
        question: Any,
        context: Any,
        *,
        top_k: int = 1,
        max_answer_tokens: int = 15,
        impossible: bool = False,
        window: int | None = None,
        stride: int | None = None,
        adapter: Adapter | None = None,
    ) -> Answer | list[Answer]:
        """The part of a context that answers a question, as transformers' question-answering pipeline finds it.

        A long context is read in windows that overlap; each stands behind the whole question. A span's score is the
        product of the shares of its first and of its last token in their window; spans of the same words share theirs.

        Parameters
        ----------
        question, context : str, or lists of as many str
        top_k : int
            So many spans in the result.
        max_answer_tokens : int
            The longest span.
        impossible : bool
            Let the answer be empty, for models that were trained on questions without one.
        window : int, optional
            Tokens of a window, with those of the question; default 384, or the context of the model if that is less.
        stride : int, optional
            Tokens that two windows share; default 128, or half of `window` if that is less.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.

        Returns
        -------
        Answer, or a list of them
            Offsets are characters of the context. The spans have whole words, where the tokenizer knows words.

        Raises
        ------
        InvalidInputError, InvalidOptionError
            Something is of the wrong kind, or the question leaves no room in a window.
        UnsupportedModelError
            The model finds no answers.
        """
        session = self._require("answer", adapter)
        room = min(session.n_ctx, WINDOW) if window is None else checked_integer("window", window, 1, session.n_ctx)
        shared = min(room // 2, STRIDE) if stride is None else checked_integer("stride", stride, 0, room)
        checked_integer("top_k", top_k, 1)
        questions, single = texts_of(question, "question")
        contexts, _ = texts_of(context, "context")
        if len(questions) != len(contexts):
            raise InvalidInputError(f"context: {len(contexts)} for {len(questions)} questions")
        windows: list[LocatedTokens] = []
        owners: list[int] = []
        for index, (one, text) in enumerate(zip(questions, contexts, strict=True)):
            pair = self._locate(one, f"question[{index}]", text)
            if not pair.count(1):
                raise InvalidInputError(f"context[{index}]: it has no tokens")
            cut = windows_of(pair, 1, room, shared)
            windows += cut
            owners += [index] * len(cut)
        cls = self.tokenizer.cls_token_id if self.tokenizer else None
        most = checked_integer("max_answer_tokens", max_answer_tokens, 1)
        found: list[dict[str, Span]] = [{} for _ in questions]
        nothing = [1e6] * len(questions)  # how likely there is no answer: as the window says where that is least
        for owner, tokens, logits in zip(owners, windows, results(session, "spans", windows), strict=True):
            start, end = chances(tokens, logits, cls)
            nothing[owner] = min(nothing[owner], float(start[0] * end[0]))
            add_spans(found[owner], spans_of(tokens, start, end, 2 * top_k + 10, most, contexts[owner]))
        given = [_answer(spans, nothing[index] if impossible else None, top_k) for index, spans in enumerate(found)]
        return given[0] if single else given


def _answer(spans: dict[str, Span], nothing: float | None, count: int) -> Answer:
    """The best spans, among them, where a number says how likely it is, that there is none."""
    from .results import Answer, Span

    listed = [*spans.values(), *([] if nothing is None else [Span("", nothing, 0, 0)])]
    listed = sorted(listed, key=lambda span: -span.score)[:count]
    best = listed[0]
    return Answer(best.text, best.score, best.start, best.end, listed)


def chances(tokens: LocatedTokens, logits: NDArray[np.float32], cls: int | None) -> tuple[Float64, Float64]:
    """How likely each token of the context, or the one that stands for no answer, is its first, and its last."""
    possible = np.array([of == 1 or token == cls for token, of in zip(tokens.ids, tokens.texts, strict=True)])
    start, end = np.where(possible[:, None], logits, NEVER).T
    return shares(start), shares(end)


def spans_of(tokens: LocatedTokens, start: Float64, end: Float64, count: int, most: int, context: str) -> list[Span]:
    """The `count` likeliest spans of a window, of at most so many tokens, best first."""
    from .results import Span

    inside = np.array([of == 1 for of in tokens.texts])
    length = min(most, len(inside))
    products = np.full((len(inside), length), -1.0)  # [first token, tokens after it]
    for after in range(length):
        first, last = slice(0, len(inside) - after), slice(after, None)
        products[first, after] = np.where(inside[first] & inside[last], start[first] * end[last], -1.0)
    spans = []
    for place in best_first(products.reshape(-1), count):
        begin, after = divmod(place, length)
        if products[begin, after] >= 0:
            left, right = trimmed(context, *characters(tokens, begin, begin + after))
            spans.append(Span(context[left:right], float(products[begin, after]), left, right))
    return spans


def characters(tokens: LocatedTokens, first: int, last: int) -> tuple[int, int]:
    """Begin and end of the words that two tokens of the second text are part of, or of the tokens themselves."""
    words = tokens.words[first], tokens.words[last]
    if None in words:
        return tokens.spans[first][0], tokens.spans[last][1]
    places = [[i for i, of in enumerate(tokens.texts) if of == 1 and tokens.words[i] == word] for word in words]
    return tokens.spans[places[0][0]][0], tokens.spans[places[1][-1]][1]


def add_spans(found: dict[str, Span], spans: list[Span]) -> None:
    """Put spans beside those of other windows; one of the same words, whatever their case, adds its score."""
    for span in spans:
        known = found.get(span.text.lower())
        found[span.text.lower()] = span if known is None else replace(known, score=known.score + span.score)
