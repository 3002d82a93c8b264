"""Keys of the rotation and of the mask that llama.cpp obeys are obeyed, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.errors import ModelFormatError, UnsupportedModelError
from edgeformer.files.gguf.reader import GGUFFile
from golden.cases import relative_error
from support.probes import llama_cpp
from support.small_models import HEADS, MODELS, WIDTH, SmallModel, llama

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


YARN = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "rope__freq_base": 100.0}
LONGROPE = {"rope__scaling__type": "longrope", "rope__scaling__attn_factor": 1.2}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"attention__causal": False}, "attention.causal"),
        ({"rope__scaling__type": "ntk"}, "rope.scaling.type is 'ntk'; supported: none, linear, yarn, longrope"),
        ({**YARN, "rope__scaling__yarn_ext_factor": 0.5}, "yarn_ext_factor is not supported"),
        ({**YARN, "rope__scaling__yarn_attn_factor": 0.5}, "yarn_attn_factor is not supported"),
        ({**YARN, "rope__scaling__yarn_log_multiplier": 0.1}, "yarn_log_multiplier is not supported"),
    ],
)
def test_what_is_not_obeyed_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        logits(without_scaling(**keys), tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({**YARN, "rope__freq_base": 1.0}, "freq_base"),
        ({**YARN, "rope__scaling__factor": 0.0}, "scaling.factor"),
        ({**YARN, "rope__scaling__yarn_beta_fast": 0.0}, "yarn_beta_fast"),
        ({**YARN, "rope__scaling__original_context_length": 0}, "original_context_length"),
        ({**LONGROPE, "rope__scaling__original_context_length": 8}, "rope_factors_long.weight"),
        (LONGROPE, "rope_factors_short.weight"),
    ],
)
def test_numbers_that_cannot_be_are_named(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        logits(without_scaling(**keys), tmp_path)


def with_divisors(model: SmallModel) -> SmallModel:
    for kind in ("long", "short"):
        model = model.with_shape(f"rope_factors_{kind}.weight", (WIDTH // HEADS // 2,))
    return model


@pytest.mark.parametrize(
    "keys",
    [
        YARN,
        {**YARN, "rope__scaling__original_context_length": 16},
        {**YARN, "rope__scaling__original_context_length": 5, "rope__scaling__attn_factor": 1.3},
        {"rope__scaling__type": "yarn"},
        {**LONGROPE, "rope__scaling__original_context_length": 8},
    ],
)
def test_scalings_of_a_file_are_llama_cpps(tmp_path: Path, keys: dict[str, Any]) -> None:
    model = without_scaling(**keys)
    if keys["rope__scaling__type"] == "longrope":
        model = with_divisors(model)
    ours = logits(model, tmp_path)
    theirs = np.array(llama_cpp("rows", {"path": str(tmp_path / "model.gguf"), "ids": IDS}), np.float32)
    assert relative_error(ours, theirs) < 2e-3
    assert relative_error(logits(without_scaling(), tmp_path), theirs) > 2e-2 or keys == {"rope__scaling__type": "yarn"}


def test_the_context_asked_for_picks_longropes_divisors(tmp_path: Path) -> None:
    """Those for long contexts count from the first position on, whatever the length of the text."""
    keys = {**LONGROPE, "rope__scaling__original_context_length": 16}
    path = with_divisors(without_scaling(**keys)).write(tmp_path / "longrope.gguf")
    with GGUFFile(path) as file:
        divisors = [file.dequantize(f"rope_factors_{kind}.weight").reshape(-1) for kind in ("long", "short")]
    wanted = []
    for kind, values in zip(("long", "short"), divisors, strict=True):
        plain = without_scaling(rope__scaling__attn_factor=1.2).with_shape("rope_freqs.weight", (len(values),))
        copy = plain.write(tmp_path / f"{kind}.gguf")
        with GGUFFile(copy) as file:
            place = file.tensors["rope_freqs.weight"]
        raw = bytearray(copy.read_bytes())
        raw[place.offset : place.offset + place.nbytes] = values.tobytes()
        copy.write_bytes(raw)
        with edgeformer.load(copy, threads=1) as model:
            wanted.append(model.logits(IDS))
    assert not np.array_equal(*wanted)
    for n_ctx, number in ((None, 0), (17, 0), (16, 1), (9, 1)):
        with edgeformer.load(path, threads=1, n_ctx=n_ctx) as model:
            assert np.array_equal(model.logits(IDS), wanted[number])


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


def test_a_window_for_another_number_of_layers_is_named(tmp_path: Path) -> None:
    model = MODELS["qwen2"]().with_metadata(
        qwen2__attention__sliding_window=4, qwen2__attention__sliding_window_pattern=[True]
    )
    with pytest.raises(ModelFormatError, match=r"sliding_window_pattern.*1 booleans, expected 2"):
        logits(model, tmp_path)
