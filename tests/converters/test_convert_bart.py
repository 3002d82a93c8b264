"""BART and its kin: what of their configurations runs, and what published checkpoints have beside the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.errors import ConversionError, InvalidInputError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import write_folder

BART, MARIAN, PEGASUS, M2M = "bart-learned", "marian-two-vocabularies", "pegasus-sinusoidal", "m2m100-fairseq"


def golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A golden checkpoint's configuration and tensors."""
    folder = cases.FOLDER / name
    with open_checkpoint(folder) as checkpoint:
        return json.loads((folder / "config.json").read_text()), {n: checkpoint.read(n) for n in checkpoint.names()}


def converted(folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    return Path(convert(write_folder(folder / "tiny", config, tensors), folder / "out.gguf", type="f32").path)


@pytest.mark.parametrize(("name", "change", "message"), [
    (BART, {"activation_function": "mish"}, "activation_function = 'mish'"),
    (BART, {"decoder_attention_heads": 4}, "decoder_attention_heads = 4: not supported where the encoder has 2"),
    (BART, {"decoder_ffn_dim": 80}, "decoder_ffn_dim = 80"),
    (BART, {"normalize_before": True}, "normalize_before = True"),
    (BART, {"add_final_layer_norm": True}, "add_final_layer_norm = True"),
    (BART, {"static_position_embeddings": True}, "static_position_embeddings"),
    (BART, {"num_hidden_layers": 7}, "num_hidden_layers = 7"),
    (BART, {"d_model": 48}, "asks for"),
    (BART, {"decoder_layers": 1}, "have no place"),
    (BART, {"max_position_embeddings": 100}, r"embed_positions.*asks for \(102, 40\)"),
    (BART, {"architectures": ["BartForQuestionAnswering"]}, "BartForQuestionAnswering"),
    (BART, {"strange": 1}, "strange = 1"),
    (MARIAN, {"share_encoder_decoder_embeddings": True}, "decoder_vocab_size = 67: one embedding for both"),
    (M2M, {"pad_token_id": -2}, "pad_token_id = -2"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        converted(tmp_path, {**config, **change}, tensors)


@pytest.mark.parametrize("name", [MARIAN, PEGASUS])
def test_sinusoids_are_computed_where_a_checkpoint_has_none(tmp_path: Path, name: str) -> None:
    config, tensors = golden(name)
    tensors = {key: value for key, value in tensors.items() if "embed_positions" not in key}
    half = config["d_model"] // 2
    angles = np.arange(config["max_position_embeddings"])[:, None] / 10000.0 ** (np.arange(half) / half)
    with GGUFFile(converted(tmp_path / "none", config, tensors)) as file:
        table = file.dequantize("position_embd.weight")
    assert np.abs(table - np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).max() < 1e-6
    stored = {f"model.{side}.embed_positions.weight": table + at for at, side in enumerate(("encoder", "decoder"))}
    with GGUFFile(converted(tmp_path / "stored", config, tensors | stored)) as file:
        assert np.array_equal(file.dequantize("enc.position_embd.weight"), table)
        assert np.array_equal(file.dequantize("dec.position_embd.weight"), table + 1)


def test_copies_of_the_shared_table_are_left_out_and_others_refused(tmp_path: Path) -> None:
    config, tensors = golden(BART)
    names = [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    plain = converted(tmp_path / "plain", config, tensors).read_bytes()
    copies = dict.fromkeys([*names, "lm_head.weight"], tensors["model.shared.weight"])
    assert converted(tmp_path / "copies", config, tensors | copies).read_bytes() == plain
    with pytest.raises(ConversionError, match=r"encoder\.embed_tokens.*differs"):
        converted(tmp_path / "other", config, tensors | {names[0]: copies[names[0]] + 1})


def test_a_checkpoint_without_the_bias_of_its_logits_has_none(tmp_path: Path) -> None:
    config, tensors = golden(BART)
    bias = tensors.pop("final_logits_bias")
    without, beside = converted(tmp_path, config, tensors), cases.FOLDER / BART
    convert(beside, tmp_path / "with.gguf", type="f32")
    with edgeformer.load(without, threads=1) as one, edgeformer.load(tmp_path / "with.gguf", threads=1) as other:
        np.testing.assert_allclose(one.logits([5, 6], [2, 7]) + bias, other.logits([5, 6], [2, 7]), atol=1e-5)


def test_spelling_to_sounds_takes_its_characters_from_the_configuration(tmp_path: Path) -> None:
    config, tensors = golden(BART)
    config |= {"grapheme_chars": "____abc", "phoneme_chars": "____xyzw", "pad_token_id": 0, "bos_token_id": 1}
    with edgeformer.load(converted(tmp_path, config, tensors), threads=1) as model:
        assert model.tokenize("cab") == [1, 6, 4, 5, 2]
        assert model.tokenize("c?_") == [1, 6, 3, 3, 2]
        assert model.detokenize([1, 4, 7, 2, 0]) == "xw"
    for characters in ("____aba", "__abcd"):
        with pytest.raises(ConversionError, match="names a character twice, or has no place"):
            converted(tmp_path, {**config, "grapheme_chars": characters}, tensors)
    with pytest.raises(InvalidInputError, match="translate"):
        edgeformer.load(converted(tmp_path / "none", golden(BART)[0], tensors), threads=1).translate("cab")
