"""BERT's relatives: what their configurations and names mean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import write_folder


def folder_like(name: str, folder: Path, renamed: tuple[tuple[str, str], ...] = (), **changes: Any) -> Path:
    """A golden checkpoint with other keys in its configuration, and other names of its tensors by patterns."""
    config = json.loads((cases.FOLDER / name / "config.json").read_text()) | changes
    tensors = stored(name)
    for old, new in renamed:
        tensors = {re.sub(old, new, key): tensor for key, tensor in tensors.items()}
    return write_folder(folder, {key: value for key, value in config.items() if value != "left out"}, tensors)


def stored(name: str) -> dict[str, np.ndarray]:
    """The tensors of a golden checkpoint."""
    with open_checkpoint(cases.FOLDER / name) as checkpoint:
        return {key: checkpoint.read(key) for key in checkpoint.names()}


def contents(path: Path) -> dict[str, np.ndarray]:
    with GGUFFile(path) as file:
        return {name: file.dequantize(name) for name in file.tensors}


def assert_same_model(folder: Path, name: str) -> None:
    first = contents(convert(folder, folder / "out.gguf", type="f32").path)
    second = contents(convert(cases.FOLDER / name, folder / "other.gguf", type="f32").path)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]},
        {"model_type": "camembert", "architectures": ["CamembertModel"]},
        {"model_type": "left out"},
        {"architectures": "left out"},
    ],
)
def test_robertas_are_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert_same_model(folder_like("roberta-relu", tmp_path / "model", **changes), "roberta-relu")


def test_a_base_model_inside_a_larger_one_is_found(tmp_path: Path) -> None:
    inside = (("^", "roberta."),)
    assert_same_model(folder_like("roberta-relu", tmp_path / "model", inside), "roberta-relu")


def test_norms_by_tensorflows_names(tmp_path: Path) -> None:
    old = ((r"LayerNorm\.weight", "LayerNorm.gamma"), (r"LayerNorm\.bias", "LayerNorm.beta"))
    assert_same_model(folder_like("bert-gelu-mean", tmp_path / "model", old), "bert-gelu-mean")


def test_positions_begin_behind_the_padding_token(tmp_path: Path) -> None:
    folder = folder_like("roberta-relu", tmp_path / "model", pad_token_id=4)
    tables = contents(convert(folder, tmp_path / "out.gguf", type="f32").path)
    assert np.array_equal(
        tables["position_embd.weight"], stored("roberta-relu")["embeddings.position_embeddings.weight"][5:]
    )


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("roberta-relu", {"pad_token_id": 149}, "pad_token_id = 149"),
        ("roberta-relu", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("roberta-relu", {"is_decoder": True}, "is_decoder"),
        ("distilbert-narrow", {"activation": "silu"}, "activation = 'silu'"),
        ("distilbert-narrow", {"n_heads": 3}, "n_heads = 3"),
        ("distilbert-narrow", {"trick": 1}, "trick = 1"),
        ("albert-two-groups", {"num_hidden_groups": 3}, "num_hidden_groups = 3"),
        ("albert-two-groups", {"inner_group_num": 2}, "inner_group_num = 2"),
        ("mpnet-biased", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets = 16"),
        ("mpnet-biased", {"max_position_embeddings": 2}, "max_position_embeddings = 2"),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(folder_like(name, tmp_path / "model", **changes), tmp_path / "out.gguf")


def test_shared_layers_are_held_once(tmp_path: Path) -> None:
    held = []
    for layers in (2, 4, 8):
        folder = folder_like("albert-two-groups", tmp_path / str(layers), num_hidden_layers=layers)
        report = convert(folder, tmp_path / f"{layers}.gguf", type="f32")
        with edgeformer.load(report.path) as model:
            held.append((len(report.tensors), model.session.memory["weights"]))
    assert len(set(held)) == 1


def test_an_electra_as_wide_as_its_embeddings_projects_nothing(tmp_path: Path) -> None:
    changes = {"model_type": "electra", "architectures": ["ElectraModel"], "embedding_size": 32}
    folder = folder_like("bert-gelu-mean", tmp_path / "model", **changes)
    convert(folder, tmp_path / "electra.gguf", type="f32")
    convert(cases.FOLDER / "bert-gelu-mean", tmp_path / "bert.gguf", type="f32")
    with edgeformer.load(tmp_path / "electra.gguf") as one, edgeformer.load(tmp_path / "bert.gguf") as other:
        assert np.array_equal(one.hidden_states([5, 6, 7]), other.hidden_states([5, 6, 7]))
