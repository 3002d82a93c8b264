"""Decoders beside Llama: what of their configurations runs, and which tensors of their checkpoints are taken."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from support.checkpoints import golden, write_folder


@pytest.mark.parametrize(("name", "change", "message"), [
    ("gpt2-tied", {"activation_function": "silu"}, "activation_function = 'silu'"),
    ("gpt2-tied", {"scale_attn_weights": 1}, "scale_attn_weights = 1: not of type bool"),
    ("gpt2-tied", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2-tied", {"n_head": 5}, "n_head = 5: does not divide n_embd = 32"),
    ("gpt2-tied", {"n_inner": 64}, r"c_fc\.weight.*asks for \(32, 64\)"),
    ("gpt2-tied", {"architectures": ["GPT2DoubleHeadsModel"]}, "GPT2DoubleHeadsModel"),
    ("qwen3-tied", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_window = None: layers have a w"),
    ("qwen3-tied", {"layer_types": ["full_attention"]}, "layer_types.*each of the 2 layers"),
    ("qwen3-tied", {"hidden_act": "gelu"}, "hidden_act"),
    ("qwen3-tied", {"rope_parameters": {"rope_type": "proportional"}}, "'proportional' is not supported"),
    ("qwen3-tied", {"head_dim": None}, r"q_proj\.weight.*asks for \(512, 32\)"),  # Qwen3's default is 128
    ("qwen3-tied", {"attention_bias": True}, r"q_proj\.bias"),
    ("qwen2-windows", {"use_sliding_window": False}, "sliding_window = 9: layers have a window"),
    ("qwen2-windows", {"sliding_window": None}, "sliding_window = None: layers have a window"),
    ("qwen2-windows", {"layer_types": ["full_attention"] * 2}, "layer_types.*each of the 3 layers"),
    ("qwen2-windows", {"layer_types": ["chunked_attention"] * 3}, "layer_types.*each of the 3 layers"),
    ("qwen2-tied", {"hidden_act": "gelu"}, "hidden_act"),
    ("qwen2-tied", {"qkv_bias": False}, "qkv_bias = False is not known"),
    ("granite-tied", {"hidden_act": "gelu"}, "hidden_act"),
    ("granite-tied", {"residual_multiplier": 0.0}, "residual_multiplier = 0.0"),
    ("granite-tied", {"attention_multiplier": -1.0}, "attention_multiplier = -1.0"),
    ("granite-tied", {"logits_scaling": 0.0}, "logits_scaling = 0.0"),
    ("granite-tied", {"attention_bias": True}, r"q_proj\.bias"),
    ("smollm3-tied", {"no_rope_layers": [1, 1]}, "no_rope_layers.*each of the 4 layers"),
    ("smollm3-tied", {"no_rope_layers": [1, 2, 1, 0]}, "no_rope_layers.*each of the 4 layers"),
    ("smollm3-tied", {"no_rope_layer_interval": 0}, "no_rope_layer_interval = 0"),
    ("smollm3-layers", {"use_sliding_window": False}, "sliding_window = 9: layers have a window"),
    ("stablelm-serial", {"rope_parameters": {"partial_rotary_factor": 1.25}}, "20 of 16 columns"),
    ("stablelm-serial", {"rope_parameters": {"partial_rotary_factor": 0.2}}, "3 of 16 columns"),
    ("stablelm-serial", {"use_parallel_residual": True}, r"post_attention_layernorm"),
    ("stablelm-serial", {"qk_layernorm": True}, r"q_layernorm\.norms\.0\.weight"),
    ("stablelm-serial", {"use_qkv_bias": False}, r"k_proj\.bias"),
    ("phi2-untied", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ("phi2-untied", {"qk_layernorm": True}, r"q_layernorm\.weight"),
    ("phi3-untied", {"rope_parameters": {"rope_type": "yarn"}}, "'yarn' is not supported; known are default, longrope"),
    ("phi3-untied", {"mlp_bias": True}, "mlp_bias = True: not supported"),
    ("phi3-untied", {"full_attn_mod": 2}, "full_attn_mod = 2: not supported"),
    ("phi3-untied", {"sliding_window": 0}, "sliding_window = 0"),
    ("phi3-longrope", {"partial_rotary_factor": 0.5}, "short_factor|long_factor"),
    ("olmo2-untied", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ("olmo2-untied", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "alpha": 1}}, "alpha = 1"),
    ("olmo2-untied", {"clip_qkv": 8.0}, "clip_qkv = 8.0 is not known"),
    ("olmo2-untied", {"num_key_value_heads": 4}, r"k_proj\.weight.*asks for \(32, 32\)"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


@pytest.mark.parametrize("change", [
    {"num_hidden_layers": 2**31 - 1},
    {"num_hidden_layers": 2**20, "layer_types": ["full_attention"] * 2},
    {"rope_parameters": {"rope_type": "x" * 5000}},
])  # fmt: skip
def test_lies_of_a_configuration_cost_neither_memory_nor_a_page_of_text(tmp_path: Path, change: dict[str, Any]) -> None:
    config, tensors = golden("qwen3-tied")
    folder = write_folder(tmp_path / "tiny", {**config, **change}, tensors)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError) as caught:
            convert(folder, tmp_path / "out.gguf")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 600


def test_gpt2_as_first_published_has_no_prefix_and_its_masks(tmp_path: Path) -> None:
    config, tensors = golden("gpt2-tied")
    old = {name.removeprefix("transformer."): array for name, array in tensors.items()}
    for layer in range(2):
        old[f"h.{layer}.attn.bias"] = np.tril(np.ones((1, 1, 256, 256), np.float32))
        old[f"h.{layer}.attn.masked_bias"] = np.array([-1e4], np.float32)
    config = {**config, "n_ctx": 256, "model_type": "gpt2"}
    files = [convert(write_folder(tmp_path / side / "tiny", config, some), tmp_path / f"{side}.gguf", type="f32").path
             for side, some in (("new", tensors), ("old", old))]  # fmt: skip
    assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()


@pytest.mark.parametrize(("name", "change", "windows"), [
    ("qwen2-windows", {}, (9, [False, True, True])),
    ("qwen2-windows", {"layer_types": None}, (9, [False, True, True])),  # as max_window_layers says
    ("qwen2-windows", {"layer_types": None, "max_window_layers": None}, (None, None)),  # Qwen2's default is 28
    ("qwen2-windows", {"layer_types": None, "use_sliding_window": False}, (None, None)),
    ("qwen2-windows", {"sliding_window": 256}, (None, None)),  # as long as the context
    ("qwen2-tied", {"sliding_window": 9}, (None, None)),
    ("smollm3-layers", {"layer_types": None}, (9, [True, False, False])),  # where nothing is rotated
    ("phi3-longrope", {}, (13, None)),
    ("qwen3-windows", {}, (7, [False, True])),
    ("qwen3-tied", {"use_sliding_window": True, "sliding_window": 9}, (None, None)),  # layer_types say full_attention
    ("phi3-longrope", {"sliding_window": 256}, (None, None)),
])  # fmt: skip
def test_windows_of_some_layers(
    tmp_path: Path, name: str, change: dict[str, Any], windows: tuple[int | None, list[bool] | None]
) -> None:
    config, tensors = golden(name)
    report = convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")
    with GGUFFile(report.path) as file:
        keys = [f"{report.architecture}.attention.sliding_window{end}" for end in ("", "_pattern")]
        assert tuple(file.metadata.get(key) for key in keys) == windows
    assert any("llama.cpp attends to all" in note for note in report.notes) == (windows[0] is not None)


@pytest.mark.parametrize(("change", "pattern"), [
    ({}, [False, True, True]),
    ({"no_rope_layers": None}, None),  # every fourth layer, as llama.cpp has it
    ({"no_rope_layers": None, "no_rope_layer_interval": 2, "layer_types": None}, [True, False, True]),
    ({"no_rope_layers": [1, 1, 1, 0, 1]}, None),  # of more layers than there are
])  # fmt: skip
def test_layers_without_rotation(tmp_path: Path, change: dict[str, Any], pattern: list[bool] | None) -> None:
    config, tensors = golden("smollm3-layers")
    report = convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")
    with GGUFFile(report.path) as file:
        assert file.metadata.get("smollm3.attention.rope_pattern") == pattern
    assert any("llama.cpp rotates" in note for note in report.notes) == (pattern is not None)


def test_a_tied_head_keeps_a_bias_of_its_own(tmp_path: Path) -> None:
    _, tensors = golden("phi2-norms")
    convert(cases.FOLDER / "phi2-norms", tmp_path / "out.gguf", type="f32")
    with GGUFFile(tmp_path / "out.gguf") as file:
        assert "output.weight" not in file.tensors
        np.testing.assert_array_equal(file.dequantize("output.bias").reshape(-1), tensors["lm_head.bias"])


def test_gpt2s_matrices_are_transposed(tmp_path: Path) -> None:
    _, tensors = golden("gpt2-tied")
    convert(cases.FOLDER / "gpt2-tied", tmp_path / "out.gguf", type="f32")
    with GGUFFile(tmp_path / "out.gguf") as file:
        stored = tensors["transformer.h.1.attn.c_attn.weight"]
        assert stored.shape == (32, 96)
        np.testing.assert_array_equal(file.dequantize("blk.1.attn_qkv.weight"), stored.T)
        assert file.metadata["gpt2.vocab_size"] == 80
        assert "output.weight" not in file.tensors
