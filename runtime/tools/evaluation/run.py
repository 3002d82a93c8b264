"""A model over labelled data, item by item, as at the edge: its figures and its time."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InvalidInputError, InvalidOptionError, quote
from ...generation.results import Record
from ...generation.sampling import log_probs_of
from ...model import Model, load
from .data import COLUMNS, Data, read_rows
from .metrics import ClassFigures, Confusion, confusion_of, pearson, spearman, translation_figures

__all__ = ["Evaluation", "evaluate"]

# The figure by which files are compared, and whether more of it is better.
PRIMARY = {"generate": ("loss", False), "translate": ("chrf", True), "encode": ("spearman", True)}
PRIMARY |= {"classify": ("accuracy", True)}
WINDOW = 512  # tokens that a text's tokens are seen with at most
ROWS = 32  # of logits at a time
CHECKPOINTS = (".pt", ".pth", ".bin", ".safetensors")
WARM_UP = 1  # items before the clock runs


@dataclass(frozen=True)
class Evaluation(Record):
    """What one file reached.

    Attributes
    ----------
    path : str
    task : str
    items : int
    figures : dict of str to float
        The task's; `primary` names the one that files are compared by.
    primary : str
    ms_per_item : float
        Median wall-clock time of an item, one at a time.
    file_bytes : int
    gap : float or None
        The primary figure less that of the float file, where there is one.
    classes : list of ClassFigures or None
    confusion : Confusion or None
    """

    path: str
    task: str
    items: int
    figures: dict[str, float]
    primary: str
    ms_per_item: float
    file_bytes: int
    gap: float | None = None
    classes: list[ClassFigures] | None = None
    confusion: Confusion | None = None


def evaluate(
    path: str | os.PathLike[str],
    data: Data,
    task: str,
    *,
    reference: str | os.PathLike[str] | Evaluation | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    options: Mapping[str, Any] | None = None,
    **load_options: Any,
) -> Evaluation:
    """Run a model over labelled data.

    Parameters
    ----------
    path : path
        A model file, or a checkpoint or its folder, which is converted to F32 for the purpose.
    data : path or sequence of mappings
        CSV, TSV or JSON Lines, or the rows.
    task : {"generate", "translate", "encode", "classify"}
        "generate": ``text``; the loss, in nats a token, and the perplexity, its exponential, of a decoder that sees at
        most 512 tokens before each. "translate": ``source`` and ``target``; BLEU, chrF and the share of equal texts.
        "encode": ``sentence1``, ``sentence2`` and ``score``; Spearman's and Pearson's correlation of the scores with
        the cosines. "classify": ``text`` (and ``text_pair``) and ``label``, a name or a number; accuracy, and the means
        over the classes of precision, recall and F1.
    reference : path or Evaluation, optional
        The float file, or the checkpoint, or what this function gave for it: for `gap`.
    columns : mapping, optional
        What a column is called in the data, by its name above.
    limit : int, optional
        Rows at most.
    progress : callable, optional
        Called with (items done, items in all).
    options : mapping, optional
        Of the verb: ``{"num_beams": 4}`` for `translate`, ``{"truncate": "right"}`` for `classify`.
    **load_options
        Of `load`.

    Returns
    -------
    Evaluation

    Raises
    ------
    InvalidInputError, InvalidOptionError
        Data or options are of the wrong kind.
    MissingDependencyError
        sacrebleu, for "translate", is not installed (the extra ``evaluate``).
    UnsupportedModelError
        The model does not have the task's verb.
    """
    if task not in COLUMNS:
        raise InvalidOptionError(f"task: {', '.join(COLUMNS)} are possible, not {quote(task)}")
    rows = read_rows(data, task, columns, limit)
    if reference is not None and not isinstance(reference, Evaluation):
        reference = evaluate(reference, rows, task, options=options, **load_options)
    with model_file(path) as file, load(file, **load_options) as model:
        measured = TASKS[task](model, rows, progress or (lambda done, total: None), dict(options or {}))
        found = replace(measured, path=os.fspath(path), file_bytes=os.path.getsize(file))
    if reference is None:
        return found
    if reference.task != task or reference.items != found.items:
        raise InvalidOptionError("reference: it is an evaluation of something else")
    return replace(found, gap=found.figures[found.primary] - reference.figures[found.primary])


@contextmanager
def model_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """A model file: `path` itself, or what the checkpoint there makes in F32, while the block lasts."""
    if not Path(path).is_dir() and Path(path).suffix not in CHECKPOINTS:
        yield os.fspath(path)
        return
    from ...converters import convert

    with tempfile.TemporaryDirectory(prefix="edgeformer-") as folder:
        file = Path(folder) / "float.gguf"
        convert(path, file, type="f32")
        yield str(file)


class _Clock:
    """Times of items, the first of which warms up."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._times: list[float] = []
        self._total, self._progress = total, progress

    def run(self, item: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._times:
            for _ in range(WARM_UP if self._total > 1 else 0):
                item(*args, **kwargs)
        start = time.perf_counter()
        result = item(*args, **kwargs)
        self._times.append(time.perf_counter() - start)
        self._progress(len(self._times), self._total)
        return result

    def evaluation(self, task: str, figures: dict[str, float], **more: Any) -> Evaluation:
        median = statistics.median(self._times) * 1e3
        return Evaluation("", task, len(self._times), figures, PRIMARY[task][0], median, 0, **more)


Rows = list[dict[str, Any]]
Progress = Callable[[int, int], None]


def _generate(model: Model, rows: Rows, progress: Progress, options: dict[str, Any]) -> Evaluation:
    _none_of("generate", options)
    model._require("logits")
    if model.session.needs_source:
        raise InvalidInputError("generate: a text has a loss with decoders alone; translate compares with references")
    clock, total, count = _Clock(len(rows), progress), 0.0, 0
    for row in rows:
        ids = model.tokenize(row["text"])
        if len(ids) < 2:
            raise InvalidInputError(f"{row['place']}: a text of {len(ids)} tokens has nothing to predict")
        total += clock.run(_loss, model, ids)
        count += len(ids) - 1
    loss = total / count
    return clock.evaluation("generate", {"loss": loss, "perplexity": math.exp(loss), "tokens": float(count)})


def _loss(model: Model, ids: list[int]) -> float:
    """The sum of -log p over all tokens but the first, each after at most so many of those before it."""
    window = min(WINDOW, model.n_ctx)
    total = 0.0
    for begin in range(0, len(ids) - 1, window):
        part = ids[begin : begin + window + 1]
        sequence = model.session.new_sequence()
        try:
            for place in range(0, len(part) - 1, ROWS):
                feed, following = part[place : min(place + ROWS, len(part) - 1)], part[place + 1 : place + ROWS + 1]
                logits = model.session.forward([(sequence, feed)], outputs="all")
                for row, token in zip(logits, following, strict=True):
                    total -= float(log_probs_of(row, np.array([token]))[0])
        finally:
            sequence.free()
    return total


def _translate(model: Model, rows: Rows, progress: Progress, options: dict[str, Any]) -> Evaluation:
    clock = _Clock(len(rows), progress)
    found = [clock.run(model.translate, row["source"], **options) for row in rows]
    return clock.evaluation("translate", translation_figures(found, [row["target"] for row in rows]))


def _encode(model: Model, rows: Rows, progress: Progress, options: dict[str, Any]) -> Evaluation:
    clock, cosines, scores = _Clock(len(rows), progress), [], []
    for row in rows:
        scores.append(_number(row))
        pair = [row["sentence1"], row["sentence2"]]
        first, second = (np.asarray(v, np.float64) for v in clock.run(model.encode, pair, **options))
        cosines.append(float(first @ second) / max(math.sqrt(float(first @ first) * float(second @ second)), 1e-30))
    return clock.evaluation("encode", {"spearman": spearman(cosines, scores), "pearson": pearson(cosines, scores)})


def _number(row: Mapping[str, Any]) -> float:
    try:
        number = float(row["score"])
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{row['place']}: the score {quote(row['score'])} is no number")
    return number


def _classify(model: Model, rows: Rows, progress: Progress, options: dict[str, Any]) -> Evaluation:
    model._require("classify")
    there, found, clock = [], [], _Clock(len(rows), progress)
    labels = list(options.get("labels") or model.labels)
    for row in rows:
        there.append(_label(row, labels))
        pair = {} if row["text_pair"] is None else {"text_pair": row["text_pair"]}
        found.append(clock.run(model.classify, row["text"], **pair, **options).label)
    confusion = confusion_of(there, found, labels)
    classes = confusion.classes()
    counted = [entry for entry in classes if entry.support or any(label == entry.label for label in found)]
    figures = {"accuracy": confusion.accuracy}
    for name in ("precision", "recall", "f1"):
        figures[name] = statistics.fmean(entry[name] for entry in counted)
    return clock.evaluation("classify", figures, classes=classes, confusion=confusion)


def _label(row: Mapping[str, Any], labels: list[str]) -> str:
    """The class of a row: a name that the model has, or its number."""
    label = row["label"]
    if isinstance(label, str) and label in labels:
        return label
    try:
        number = int(label)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(labels) or isinstance(label, (bool, float)):
        known = ", ".join(map(repr, labels))
        raise InvalidInputError(f"{row['place']}: the label {quote(label)} is not one of the model's: {known}")
    return labels[number]


def _none_of(task: str, options: Mapping[str, Any]) -> None:
    if options:
        raise InvalidOptionError(f"options: {task} has none, not {', '.join(options)}")


TASKS: Mapping[str, Callable[[Model, Rows, Progress, dict[str, Any]], Evaluation]] = {
    "generate": _generate,
    "translate": _translate,
    "encode": _encode,
    "classify": _classify,
}
