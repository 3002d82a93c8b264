"""`classify`: the class of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np

from ..errors import InvalidInputError, InvalidOptionError, UnsupportedModelError, quote
from ..graph.architecture import Classifier
from ..host.memory import ShortMemory
from ..text.located import LocatedTokens
from .base import Prompt, Prompts
from .heads import HeadVerbs, check_truncate, checked_top, fitted, results, scores_of, shares, texts_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..engine.adapters import Adapter
    from ..engine.session import Session
    from .results import Classification, LabelScore

    class ClassifyOptions(TypedDict, total=False):
        """Keyword arguments of `classify`."""

        text_pair: str | Sequence[str] | None
        labels: Sequence[str] | None
        hypothesis_template: str
        multi_label: bool
        top_k: int | None
        truncate: str | None
        adapter: Adapter | None


__all__ = ["ClassificationVerbs"]

ENTAILMENT = "entail"  # what the class begins with by which a premise has a hypothesis follow from it


class ClassificationVerbs(HeadVerbs):
    """Verbs of models that tell classes of texts apart."""

    @overload
    def classify(self, text: Prompt, **options: Unpack[ClassifyOptions]) -> Classification: ...

    @overload
    def classify(self, text: Prompts, **options: Unpack[ClassifyOptions]) -> list[Classification]: ...

    @ShortMemory("classify")
    def classify(
        self,
        text: Any,
        *,
        text_pair: Any = None,
        labels: Sequence[str] | None = None,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        top_k: int | None = None,
        truncate: str | None = None,
        adapter: Adapter | None = None,
    ) -> Classification | list[Classification]:
        """The class of a text, by the model's own classes or, zero-shot, by labels of yours.

        Parameters
        ----------
        text : str, list of int, or a list of either
            Token ids are used as they are.
        text_pair : str or list of str, optional
            A second text for each, which the model sees together with the first: the hypothesis to a premise.
        labels : list of str, optional
            Zero-shot: of a model of natural-language inference. Each label's score says how far the text entails the
            hypothesis that the label makes.
        hypothesis_template : str
            That hypothesis, with ``{}`` in place of the label.
        multi_label : bool
            Zero-shot: each label by itself, its entailment against its contradiction; else the labels share 1.
        top_k : int, optional
            So many classes in the result; default all.
        truncate : "right", optional
            Cut the end of a text that does not fit, of two the longer one's; zero-shot, the text's and no hypothesis'.
        adapter : Adapter, optional
            What `Model.load_adapter` gave: this call runs with it.

        Returns
        -------
        Classification, or a list of them
            The scores are shares of 1, or from 0 to 1 each where a model tells several labels at once, or the numbers
            themselves of a regression: as the model was trained (`labels` lists its classes).

        Raises
        ------
        ContextOverflowError
            A text does not fit and `truncate` was not asked for.
        InvalidInputError, InvalidOptionError
            Something is of the wrong kind.
        UnsupportedModelError
            The model tells no classes of texts apart, or for `labels`, has no class of entailment.
        """
        session = self._require("classify", adapter)
        check_truncate(truncate)
        count = checked_top("top_k", top_k)
        items, single = texts_of(text, "text")
        if labels is None:
            found = self._by_classes(session, items, text_pair, truncate)
        elif text_pair is None:
            hypotheses = hypotheses_of(labels, hypothesis_template)
            found = self._by_labels(session, items, hypotheses, multi_label, truncate)
        else:
            raise InvalidOptionError("text_pair: the labels make the second texts; leave one of the two out")
        given = [_classification(scores, count) for scores in found]
        return given[0] if single else given

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of `classify` or `tokens`, by their numbers; empty where the model tells none apart."""
        session = self._session
        return () if session is None or session.classifier is None else session.classifier.labels

    def _by_classes(
        self, session: Session, items: list[Any], text_pair: Any, truncate: str | None
    ) -> list[list[LabelScore]]:
        """The scores of the model's own classes for each text, or pair of texts."""
        pairs = [None] * len(items) if text_pair is None else texts_of(text_pair, "text_pair")[0]
        if len(pairs) != len(items):
            raise InvalidInputError(f"text_pair: {len(pairs)} texts for {len(items)}")
        tokens = []
        for index, (item, pair) in enumerate(zip(items, pairs, strict=True)):
            what = f"text[{index}]"
            if isinstance(item, str) or pair is not None:
                tokens.append(fitted(session, self._locate(item, what, pair), truncate))
            else:
                tokens.append(fitted(session, LocatedTokens.of_ids(self._ids(item, what)), truncate))
        classifier = classifier_of(session)
        rows = results(session, "classes", tokens)
        return [_scored(classifier.labels, scores_of(row[0], classifier.scores)) for row in rows]

    def _by_labels(
        self, session: Session, items: list[Any], hypotheses: Mapping[str, str], multi_label: bool, truncate: str | None
    ) -> list[list[LabelScore]]:
        """The scores of labels that make hypotheses, as transformers' zero-shot pipeline has them, for each text."""
        entailment, contradiction = entailment_of(classifier_of(session))
        tokens = []
        for index, item in enumerate(items):
            for hypothesis in hypotheses.values():
                pair = self._locate(item, f"text[{index}]", hypothesis)
                if truncate is not None and len(pair) > session.n_ctx:
                    pair = pair.window(0, 0, max(pair.count(0) - (len(pair) - session.n_ctx), 0))
                tokens.append(fitted(session, pair, None))
        rows = np.concatenate([np.empty((0, len(self.labels)), np.float32), *results(session, "classes", tokens)])
        found = []
        for logits in rows.reshape(len(items), len(hypotheses), len(self.labels)):
            if multi_label or len(hypotheses) == 1:
                scores = np.array([shares(row[[contradiction, entailment]])[1] for row in logits])
            else:
                scores = shares(logits[:, entailment])
            found.append(_scored(tuple(hypotheses), scores))
        return found


def classifier_of(session: Session) -> Classifier:
    """The classes of a model that gives some."""
    assert session.classifier is not None  # it is made with the output
    return session.classifier


def hypotheses_of(labels: Sequence[str], template: str) -> dict[str, str]:
    """The hypothesis of each label. Raises InvalidOptionError where there are no labels, or a label makes no text."""
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels) or not len(labels):
        raise InvalidOptionError(f"labels: a list of one or more str is needed, not {quote(labels)}")
    if not isinstance(template, str) or "{}" not in template:
        raise InvalidOptionError(f"hypothesis_template: a str with {{}} for the label is needed, not {quote(template)}")
    return {label: template.replace("{}", label) for label in labels}


def entailment_of(classifier: Classifier) -> tuple[int, int]:
    """The numbers of the classes of entailment and of contradiction, as transformers finds them.

    Raises
    ------
    UnsupportedModelError
        The model is none of natural-language inference.
    """
    found = [number for number, label in enumerate(classifier.labels) if label.lower().startswith(ENTAILMENT)]
    if not found or len(classifier.labels) < 2:
        what = f"a class {quote(ENTAILMENT + 'ment')} is needed, and this model's are {', '.join(classifier.labels)}"
        raise UnsupportedModelError(f"labels: {what}; take a model of natural-language inference, or leave labels out")
    return found[0], len(classifier.labels) - 1 if found[0] == 0 else 0


def _scored(labels: Sequence[str], scores: Any) -> list[LabelScore]:
    from .results import LabelScore

    return [LabelScore(label, float(score)) for label, score in zip(labels, scores, strict=True)]


def _classification(scores: list[LabelScore], count: int | None) -> Classification:
    """All classes of a text as its result, best first."""
    from .results import Classification

    ordered = sorted(scores, key=lambda scored: -scored.score)[:count]
    return Classification(ordered[0].label, ordered[0].score, ordered)
