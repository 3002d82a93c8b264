"""BitNet's checkpoints: packed, as ternary floats, as master weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from edgeformer.files.gguf.reader import GGUFFile
from golden import cases
from golden.cases import relative_error
from support.checkpoints import golden, write_folder

TERNARY = ("bitnet-packed", "bitnet-offline", "bitnet-online")


@pytest.mark.parametrize("name", TERNARY)
def test_inputs_in_eight_bits_a_row_give_what_transformers_layers_give(name: str, tmp_path: Path) -> None:
    """I8_ROW rounds them as `BitLinear` does, and its weights hold three numbers exactly."""
    numbers = cases.expected(name)
    overrides = {"token_embd.weight": "f32"} | ({"output.weight": "f32"} if name == "bitnet-offline" else {})
    path = convert(cases.FOLDER / name, tmp_path / "i8.gguf", type="i8_row", overrides=overrides).path
    with edgeformer.load(path, kv_type="f32", threads=1) as model:
        logits = model.logits(numbers["ids"].tolist())
    assert relative_error(logits, numbers["rounded_logits"]) < 1e-3
    assert relative_error(numbers["logits"], numbers["rounded_logits"]) > 5e-3


@pytest.mark.parametrize("type_name", ["tq1_0", "tq2_0"])
def test_ternary_types_hold_the_weights_exactly(type_name: str, tmp_path: Path) -> None:
    config, tensors = golden("bitnet-packed")
    config = {**config, "num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 256, "vocab_size": 8}
    generator, shapes = np.random.default_rng(0), {"q": 256, "k": 128, "v": 128, "o": 256}
    tensors = {"model.embed_tokens.weight": generator.normal(size=(8, 256)), "model.norm.weight": np.ones(256)}
    layer = "model.layers.0"
    for norm in ("input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm", "mlp.ffn_sub_norm"):
        tensors[f"{layer}.{norm}.weight"] = np.ones(256)
    tensors = {key: array.astype(np.float32) for key, array in tensors.items()}
    parts = {f"self_attn.{part}_proj": rows for part, rows in shapes.items()}
    for name, rows in (parts | {f"mlp.{part}_proj": 256 for part in ("gate", "up", "down")}).items():
        fields = generator.integers(0, 3, (4, rows // 4, 256))
        tensors[f"{layer}.{name}.weight"] = sum(fields[i] << 2 * i for i in range(4)).astype(np.uint8)
        tensors[f"{layer}.{name}.weight_scale"] = np.array([8.0], np.float32)
    folder = write_folder(tmp_path / "tiny", config, tensors)
    report = convert(folder, tmp_path / "t.gguf", type=type_name)
    ternary = [tensor for tensor in report.tensors if tensor.type == type_name]
    assert len(ternary) == 7 and all(tensor.error == 0 for tensor in ternary)
    with GGUFFile(report.path) as file:
        assert set(np.unique(file.dequantize("blk.0.attn_q.weight"))) == {-0.125, 0.0, 0.125}
        packed = tensors[f"{layer}.self_attn.q_proj.weight"]
        rows = np.concatenate([packed >> 2 * i & 3 for i in range(4)]).astype(np.float32) - 1
        np.testing.assert_array_equal(file.dequantize("blk.0.attn_q.weight"), rows / 8)


@pytest.mark.parametrize(("name", "change", "message"), [
    ("bitnet-packed", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ("bitnet-packed", {"quantization_config": {"quant_method": "gptq"}}, "quant_method = 'gptq'"),
    ("bitnet-packed", {"quantization_config": {"quant_method": "bitnet", "use_rms_norm": True}}, "use_rms_norm"),
    ("bitnet-packed", {"quantization_config": {"quant_method": "bitnet", "bits": 3}}, "bits = 3 is not known"),
    ("bitnet-packed", {"quantization_config": {"quant_method": "bitnet", "modules_to_not_convert": ["q_proj"]}},
     "only lm_head"),
    ("bitnet-packed", {"quantization_config": None}, r"q_proj\.weight.*has shape \(16, 64\)"),
    ("bitnet-silu", {"quantization_config": {"quant_method": "bitnet"}}, r"no tensor .*q_proj\.weight_scale"),
    ("bitnet-online", {"attention_bias": True}, "attention_bias"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scales_that_are_none_are_named(tmp_path: Path, scale: float) -> None:
    config, tensors = golden("bitnet-packed")
    name = "model.layers.1.mlp.up_proj.weight_scale"
    folder = write_folder(tmp_path / "tiny", config, {**tensors, name: np.array([scale], np.float32)})
    with pytest.raises(ConversionError, match=r"up_proj\.weight_scale.*a scale is above 0 and finite"):
        convert(folder, tmp_path / "out.gguf")


def test_ternary_floats_are_those_that_are_packed(tmp_path: Path) -> None:
    config, tensors = golden("bitnet-offline")
    floats = {key: np.concatenate([array >> 2 * i & 3 for i in range(4)]).astype(np.float32) - 1
              if array.dtype == np.uint8 else array for key, array in tensors.items()}  # fmt: skip
    files = [convert(write_folder(tmp_path / side / "tiny", config, some), tmp_path / f"{side}.gguf", type="f32").path
             for side, some in (("packed", tensors), ("floats", floats))]  # fmt: skip
    assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()
