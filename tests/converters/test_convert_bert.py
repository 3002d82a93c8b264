"""BERT checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from support.checkpoints import BERT, bert_tensors, write_folder


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_every_tensor_comes_from_the_one_of_its_name(tmp_path: Path, prefix: str) -> None:
    source = bert_tensors(prefix)
    report = convert(write_folder(tmp_path / "tiny", BERT, source), tmp_path / "out.gguf", type="f32")
    names = {
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "token_types.weight": "embeddings.token_type_embeddings.weight",
        "position_embd.weight": "embeddings.position_embeddings.weight",
        "token_embd_norm.bias": "embeddings.LayerNorm.bias",
        "blk.0.attn_q.weight": "encoder.layer.0.attention.self.query.weight",
        "blk.0.attn_v.bias": "encoder.layer.0.attention.self.value.bias",
        "blk.0.attn_output.weight": "encoder.layer.0.attention.output.dense.weight",
        "blk.0.attn_output_norm.weight": "encoder.layer.0.attention.output.LayerNorm.weight",
        "blk.0.ffn_up.weight": "encoder.layer.0.intermediate.dense.weight",
        "blk.0.ffn_down.weight": "encoder.layer.0.output.dense.weight",
        "blk.0.layer_output_norm.bias": "encoder.layer.0.output.LayerNorm.bias",
    }
    with GGUFFile(report.path) as file:
        for target, name in names.items():
            assert np.array_equal(file.dequantize(target), source[prefix + name])
    assert any("pooler.dense.weight" in note for note in report.notes)
    assert any("modules.json" in note for note in report.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "silu"}, "hidden_act = 'silu'"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 5}, "num_attention_heads = 5"),
        ({"architectures": ["BertForMultipleChoice"]}, "BertForMultipleChoice"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps = 'tiny'"),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**BERT, **change}, bert_tensors()), tmp_path / "out.gguf")


@pytest.mark.parametrize(("name", "expected"), [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("relu", "relu")])
def test_activations(tmp_path: Path, name: str, expected: str) -> None:
    folder = write_folder(tmp_path / "tiny", {**BERT, "hidden_act": name}, bert_tensors())
    with GGUFFile(convert(folder, tmp_path / "out.gguf").path) as file:
        assert file.metadata["bert.activation"] == expected


def test_a_file_without_a_vocabulary_says_how_many_tokens_there_are(tmp_path: Path) -> None:
    """llama.cpp takes the number from the tokens, or from this key."""
    convert(write_folder(tmp_path / "tiny", BERT, bert_tensors()), tmp_path / "out.gguf", type="f32")
    with GGUFFile(tmp_path / "out.gguf") as file:
        assert file.metadata["bert.vocab_size"] == 30
