"""T5: what of its configurations runs, and what published checkpoints have beside the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import write_folder

SCALED, UNTIED = "t5-relu-scaled", "t5-gated-untied"


def golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A golden checkpoint's configuration and tensors."""
    folder = cases.FOLDER / name
    with open_checkpoint(folder) as checkpoint:
        return json.loads((folder / "config.json").read_text()), {n: checkpoint.read(n) for n in checkpoint.names()}


def logit_scale(folder: Path) -> float:
    with GGUFFile(convert(folder, folder.parent / "out.gguf", type="f32").path) as file:
        return float(file.get("t5.logit_scale", float))


@pytest.mark.parametrize(("name", "change", "message"), [
    (UNTIED, {"feed_forward_proj": "gated-silu"}, "feed_forward_proj = 'gated-silu'"),
    (UNTIED, {"is_gated_act": False}, "is_gated_act = False"),
    (SCALED, {"dense_act_fn": "gelu_new"}, "dense_act_fn"),
    (SCALED, {"is_decoder": True}, "is_decoder"),
    (SCALED, {"feed_forward_proj": "gated-gelu"}, "is_gated_act = False"),
    (SCALED, {"relative_attention_num_buckets": 16}, r"relative_attention_bias.*asks for \(16, 3\)"),
    (SCALED, {"d_kv": 8}, r"SelfAttention\.q.*asks for \(24, 32\)"),
    (SCALED, {"num_decoder_layers": 2}, "decoder.block.1"),
    (SCALED, {"num_layers": 1}, "have no place"),
    (SCALED, {"architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


@pytest.mark.parametrize(("name", "keys", "scale"), [
    (SCALED, {}, 32**-0.5),
    (SCALED, {"tie_word_embeddings": True}, 32**-0.5),
    (UNTIED, {"tie_word_embeddings": False}, 1.0),
    (UNTIED, {"tie_word_embeddings": True, "scale_decoder_outputs": False}, 1.0),
])  # fmt: skip
def test_rows_are_scaled_before_the_head_as_either_version_of_transformers_says(
    tmp_path: Path, name: str, keys: dict[str, bool], scale: float
) -> None:
    config, tensors = golden(name)
    for key in ("tie_word_embeddings", "scale_decoder_outputs"):
        del config[key]
    assert logit_scale(write_folder(tmp_path / "tiny", {**config, **keys}, tensors)) == pytest.approx(scale, rel=1e-7)


def test_published_checkpoints_have_copies_and_a_bias_that_nothing_reads(tmp_path: Path) -> None:
    config, tensors = golden(SCALED)
    published = {key: value for key, value in config.items() if key not in ("is_gated_act", "dense_act_fn")}
    more = {f"{side}.embed_tokens.weight": tensors["shared.weight"] for side in ("encoder", "decoder")}
    more["lm_head.weight"] = tensors["shared.weight"]
    more["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.ones((32, 3), np.float32)
    files = [
        convert(write_folder(tmp_path / side / "tiny", keys, some), tmp_path / f"{side}.gguf", type="f32").path
        for side, keys, some in (("new", config, tensors), ("old", {**published, "output_past": True}, tensors | more))
    ]
    assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()


def test_a_context_that_is_named_is_kept(tmp_path: Path) -> None:
    config, tensors = golden(SCALED)
    for keys, wanted in (({}, 512), ({"n_positions": 1024}, 1024)):
        folder = write_folder(tmp_path / str(wanted) / "tiny", {**config, **keys}, tensors)
        with GGUFFile(convert(folder, tmp_path / f"{wanted}.gguf", type="f32").path) as file:
            assert file.get("t5.context_length", int) == wanted
