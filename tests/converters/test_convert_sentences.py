"""The modules of sentence-transformers around a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from support.checkpoints import BERT, bert_tensors, random_tensors, write_folder, write_safetensors

MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def sentence_folder(tmp_path: Path, pooling: dict[str, Any], modules: list[dict[str, Any]] = MODULES) -> Path:
    folder = write_folder(tmp_path / "tiny", BERT, bert_tensors())
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, 1),
        ({"pooling_mode_cls_token": True}, 2),
        ({"pooling_mode": "cls"}, 2),
        ({"pooling_mode": "mean"}, 1),
        ({"pooling_mode": ["lasttoken"], "embedding_dimension": 32}, 3),
        ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}, 3),
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


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ({"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "pooling_mode_cls_token"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["mean", "cls"]}, "mean"),
        ({"pooling_mode": "mean", "word_embedding_dimension": 31}, "rows have 32 columns"),
    ],
)
def test_other_poolings_are_named(tmp_path: Path, pooling: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(sentence_folder(tmp_path, pooling), tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("Transformer", "Pooling", "LSTM"), "models.LSTM.: this module is not supported"),
        (("Transformer", "Normalize", "Pooling"), "not supported after Normalize"),
        (("Transformer", "Pooling", "Normalize", "Dense"), "not supported after Normalize"),
        (("Transformer", "Pooling", "Pooling"), "not supported after Pooling"),
    ],
)
def test_other_modules_and_orders_are_named(tmp_path: Path, kinds: tuple[str, ...], message: str) -> None:
    modules = [{"path": "1_Pooling", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    with pytest.raises(ConversionError, match=message):
        convert(sentence_folder(tmp_path, {"pooling_mode": "mean"}, modules), tmp_path / "out.gguf")


def test_the_tokenizers_length_counts_where_the_modules_have_none(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, {"pooling_mode": "mean"})
    for length, expected in ((7, 7), (1e30, 24), (100, 24)):
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
        convert(folder, tmp_path / "out.gguf")
        with GGUFFile(tmp_path / "out.gguf") as file:
            assert file.metadata["bert.context_length"] == expected
    (folder / "modules.json").unlink()  # a plain checkpoint goes by its positions
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 7}')
    convert(folder, tmp_path / "out.gguf")
    with GGUFFile(tmp_path / "out.gguf") as file:
        assert file.metadata["bert.context_length"] == 24


def test_vectors_that_are_to_be_cut_are_refused(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, {"pooling_mode": "mean"})
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 8}')
    with pytest.raises(ConversionError, match="truncate_dim = 8"):
        convert(folder, tmp_path / "out.gguf")


def dense_folder(tmp_path: Path, **changes: Any) -> tuple[Path, dict[str, np.ndarray]]:
    modules = [*MODULES[:2], {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    folder = sentence_folder(tmp_path, {"pooling_mode": "mean"}, modules)
    settings = {"in_features": 32, "out_features": 5, "bias": True, "activation_function": "torch.nn.modules.Tanh"}
    weights = random_tensors({"linear.weight": (5, 32), "linear.bias": (5,)})
    (folder / "2_Dense").mkdir(exist_ok=True)
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings | changes))
    write_safetensors(folder / "2_Dense" / "model.safetensors", weights)
    return folder, weights


def test_a_linear_layer_has_llama_cpps_names(tmp_path: Path) -> None:
    folder, weights = dense_folder(tmp_path)
    report = convert(folder, tmp_path / "out.gguf", type="f32")
    with GGUFFile(report.path) as file:
        assert np.array_equal(file.dequantize("dense_2.weight"), weights["linear.weight"])
        assert np.array_equal(file.dequantize("dense_2.bias"), weights["linear.bias"])
        keys = {key: file.metadata[f"bert.dense_2_{key}"] for key in ("feat_in", "feat_out", "activation")}
    assert keys == {"feat_in": 32, "feat_out": 5, "activation": "tanh"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_features": 31}, "the vectors before it have 32 columns"),
        ({"out_features": 6}, "asks for .*6, 32"),
        ({"bias": False}, "linear.bias"),
        ({"activation_function": "my.Swish"}, "my.Swish"),
        ({"use_residual": True}, "use_residual"),
        ({"module_input_name": "token_embeddings"}, "token_embeddings"),
        ({"trick": 1}, "trick"),
    ],
)
def test_a_linear_layer_that_is_another_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(dense_folder(tmp_path, **change)[0], tmp_path / "out.gguf")


def test_sentence_models_go_without_their_heads(tmp_path: Path) -> None:
    tensors = bert_tensors("bert.") | random_tensors({"classifier.weight": (3, 32), "classifier.bias": (3,)})
    folder = write_folder(tmp_path / "tiny", {**BERT, "architectures": ["BertForSequenceClassification"]}, tensors)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (folder / "modules.json").write_text(json.dumps(MODULES))
    report = convert(folder, tmp_path / "out.gguf")
    assert any("classifier.weight" in note for note in report.notes)
    with GGUFFile(report.path) as file:
        assert file.metadata["bert.pooling_type"] == 1
        assert not [name for name in file.tensors if name.startswith("cls")]
