"""What int8 costs an embedding model: how much worse it ranks pairs of sentences than the float checkpoint does."""

from __future__ import annotations

import numpy as np

from .model_files import ModelFolder
from .peers import PeerError
from .rank_correlation import spearman
from .report import Check, Figure, Result
from .rows import OURS, Engine, Goal, Row, Settings, Work, encoder_engines
from .run import start

BOUND = 0.001
ROWS = [Row("minilm-ranking", "minilm", Work({}, 0, 1, "rho"), (Goal("loss", BOUND),))]
REFERENCE = "float32"


def sentences_as_ids(models: ModelFolder, sentences: list[str]) -> list[list[int]]:
    """Every runtime is given the same ids, those of edgeformer's tokenizer."""
    import edgeformer

    with edgeformer.load(models.minilm_ours("f32")) as model:
        assert model.tokenizer is not None
        return [model.tokenizer.encode(sentence) for sentence in sentences]


def run(row: Row, settings: Settings) -> Result:
    """The rank correlations of 200 pairs of STS-B, and each runtime's loss against the float vectors' correlation.

    Raises
    ------
    PeerError
        The test models are not there.
    """
    if settings.test_models is None:
        raise PeerError("--test-models (or EDGEFORMER_TEST_MODELS) must name the folder with minilm-expected")
    numbers = np.load(settings.test_models / "minilm-expected" / "expected.npz")
    ids = sentences_as_ids(settings.models, [str(text) for text in numbers["sentences"]])
    whole = spearman(numbers["embeddings"], numbers["scores"])
    figures, failures = {REFERENCE: Figure(REFERENCE, "", [whole])}, {}
    for engine in encoder_engines(settings):
        try:
            figures[engine.label] = figure_of(engine, ids, numbers["scores"], settings)
        except PeerError as error:
            failures[engine.label] = str(error)
    checks = []
    for label, figure in figures.items():
        loss = whole - figure.value
        if label != REFERENCE:
            checks.append(Check("loss", label, loss, [loss], BOUND if figure.group == OURS else None, at_most=True))
    return Result(row.name, row.group, "MiniLM-L6 int8", row.work.unit, figures, checks, failures)


def figure_of(engine: Engine, ids: list[list[int]], scores: np.ndarray, settings: Settings) -> Figure:
    """A runtime's rank correlation."""
    with start(engine, settings) as worker:
        vectors = np.array(worker.ask({"call": "pooled", "arguments": {"ids": ids}})["result"])
        return Figure(engine.group, worker.version, [spearman(vectors, scores)])
