"""The golden models with other seeds, made and computed on the spot where torch and transformers are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from golden import cases
from golden.cases import TOLERANCE, relative_error

SEED = 4242


@pytest.fixture
def make_golden() -> Any:
    """The script that makes the golden files, as a module."""
    pytest.importorskip("torch", reason="torch is not installed: nothing to compare with live")
    pytest.importorskip("transformers", reason="transformers is not installed: nothing to compare with live")
    from golden import make_golden

    return make_golden


@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.parametrize("name", cases.ALL)
def test_fresh_checkpoint_gives_torchs_numbers(name: str, make_golden: Any, tmp_path: Path) -> None:
    folder, path = tmp_path / name, tmp_path / "model.gguf"
    folder.mkdir()
    with make_golden.torch.no_grad():
        make_golden.make(folder, cases.CASES[name], SEED)
    convert(folder, path, type="f32")
    with np.load(folder / "expected.npz") as file, edgeformer.load(path, kv_type="f32", threads=2) as model:
        assert error_of(model, name, dict(file)) < TOLERANCE["f32"]


def error_of(model: edgeformer.Model, name: str, numbers: dict[str, np.ndarray]) -> float:
    """How far the model is from torch, relative to the range of torch's rows."""
    if name in cases.HEADS:
        output = cases.CASES[name]["output"]
        rows = model.session.outputs(output, cases.split(numbers["ids"], numbers["lengths"]))
        return cases.head_error(output, np.concatenate(rows), numbers[output])
    return relative_error(*compute(model, name, numbers))


def compute(model: edgeformer.Model, name: str, numbers: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The model's numbers and torch's, for what the case has."""
    if name in cases.DECODERS:
        return model.logits(numbers["ids"].tolist()), numbers["logits"]
    if name in cases.ENCODERS:
        sentences = cases.split(numbers["ids"], numbers["lengths"])
        return model.session.hidden(sentences)[: len(numbers["hidden"])], numbers["hidden"]
    if name in cases.FEATURES:
        return np.concatenate(model.session.features(cases.split_samples(numbers))), numbers["hidden"]
    sources = cases.split(numbers["source_ids"], numbers["source_lengths"])
    targets = cases.split(numbers["target_ids"], numbers["target_lengths"])
    sequences = model.session.encode_source(sources)
    return model.session.forward(list(zip(sequences, targets, strict=True)), outputs="all"), numbers["logits"]
