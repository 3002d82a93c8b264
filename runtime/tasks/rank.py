"""`rank`: documents by how well they fit a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidInputError, quote
from ..host.memory import ShortMemory
from .base import listed
from .classify import classifier_of
from .heads import HeadVerbs, best_first, check_truncate, checked_top, fitted, results, scores_of

if TYPE_CHECKING:
    from ..engine.adapters import Adapter

if TYPE_CHECKING:
    from .results import RankedDocument

__all__ = ["RankingVerbs"]


class RankingVerbs(HeadVerbs):
    """Verbs of cross-encoders: models that score two texts together."""

    @ShortMemory("rank")
    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        truncate: str | None = None,
        adapter: Adapter | None = None,
    ) -> list[RankedDocument]:
        """Documents, the best fitting first, as `CrossEncoder.rank` of sentence-transformers has them.

        Parameters
        ----------
        query : str
        documents : list of str
        top_k : int, optional
            So many of them; default all.
        truncate : "right", optional
            Cut the end of a document that does not fit with the query; of both where each is longer than half.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.

        Returns
        -------
        list of RankedDocument

        Raises
        ------
        ContextOverflowError
            A document does not fit and `truncate` was not asked for.
        InvalidInputError, InvalidOptionError
            Something is of the wrong kind.
        UnsupportedModelError
            The model does not score two texts with one number.
        """
        from .results import RankedDocument

        session = self._require("rank", adapter)
        check_truncate(truncate)
        count = checked_top("top_k", top_k)
        if isinstance(documents, str):
            raise InvalidInputError(f"documents: a list of str is needed, not {quote(documents)}")
        texts = listed(documents, "documents")
        pairs = [self._locate(query, f"documents[{i}]", text) for i, text in enumerate(texts)]
        rows = results(session, "classes", [fitted(session, pair, truncate) for pair in pairs])
        kind = classifier_of(session).scores
        scores = [float(scores_of(row[0], kind)[0]) for row in rows]
        return [RankedDocument(place, scores[place], texts[place]) for place in best_first(scores, count)]
