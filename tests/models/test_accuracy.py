"""What quantization costs on the real checkpoints: perplexity of a language model, ranking of an embedding model."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.converters import convert
from edgeformer.converters.types.mixes import MIXES
from edgeformer.engine.session import Session

from bench.rank_correlation import spearman

WINDOW = 256  # predictions of one window of the validation text


def validation_loss(session: Session, token_ids: list[int]) -> float:
    """Mean cross entropy in nats over non-overlapping windows, in float64."""
    losses = []
    for begin in range(0, len(token_ids) - WINDOW, WINDOW):
        window = token_ids[begin : begin + WINDOW + 1]
        sequence = session.new_sequence()
        logits = session.forward([(sequence, window[:-1])], outputs="all").astype(np.float64)
        sequence.free()
        logits -= logits.max(axis=1, keepdims=True)
        log_probs = logits[np.arange(WINDOW), window[1:]] - np.log(np.exp(logits).sum(axis=1))
        losses.append(-log_probs.mean())
    return float(np.mean(losses))


@pytest.fixture(scope="module")
def shakespeare_losses(test_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    source = test_models / "shakespeare-llama-5m"
    expected = json.loads((source / "expected.json").read_text())
    losses = {"expected": expected["validation_loss"]}
    for kind in ("f32", "q8_0", "q4_0"):
        path = tmp_path_factory.mktemp("shakespeare") / f"{kind}.gguf"
        convert(source, path, type=kind)
        session = Session.open(path)
        losses[kind] = validation_loss(session, expected["valid_ids"])
        session.close()
    return losses


def test_float_loss_is_torchs(shakespeare_losses: dict[str, float]) -> None:
    assert shakespeare_losses["f32"] == pytest.approx(shakespeare_losses["expected"], abs=0.0005)


@pytest.mark.parametrize(("kind", "bound"), [("q8_0", 0.001), ("q4_0", 0.01)])
def test_quantized_loss_stays_within_its_budget(shakespeare_losses: dict[str, float], kind: str, bound: float) -> None:
    assert abs(shakespeare_losses[kind] - shakespeare_losses["f32"]) < bound


# Nats of the loss over the first windows that each type of GGUF may cost; about twice what it costs.
BUDGETS = {
    "f16": 0.0001, "bf16": 0.0001, "q8_0": 0.0003, "i8_row": 0.0015, "q4_0": 0.008,
    "q6_k": 0.002, "q5_k_m": 0.002, "q5_1": 0.003, "q5_0": 0.003, "iq4_nl": 0.005, "iq4_xs": 0.005, "q4_k_m": 0.008,
    "q4_1": 0.008, "mxfp4": 0.008, "q3_k_m": 0.02, "q2_k": 0.05, "tq1_0": 0.25, "tq2_0": 0.25,
}  # fmt: skip


@pytest.fixture(scope="module")
def loss_of_type(test_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], float]:
    """The loss of the language model in a type, over a part of the validation text."""
    source, folder = test_models / "shakespeare-llama-5m", tmp_path_factory.mktemp("types")
    token_ids = json.loads((source / "expected.json").read_text())["valid_ids"][: 16 * WINDOW + 1]

    @functools.cache
    def loss(kind: str) -> float:
        convert(source, folder / f"{kind}.gguf", type=kind)
        with contextlib.closing(Session.open(folder / f"{kind}.gguf")) as session:
            return validation_loss(session, token_ids)

    return loss


def test_every_type_has_a_budget() -> None:
    assert {MIXES[name].type for name in BUDGETS} == set(core.WEIGHT_TYPES.values()) - {"f32"}


@pytest.mark.parametrize("kind", BUDGETS)
def test_every_type_stays_within_its_budget(loss_of_type: Callable[[str], float], kind: str) -> None:
    assert abs(loss_of_type(kind) - loss_of_type("f32")) < BUDGETS[kind]


def test_cached_types_cost_little(test_models: Path, tmp_path: Path) -> None:
    """Q8_0 keys and values cost about what Q8_0 weights cost; the context is the window of 256."""
    source = test_models / "shakespeare-llama-5m"
    token_ids = json.loads((source / "expected.json").read_text())["valid_ids"]
    convert(source, tmp_path / "model.gguf", type="f32")
    losses, logits = {}, {}
    for kind in ("f32", "f16", "q8_0"):
        session = Session.open(tmp_path / "model.gguf", kv_type=kind)
        losses[kind] = validation_loss(session, token_ids)
        logits[kind] = session.forward([(session.new_sequence(), token_ids[:WINDOW])], outputs="all")
        session.close()
    spread = logits["f32"].max(axis=1) - logits["f32"].min(axis=1)
    for kind, loss_bound, logit_bound in (("f16", 1e-5, 0.001), ("q8_0", 0.0005, 0.01)):
        assert abs(losses[kind] - losses["f32"]) < loss_bound
        assert (np.abs(logits[kind] - logits["f32"]).max(axis=1) / spread).max() < logit_bound


def test_quantized_embeddings_rank_sentences_as_well(test_models: Path, minilm_folder: Path, tmp_path: Path) -> None:
    numbers = np.load(test_models / "minilm-expected" / "expected.npz")
    correlations = {}
    for kind in ("f32", "q8_0", "i8_row"):
        convert(minilm_folder, tmp_path / f"{kind}.gguf", type=kind)
        with edgeformer.load(tmp_path / f"{kind}.gguf") as model:
            correlations[kind] = spearman(model.encode([str(text) for text in numbers["sentences"]]), numbers["scores"])
    assert correlations["f32"] == pytest.approx(spearman(numbers["embeddings"], numbers["scores"]), abs=1e-4)
    for kind in ("q8_0", "i8_row"):
        assert abs(correlations[kind] - correlations["f32"]) < 0.002, correlations
