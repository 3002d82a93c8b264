"""Llama checkpoints: names, the rotary order of the rows, biases, windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.converters.architectures.llama_rows import pair_neighbours
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from support.checkpoints import LLAMA, llama_tensors, write_folder


def converted(tmp_path: Path, bias: bool = False, **changes: Any) -> GGUFFile:
    config = {**LLAMA, **changes}
    convert(write_folder(tmp_path / "tiny", config, llama_tensors(config, bias)), tmp_path / "out.gguf", type="f32")
    return GGUFFile(tmp_path / "out.gguf")


def test_metadata(tmp_path: Path) -> None:
    with converted(tmp_path, rope_theta=50000.0) as file:
        keys = {key[6:]: value for key, value in file.metadata.items() if key.startswith("llama.")}
    assert keys.pop("attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert keys == {
        "context_length": 32,
        "embedding_length": 64,
        "block_count": 2,
        "feed_forward_length": 96,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 16,
        "attention.value_length": 16,
        "rope.dimension_count": 16,
        "rope.freq_base": 50000.0,
        "vocab_size": 40,
    }


def test_every_tensor_comes_from_the_one_of_its_name(tmp_path: Path) -> None:
    names = {
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "output": "lm_head",
        "blk.1.attn_norm": "model.layers.1.input_layernorm",
        "blk.1.attn_v": "model.layers.1.self_attn.v_proj",
        "blk.1.attn_output": "model.layers.1.self_attn.o_proj",
        "blk.1.ffn_norm": "model.layers.1.post_attention_layernorm",
        "blk.1.ffn_gate": "model.layers.1.mlp.gate_proj",
        "blk.1.ffn_up": "model.layers.1.mlp.up_proj",
        "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
    }
    source = llama_tensors(LLAMA)
    with converted(tmp_path) as file:
        for target, name in names.items():
            assert np.array_equal(file.dequantize(f"{target}.weight"), source[f"{name}.weight"])
        assert len(file.tensors) == len(source)


def rotated_halves(vector: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Hugging Face's rotation of one head: column i with column i + d/2."""
    half = len(vector) // 2
    a, b = vector[:half], vector[half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)])


def rotated_neighbours(vector: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """llama.cpp's rotation of one head: column 2i with column 2i + 1."""
    a, b = vector[0::2], vector[1::2]
    pairs = [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)]
    return np.stack(pairs, axis=1).reshape(-1)


def test_reordered_rows_give_the_same_attention_scores() -> None:
    rng = np.random.default_rng(3)
    weights = {part: rng.standard_normal((2 * 8, 12)).astype(np.float32) for part in "qk"}
    x, y = rng.standard_normal((2, 12))
    angles = rng.uniform(0, 6, (2, 4))
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)
        query, key = weights["q"][rows] @ x, weights["k"][rows] @ y
        expected = rotated_halves(query, angles[0]) @ rotated_halves(key, angles[1])
        query, key = pair_neighbours(weights["q"], 2)[rows] @ x, pair_neighbours(weights["k"], 2)[rows] @ y
        assert rotated_neighbours(query, angles[0]) @ rotated_neighbours(key, angles[1]) == pytest.approx(expected)


def test_query_and_key_are_reordered_by_their_own_heads_with_their_biases(tmp_path: Path) -> None:
    config = {**LLAMA, "attention_bias": True}
    source = llama_tensors(config, bias=True)
    with converted(tmp_path, bias=True, attention_bias=True) as file:
        for part, heads in (("q", 4), ("k", 2)):
            for kind in ("weight", "bias"):
                array = source[f"model.layers.0.self_attn.{part}_proj.{kind}"]
                by_head = array.reshape(heads, 16, -1)
                expected = np.stack([by_head[:, :8], by_head[:, 8:]], axis=2).reshape(array.shape)
                assert np.array_equal(file.dequantize(f"blk.0.attn_{part}.{kind}"), expected)
        assert "blk.1.attn_output.bias" in file.tensors


def test_tied_embeddings_have_no_output_matrix(tmp_path: Path) -> None:
    with converted(tmp_path, tie_word_embeddings=True) as file:
        assert "output.weight" not in file.tensors


def test_a_tied_matrix_that_differs_is_kept_with_a_note(tmp_path: Path) -> None:
    """As transformers 5 does; one that is the same is stored once."""
    config, tensors = {**LLAMA, "tie_word_embeddings": True}, llama_tensors(LLAMA)
    report = convert(write_folder(tmp_path / "tiny", config, tensors), tmp_path / "out.gguf", type="f32")
    assert any("lm_head.weight differs" in note for note in report.notes)
    with GGUFFile(report.path) as file:
        assert np.array_equal(file.dequantize("output.weight"), tensors["lm_head.weight"])
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    report = convert(write_folder(tmp_path / "tiny", config, tensors), tmp_path / "out.gguf", type="f32")
    assert report.notes == ["no vocabulary: the model takes token ids only"]
    with GGUFFile(report.path) as file:
        assert "output.weight" not in file.tensors


@pytest.mark.parametrize(
    ("change", "window"),
    [
        ({}, 4096),  # MistralConfig's default
        ({"sliding_window": None}, None),
        ({"sliding_window": 16}, 16),
        ({"sliding_window": 8192}, None),  # as long as the context: without effect
    ],
)
def test_the_window_of_mistral(tmp_path: Path, change: dict[str, Any], window: int | None) -> None:
    config = {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"],
              "max_position_embeddings": 8192, **change}  # fmt: skip
    report = convert(write_folder(tmp_path / "tiny", config, llama_tensors(LLAMA)), tmp_path / "out.gguf")
    with GGUFFile(report.path) as file:
        assert file.metadata.get("llama.attention.sliding_window") == window
    assert any("llama.cpp" in note for note in report.notes) == (window is not None)


def test_a_window_as_long_as_the_context_is_without_effect(tmp_path: Path) -> None:
    """Some Llamas have a number there; torch and llama.cpp take no notice."""
    folder = write_folder(tmp_path / "tiny", {**LLAMA, "sliding_window": 32}, llama_tensors(LLAMA))
    with GGUFFile(convert(folder, tmp_path / "out.gguf").path) as file:
        assert "llama.attention.sliding_window" not in file.metadata


def test_swish_is_another_name_of_silu(tmp_path: Path) -> None:
    for name in ("silu", "swish"):
        converted(tmp_path / name, hidden_act=name).close()
    assert (tmp_path / "silu" / "out.gguf").read_bytes() == (tmp_path / "swish" / "out.gguf").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"sliding_window": 31}, "sliding_window = 31"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"attention_bias": True}, r"q_proj\.bias"),
        ({"attention_bias": 1}, "attention_bias = 1"),
        ({"head_dim": 15}, "heads of 15 columns"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_cannot_run_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**LLAMA, **change}, llama_tensors(LLAMA)), tmp_path / "out.gguf")
