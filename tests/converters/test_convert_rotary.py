"""Rotary settings of a configuration: both spellings, every scaling, what each becomes in the file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from support.checkpoints import LLAMA, llama_tensors, write_folder

LENGTH = LLAMA["max_position_embeddings"]
HALF = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]  # a divisor for each pair of a head's 16 columns


def written(tmp_path: Path, **changes: Any) -> tuple[dict[str, Any], list[str], dict[str, np.ndarray]]:
    """The file's keys of the rotation without their prefix, what the conversion notes, the rotation's tensors."""
    config = {**LLAMA, **changes}
    folder = write_folder(tmp_path / "tiny", config, llama_tensors(config))
    report = convert(folder, tmp_path / "out.gguf", type="f32")
    with GGUFFile(report.path) as file:
        keys = {k.removeprefix("llama.rope."): v for k, v in file.metadata.items() if k.startswith("llama.rope.")}
        tensors = {name: file.dequantize(name).reshape(-1) for name in file.tensors if name.startswith("rope")}
    return keys, [note for note in report.notes if "vocabulary" not in note], tensors


PLAIN = {"dimension_count": 16, "freq_base": 10000.0}


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_llama3_scaling_becomes_divisors(tmp_path: Path, key: str) -> None:
    factor, low, high, length = 8.0, 1.0, 4.0, 64
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }
    theta = {"rope_theta": 500.0} if key == "rope_scaling" else {}
    inside = {"rope_theta": 500.0} if key == "rope_parameters" else {}
    keys, _, tensors = written(tmp_path, **theta, **{key: scaling | inside})
    assert keys == PLAIN | {"freq_base": 500.0}
    kinds = set()
    for index, divisor in enumerate(tensors["rope_freqs.weight"]):
        frequency = 500.0 ** (-2 * index / 16)
        wavelength = 2 * math.pi / frequency
        if wavelength < length / high:
            kinds.add("kept")
            expected = frequency
        elif wavelength > length / low:
            kinds.add("divided")
            expected = frequency / factor
        else:
            kinds.add("between")
            share = (length / wavelength - low) / (high - low)
            expected = (1 - share) * frequency / factor + share * frequency
        assert frequency / divisor == pytest.approx(expected, rel=1e-6)
    assert kinds == {"kept", "divided", "between"}


def test_linear_scaling(tmp_path: Path) -> None:
    keys, notes, tensors = written(tmp_path, rope_scaling={"type": "linear", "factor": 4.0})
    assert keys == PLAIN | {"scaling.type": "linear", "scaling.factor": 4.0}
    assert (notes, tensors) == ([], {})


def test_dynamic_scaling_begins_where_the_context_ends(tmp_path: Path) -> None:
    keys, notes, tensors = written(tmp_path, rope_scaling={"type": "dynamic", "factor": 2.0})
    assert (keys, tensors) == (PLAIN, {})
    assert notes == ["the dynamic scaling begins beyond 32 positions, where the file's context ends: it is left out"]


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"factor": 4.0, "original_max_position_embeddings": 8}, {"factor": 4.0, "original_context_length": 8}),
        ({"original_max_position_embeddings": 16, "finetuned": True}, {"factor": 2.0, "original_context_length": 16}),
        ({"factor": 4.0, "beta_fast": 32, "beta_slow": 0}, {"factor": 4.0, "original_context_length": LENGTH}),
        (
            {"factor": 4.0, "attention_factor": 1.5},
            {"factor": 4.0, "original_context_length": LENGTH, "attn_factor": 1.5 / (0.1 * math.log(4.0) + 1.0)},
        ),
        (
            {"factor": 4.0, "mscale": 2.0, "mscale_all_dim": 0.5},
            {
                "factor": 4.0,
                "original_context_length": LENGTH,
                "attn_factor": (0.2 * math.log(4) + 1) / (0.05 * math.log(4) + 1) / (0.1 * math.log(4) + 1),
            },
        ),
        (
            {"factor": 4.0, "beta_fast": 8, "truncate": False},
            {"factor": 4.0, "original_context_length": LENGTH, "yarn_beta_fast": 8.0, "yarn_truncate": False},
        ),
    ],
)
def test_yarn_becomes_llama_cpps_keys(tmp_path: Path, settings: dict[str, Any], keys: dict[str, Any]) -> None:
    found, notes, tensors = written(tmp_path, rope_scaling={"rope_type": "yarn", **settings})
    wanted = PLAIN | {"scaling.type": "yarn"} | {f"scaling.{key}": value for key, value in keys.items()}
    assert found.pop("scaling.attn_factor", 1.0) == pytest.approx(wanted.pop("scaling.attn_factor", 1.0), rel=1e-6)
    assert found == wanted
    assert any(note.startswith("llama.cpp") for note in notes) == ("yarn_beta_fast" in keys)
    assert tensors == {}


@pytest.mark.parametrize("name", ["longrope", "su"])
def test_longrope_becomes_two_tensors(tmp_path: Path, name: str) -> None:
    scaling = {"type": name, "short_factor": HALF, "long_factor": HALF[::-1]}
    keys, notes, tensors = written(tmp_path, rope_scaling=scaling, original_max_position_embeddings=8)
    scale = math.sqrt(1 + math.log(4) / math.log(8))
    assert keys.pop("scaling.attn_factor") == pytest.approx(scale, rel=1e-6)
    assert keys == PLAIN | {"scaling.type": "longrope", "scaling.original_context_length": 8}
    assert tensors["rope_factors_short.weight"].tolist() == HALF
    assert tensors["rope_factors_long.weight"].tolist() == HALF[::-1]
    assert [note for note in notes if "n_ctx=8" in note] == notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "rope_type 'ntk' is not supported; known are default, li"),
        ({"rope_scaling": {"type": "dynamic"}}, "factor is missing"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000}}, "alpha = 1000"),
        ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "trick": 1}}, "trick = 1"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}}, "low_freq_factor is missing"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": -1.0}}, "mscale"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": 0.0}}, "attn_factor"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": -2.0}}, "yarn_beta_fast"),
        ({"rope_scaling": {"type": "longrope", "short_factor": HALF}}, "long_factor is missing"),
        ({"rope_scaling": {"type": "longrope", "short_factor": HALF, "long_factor": HALF[1:]}}, "8 positive numbers"),
        ({"rope_scaling": {"type": "longrope", "long_factor": [*HALF[1:], 0.0]}}, "long_factor.*8 positive numbers"),
        ({"rope_scaling": {"type": "longrope", "long_factor": [*HALF[1:], "1"]}}, "long_factor.*8 positive numbers"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"rope_scaling": {"type": "yarn"}, "original_max_position_embeddings": 0}, "original_max_position_embeddings"),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        written(tmp_path, **change)
