"""Gemma 1 to 3 and EmbeddingGemma: what of their configurations runs, older spellings, and the text beside images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import golden, same_file, write_folder
from support.probes import llama_cpp
from support.small_models import MODELS

FULL = {"rope_type": "default", "rope_theta": 1000.0}


@pytest.mark.parametrize(("name", "change", "message"), [
    ("gemma-tied", {"hidden_act": "relu"}, "hidden_act = 'relu': not supported"),
    ("gemma-tied", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True: not supported"),
    ("gemma-tied", {"head_dim": None}, r"q_proj\.weight.*asks for \(512, 32\)"),  # Gemma's default is 256
    ("gemma-tied", {"attention_bias": True}, r"q_proj\.bias"),
    ("gemma2-alternating", {"hidden_activation": "silu"}, "hidden_activation = 'silu': not supported"),
    ("gemma2-alternating", {"attn_logit_softcapping": 0.0}, "attn_logit_softcapping = 0.0: a cap must be above 0"),
    ("gemma2-alternating", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0: must be above 0"),
    ("gemma2-alternating", {"sliding_window": 0}, "sliding_window = 0: not a positive number"),
    ("gemma2-alternating", {"layer_types": ["full_attention"]}, "layer_types"),
    ("gemma2-alternating", {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
    ("gemma3-alternating", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0: not supported"),
    ("gemma3-alternating", {"final_logit_softcapping": -1.0}, "final_logit_softcapping = -1.0: a cap must be above 0"),
    ("gemma3-alternating", {"rope_parameters": {"full_attention": {**FULL, "rope_type": "yarn"}}}, "'yarn'"),
    ("gemma3-alternating", {"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}}, "rope_type = 'linear'"),
    ("gemma3-alternating", {"rope_parameters": {"full_attention": FULL, "other": FULL}}, "other = .* is not known"),
    ("gemma3-alternating", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
    ("gemma3-alternating", {"architectures": ["Gemma3Wonder"]}, "Gemma3Wonder.*Gemma3ForCausalLM.*Gemma3TextModel"),
    ("gemma-embedding-alternating", {"use_bidirectional_attention": False}, "use_bidirectional_attention = False"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


def test_gemma_as_first_published_means_the_approximation_by_gelu(tmp_path: Path) -> None:
    config, tensors = golden("gemma-tied")
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "attention_bias")}
    old |= {"hidden_act": "gelu", "hidden_activation": None, "rope_theta": 10000.0, "rope_scaling": None}
    assert same_file(tmp_path, (config, tensors), (old, tensors))


def test_norms_are_stored_with_their_ones(tmp_path: Path) -> None:
    _, tensors = golden("gemma3-alternating")
    path = convert(cases.FOLDER / "gemma3-alternating", tmp_path / "out.gguf", type="f32").path
    with GGUFFile(path) as file:
        stored = file.dequantize("blk.1.attn_k_norm.weight")
    np.testing.assert_array_equal(stored, 1 + tensors["model.layers.1.self_attn.k_norm.weight"])


@pytest.mark.parametrize(("name", "count"), [("gemma2-alternating", 3), ("gemma3-alternating", 6)])
def test_the_usual_windows_need_no_key_and_others_have_one(tmp_path: Path, name: str, count: int) -> None:
    """llama.cpp's files say nothing of which layers have a window, and it reads the key where there is one."""
    config, tensors = golden(name)
    other = ["full_attention", *["sliding_attention"] * (count - 1)]
    for layer_types in (None, other):
        folder = write_folder(tmp_path / "tiny", {**config, "layer_types": layer_types}, tensors)
        path = convert(folder, tmp_path / "out.gguf", type="f32").path
        with GGUFFile(path) as file:
            found = file.metadata.get(f"{name.split('-')[0]}.attention.sliding_window_pattern")
        assert found is None if layer_types is None else list(found) == [False, *[True] * (count - 1)]


def test_gemma_3_in_the_spelling_of_version_4(tmp_path: Path) -> None:
    config, tensors = golden("gemma3-alternating")
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "layer_types")}
    old |= {"rope_theta": 1000.0, "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    old |= {"sliding_window_pattern": 6, "cache_implementation": "hybrid"}
    assert same_file(tmp_path, (config, tensors), (old, tensors))


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_text_of_a_model_of_images_and_text_is_taken(tmp_path: Path, prefix: str) -> None:
    config, tensors = golden("gemma3-alternating")
    inside = {name.replace("model.", prefix, 1): array for name, array in tensors.items()}
    inside["vision_tower.vision_model.post_layernorm.weight"] = np.ones(8, np.float32)
    inside["multi_modal_projector.mm_input_projection_weight"] = np.ones((8, 32), np.float32)
    both = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "vision_config": {"a": 1}}
    both |= {"mm_tokens_per_image": 256, "image_token_index": 7, "eos_token_id": [2, 5], "text_config": config}
    assert same_file(tmp_path, ({**config, "eos_token_id": [2, 5]}, tensors), (both, inside))
    report = convert(write_folder(tmp_path / "tiny", both, inside), tmp_path / "out.gguf")
    assert "2 tensors of images are left out: the file has the text's part of the model" in report.notes


@pytest.mark.parametrize(("name", "layers"), [("gemma2", 46), ("gemma3", 62)])
def test_the_largest_scale_scores_by_a_heads_share_of_the_columns(tmp_path: Path, name: str, layers: int) -> None:
    """No file of llama.cpp says so; it goes by the number of the layers."""
    small, logits = MODELS[name](), []
    blocks = {key: shape for key, shape in small.shapes.items() if key.startswith("blk.0.")}
    for layer in range(layers):
        for key, shape in blocks.items():
            small = small.with_shape(key.replace("blk.0.", f"blk.{layer}."), shape)
    width, heads, columns = (
        small.metadata[f"{name}.{key}"] for key in ("embedding_length", "attention.head_count", "attention.key_length")
    )
    assert width // heads != columns
    for scale in (None, (width // heads) ** -0.5, columns**-0.5):
        changed = small.with_metadata(**{f"{name}.block_count": layers, f"{name}.attention.scale": scale})
        with edgeformer.load(changed.write(tmp_path / "model.gguf"), threads=1, kv_type="f32") as model:
            logits.append(model.logits([3, 9, 4, 17, 30]))
    assert cases.relative_error(logits[0], logits[1]) < 1e-5 < 1e-4 < cases.relative_error(logits[0], logits[2])


def test_without_caps_scores_and_logits_stay(tmp_path: Path) -> None:
    """Caps far above every number change next to nothing, and without them the results are theirs."""
    config, tensors = golden("gemma2-alternating")
    ids, logits = cases.expected("gemma2-alternating")["ids"].tolist(), []
    for caps in (None, 1e4):
        settings = {**config, "attn_logit_softcapping": caps, "final_logit_softcapping": caps}
        folder = write_folder(tmp_path / "tiny", settings, tensors)
        path = convert(folder, tmp_path / f"{caps}.gguf", type="f32").path
        with edgeformer.load(path, kv_type="f32") as model:
            logits.append(model.logits(ids))
    assert 0 < cases.relative_error(logits[0], logits[1]) < 1e-5


@pytest.mark.parametrize("activation", ["Identity", "Tanh"])
def test_linear_layers_behind_the_pooling_of_embedding_gemma(tmp_path: Path, activation: str) -> None:
    """Two without activations, as it was published with, are llama.cpp's too."""
    config, tensors = golden("gemma-embedding-alternating")
    folder, rng = write_folder(tmp_path / "tiny", config, tensors), np.random.default_rng(0)
    matrices = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((48, 32), (32, 48))]
    kinds = ["models.Transformer", "models.Pooling", "models.Dense", "models.Dense", "models.Normalize"]
    modules = [{"type": kind, "path": f"{i}_{kind[7:]}" if i else ""} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    for number, matrix in enumerate(matrices, 2):
        settings = {"in_features": matrix.shape[1], "out_features": matrix.shape[0], "bias": False}
        settings |= {"activation_function": f"torch.nn.modules.linear.{activation}"}
        write_folder(folder / f"{number}_Dense", settings, {"linear.weight": matrix})
    report = convert(folder, tmp_path / "out.gguf", type="f32")
    numbers = cases.expected("gemma-embedding-alternating")
    sentence = cases.split(numbers["ids"], numbers["lengths"])[0]
    wanted = numbers["hidden"][: len(sentence)].mean(0)
    for matrix in matrices:
        wanted = matrix @ wanted if activation == "Identity" else np.tanh(matrix @ wanted)
    with edgeformer.load(report.path) as model:
        vector = model.session.hidden([sentence], pooled=True)
    assert cases.relative_error(vector, wanted / np.linalg.norm(wanted)) < 1e-5
    assert any("llama.cpp refuses" in note for note in report.notes) == (activation == "Tanh")
    if activation == "Identity":  # llama.cpp, asked for no pooling, puts every row through them
        rows = np.array(llama_cpp("rows", {"path": report.path, "ids": sentence}), np.float32)
        assert cases.relative_error(rows.mean(0), wanted) < 2e-3
