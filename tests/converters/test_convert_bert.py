"""BERT checkpoints and the modules of sentence-transformers around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from support.checkpoints import random_tensors, write_folder

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "vocab_size": 30,
    "position_embedding_type": "absolute",
}
MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def bert_tensors(prefix: str = "") -> dict[str, np.ndarray]:
    pairs = {"embeddings.LayerNorm": (32,), "pooler.dense": (32, 32)}
    for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        pairs[f"encoder.layer.0.{name}"] = (32, 32)
    pairs |= {"encoder.layer.0.attention.output.LayerNorm": (32,), "encoder.layer.0.output.LayerNorm": (32,)}
    pairs |= {"encoder.layer.0.intermediate.dense": (64, 32), "encoder.layer.0.output.dense": (32, 64)}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (30, 32),
        "embeddings.position_embeddings.weight": (24, 32),
        "embeddings.token_type_embeddings.weight": (2, 32),
        "embeddings.position_ids": (1, 24),
    }
    for name, shape in pairs.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return random_tensors({prefix + name: shape for name, shape in shapes.items()})


def sentence_folder(tmp_path: Path, pooling: dict[str, Any], modules: list[dict[str, Any]] = MODULES) -> Path:
    folder = write_folder(tmp_path / "tiny", BERT, bert_tensors())
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


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
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, 1),
        ({"pooling_mode_cls_token": True}, 2),
        ({"pooling_mode": "cls"}, 2),
        ({"pooling_mode": "mean"}, 1),
    ],
)
def test_pooling_and_normalization(tmp_path: Path, pooling: dict[str, Any], expected: int) -> None:
    report = convert(sentence_folder(tmp_path, pooling), tmp_path / "out.gguf")
    with GGUFFile(report.path) as file:
        assert file.metadata["bert.pooling_type"] == expected
        assert file.metadata["bert.normalize_embeddings"] is True
        assert file.metadata["bert.attention.causal"] is False
        assert file.metadata["tokenizer.ggml.token_type_count"] == 2
    convert(sentence_folder(tmp_path, pooling, MODULES[:2]), tmp_path / "out.gguf")
    with GGUFFile(tmp_path / "out.gguf") as file:
        assert file.metadata["bert.normalize_embeddings"] is False


@pytest.mark.parametrize("change", [{"include_prompt": False}, {"trick": True}])
def test_a_pooling_that_is_not_done_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": True, **change}
    with pytest.raises(ConversionError, match=f"1_Pooling.config.json: {next(iter(change))}"):
        convert(sentence_folder(tmp_path, pooling), tmp_path / "out.gguf")


def test_max_seq_length_cuts_the_positions(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, {"pooling_mode_mean_tokens": True})
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 10, "do_lower_case": false}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    report = convert(folder, tmp_path / "out.gguf")
    with GGUFFile(report.path) as file:
        table = file.dequantize("position_embd.weight")
        assert file.metadata["bert.context_length"] == 10
        assert json.loads(str(file.metadata["general.prompts.json"])) == {"prompts": {"query": "query: "}}
    assert np.array_equal(table, bert_tensors()["embeddings.position_embeddings.weight"][:10])
    assert any("positions 10 to 23" in note for note in report.notes)


def test_lower_case_needs_a_tokenizer_that_lowers(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, {"pooling_mode_mean_tokens": True})
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    convert(folder, tmp_path / "out.gguf")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(ConversionError, match="do_lower_case = True"):
        convert(folder, tmp_path / "out.gguf")


def test_other_modules_and_poolings_are_named(tmp_path: Path) -> None:
    mean = {"pooling_mode_mean_tokens": True}
    dense = [*MODULES[:2], {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    for folder, message in (
        (sentence_folder(tmp_path / "a", mean, dense), "models.Dense"),
        (sentence_folder(tmp_path / "b", {"pooling_mode_max_tokens": True}), "pooling_mode_max_tokens"),
        (sentence_folder(tmp_path / "c", {**mean, "pooling_mode_cls_token": True}), "pooling_mode_cls_token"),
    ):
        with pytest.raises(ConversionError, match=message):
            convert(folder, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "silu"}, "hidden_act = 'silu'"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder"),
        ({"num_attention_heads": 5}, "num_attention_heads = 5"),
        ({"architectures": ["BertForSequenceClassification"]}, "BertForSequenceClassification"),
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
