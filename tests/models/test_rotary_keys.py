"""Keys of the rotation and of the mask that llama.cpp obeys are obeyed, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.errors import UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from support.small_models import SmallModel, llama

IDS = [3, 9, 4, 17, 30, 2, 11, 8]


def without_scaling(**keys: Any) -> SmallModel:
    """The small Llama with other keys of the rotation alone; `__` stands for a dot."""
    model = llama().with_metadata(llama__rope__scaling__type=None, llama__rope__scaling__factor=None)
    return model.with_metadata(**{f"llama__{key}": value for key, value in keys.items()})


def logits(model: SmallModel, path: Path) -> np.ndarray:
    with edgeformer.load(model.write(path / "model.gguf"), threads=1, kv_type="f32") as loaded:
        return np.asarray(loaded.logits(IDS))


def test_a_factor_without_a_type_is_a_linear_scaling(tmp_path: Path) -> None:
    plain = logits(without_scaling(), tmp_path)
    linear = logits(without_scaling(rope__scaling__type="linear", rope__scaling__factor=2.0), tmp_path)
    assert not np.array_equal(plain, linear)
    assert np.array_equal(logits(without_scaling(rope__scaling__factor=2.0), tmp_path), linear)
    assert np.array_equal(logits(without_scaling(rope__scale_linear=2.0), tmp_path), linear)
    both = without_scaling(rope__scale_linear=8.0, rope__scaling__factor=2.0)
    assert np.array_equal(logits(both, tmp_path), linear)
    none = without_scaling(rope__scaling__type="none", rope__scaling__factor=2.0)
    assert np.array_equal(logits(none, tmp_path), plain)


def test_an_attention_factor_scales_the_rotation(tmp_path: Path) -> None:
    """Queries and keys times `f` are scores times `f` squared, which the query's weights times `f` squared give too."""
    scaled = logits(without_scaling(rope__scaling__attn_factor=0.5), tmp_path)
    path = without_scaling().write(tmp_path / "model.gguf")
    with GGUFFile(path) as file:
        places = [file.tensors[f"blk.{layer}.attn_q.weight"] for layer in range(2)]
    raw = bytearray(path.read_bytes())
    for place in places:
        weights = np.frombuffer(raw, np.float32, place.nbytes // 4, place.offset) * np.float32(0.25)
        raw[place.offset : place.offset + place.nbytes] = weights.tobytes()
    path.write_bytes(raw)
    with edgeformer.load(path, threads=1, kv_type="f32") as model:
        assert np.abs(model.logits(IDS) - scaled).max() < 1e-4 * np.ptp(scaled)


@pytest.mark.parametrize(
    "keys", [{"attention__causal": False}, {"rope__scaling__type": "yarn"}, {"rope__scaling__type": "longrope"}]
)
def test_what_is_not_obeyed_is_refused(tmp_path: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=next(iter(keys)).replace("__", ".")):
        logits(without_scaling(**keys), tmp_path)


def test_a_window_hides_what_is_before_it(tmp_path: Path) -> None:
    """In one layer a row that sees four positions gives what those four alone give, for the rotation is relative."""
    one = without_scaling(attention__sliding_window=4, block_count=1)
    for name in [name for name in one.shapes if name.startswith("blk.1.")]:
        one = one.with_shape(name, None)
    with edgeformer.load(one.write(tmp_path / "model.gguf"), threads=1, kv_type="f32") as model:
        whole, last = model.logits(IDS), model.logits(IDS[-4:])
        shorter = model.logits(IDS[-3:])
    assert np.abs(whole[-1] - last[-1]).max() < 1e-5 * np.ptp(whole)
    assert np.abs(whole[-1] - shorter[-1]).max() > 1e-3 * np.ptp(whole)
