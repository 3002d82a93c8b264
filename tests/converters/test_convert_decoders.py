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
    ("gpt2-tied", {"activation_function": "relu"}, "activation_function = 'relu'"),
    ("gpt2-tied", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2-tied", {"scale_attn_weights": False}, "scale_attn_weights"),
    ("gpt2-tied", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2-tied", {"n_head": 5}, "n_head = 5: does not divide n_embd = 32"),
    ("gpt2-tied", {"n_inner": 64}, r"c_fc\.weight.*asks for \(32, 64\)"),
    ("gpt2-tied", {"architectures": ["GPT2DoubleHeadsModel"]}, "GPT2DoubleHeadsModel"),
    ("qwen3-tied", {"use_sliding_window": True}, "use_sliding_window"),
    ("qwen3-tied", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
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


def test_gpt2s_matrices_are_transposed(tmp_path: Path) -> None:
    _, tensors = golden("gpt2-tied")
    convert(cases.FOLDER / "gpt2-tied", tmp_path / "out.gguf", type="f32")
    with GGUFFile(tmp_path / "out.gguf") as file:
        stored = tensors["transformer.h.1.attn.c_attn.weight"]
        assert stored.shape == (32, 96)
        np.testing.assert_array_equal(file.dequantize("blk.1.attn_qkv.weight"), stored.T)
        assert file.metadata["gpt2.vocab_size"] == 80
        assert "output.weight" not in file.tensors
