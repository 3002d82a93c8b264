"""Checkpoint folders: which file is taken, shards, and indices that lie."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.errors import CheckpointFormatError, EdgeformerError, ModelNotFoundError
from support.file_makers import safetensors_of, state_dict_pickle, tensor_opcodes, torch_file

FLOATS = np.arange(24, dtype="<f4")
TORCH_FILE = torch_file(state_dict_pickle({"w": tensor_opcodes("0", 24, (4, 6), (6, 1))}), {"0": FLOATS.tobytes()})


def saved(tmp_path: Path, raw: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(raw)


def put_config(folder: Path, **values: Any) -> None:
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "net.bin", "last.ckpt"])
def test_folder_with_one_torch_file(tmp_path: Path, name: str) -> None:
    saved(tmp_path, TORCH_FILE, name)
    put_config(tmp_path, model_type="test")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.files() == [str(tmp_path / name)]
        assert checkpoint.config == {"model_type": "test"}
        assert checkpoint.folder == str(tmp_path)
    with open_checkpoint(tmp_path / name) as checkpoint:
        assert checkpoint.config == {"model_type": "test"}


def test_safetensors_before_torch(tmp_path: Path) -> None:
    saved(tmp_path, b"not read", "pytorch_model.bin")
    saved(tmp_path, safetensors_of({"a": FLOATS}), "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.names() == ["a"]
        assert checkpoint.config is None


def put_shards(folder: Path, weight_map: Any, suffix: str = "safetensors") -> None:
    index = "model.safetensors.index.json" if suffix == "safetensors" else "pytorch_model.bin.index.json"
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def test_shards(tmp_path: Path) -> None:
    saved(tmp_path, safetensors_of({"a": FLOATS, "b": FLOATS[:3]}), "x-00001-of-00002.safetensors")
    saved(tmp_path, safetensors_of({"c": FLOATS[3:]}), "x-00002-of-00002.safetensors")
    names = {"c": 2, "a": 1, "b": 1}
    put_shards(tmp_path, {name: f"x-0000{shard}-of-00002.safetensors" for name, shard in names.items()})
    with open_checkpoint(tmp_path) as checkpoint:
        assert sorted(checkpoint.names()) == ["a", "b", "c"]
        np.testing.assert_array_equal(checkpoint.read("c"), FLOATS[3:])
        assert len(checkpoint.files()) == 2


def test_torch_shards(tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        pickled = state_dict_pickle({name: tensor_opcodes("0", 24, (24,), (1,))})
        saved(tmp_path, torch_file(pickled, {"0": (FLOATS + index).tobytes()}), f"pytorch_model-{name}.bin")
    put_shards(tmp_path, {"a": "pytorch_model-a.bin", "b": "pytorch_model-b.bin"}, "bin")
    with open_checkpoint(tmp_path / "pytorch_model.bin.index.json") as checkpoint:
        np.testing.assert_array_equal(checkpoint.read("b"), FLOATS + 1)


@pytest.mark.parametrize(
    "shard",
    [
        "../outside.safetensors",
        "/etc/passwd.bin",
        "/etc/passwd",
        "sub/inside.safetensors",
        "..\\outside.safetensors",
        "..",
        "",
        "config.json",
        "x.safetensors\0.bin",
        3,
        None,
        ["x.safetensors"],
    ],
)
def test_index_that_points_elsewhere_is_refused(tmp_path: Path, shard: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    saved(tmp_path, safetensors_of({"a": FLOATS}), "outside.safetensors")
    put_shards(folder, {"a": shard})
    with pytest.raises(EdgeformerError, match=r"folder/"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({}, "missing or empty"),
        ([], "missing or empty"),
        (None, "missing or empty"),
        ({"a": "missing.safetensors"}, "no such file"),
        ({"a": "x.safetensors", "z": "x.safetensors"}, "'z'.*not in the file"),
        ({"a": "y.safetensors"}, "'a'.*not in the file"),
        ({"a": "x.safetensors", "b": "again.safetensors"}, "'a'.*as well"),
        ({f"{i}": f"{i}.safetensors" for i in range(600)}, "more than 512"),
    ],
)
def test_index_that_lies_is_named(tmp_path: Path, weight_map: Any, message: str) -> None:
    saved(tmp_path, safetensors_of({"a": FLOATS}), "x.safetensors")
    saved(tmp_path, safetensors_of({"b": FLOATS}), "y.safetensors")
    saved(tmp_path, safetensors_of({"a": FLOATS, "b": FLOATS}), "again.safetensors")
    put_shards(tmp_path, weight_map)
    with pytest.raises(EdgeformerError, match=message):
        open_checkpoint(tmp_path)


def test_folders_without_a_clear_checkpoint_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"holds no checkpoint.*model\.safetensors"):
        open_checkpoint(tmp_path)
    saved(tmp_path, TORCH_FILE, "a.pt")
    saved(tmp_path, TORCH_FILE, "b.pt")
    with pytest.raises(ModelNotFoundError, match=r"give one of a\.pt, b\.pt"):
        open_checkpoint(tmp_path)
    with pytest.raises(ModelNotFoundError, match="no such file"):
        open_checkpoint(tmp_path / "c.pt")


def test_bad_config_is_named_and_files_are_closed(tmp_path: Path) -> None:
    saved(tmp_path, TORCH_FILE, "model.pt")
    (tmp_path / "config.json").write_text('{"a": 1, "a": 2}')
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CheckpointFormatError, match=r"config\.json.*twice"):
        open_checkpoint(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
