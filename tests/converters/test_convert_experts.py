"""Decoders with routed experts: what of their configurations runs, and in which forms their checkpoints come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from support.checkpoints import golden, write_folder


@pytest.mark.parametrize(("name", "change", "message"), [
    ("qwen3moe-tied", {"num_local_experts": None}, "num_experts is missing"),
    ("qwen3moe-tied", {"num_experts": 5}, "num_local_experts = 4: is another name of num_experts = 5"),
    ("qwen3moe-tied", {"num_experts_per_tok": 5}, "num_experts_per_tok = 5: is more than the 4 experts"),
    ("qwen3moe-tied", {"moe_intermediate_size": 16}, r"gate_proj\.weight.*asks for \(16, 32\)"),
    ("qwen3moe-tied", {"decoder_sparse_step": 3}, "no layer has experts"),
    ("qwen3moe-tied", {"mlp_only_layers": [0, 1]}, "no layer has experts"),
    ("qwen3moe-tied", {"mlp_only_layers": [1]}, r"layers\.1\.mlp\.gate_proj\.weight"),
    ("qwen3moe-tied", {"use_sliding_window": True}, "use_sliding_window"),
    ("qwen3moe-tied", {"num_hidden_layers": 2**31 - 1}, r"model\.layers\.2\."),
    ("qwen3moe-tied", {"routed_scaling_factor": 2.5}, "routed_scaling_factor = 2.5 is not known"),
    ("qwen2moe-shared", {"shared_expert_intermediate_size": 64}, r"shared_expert\.gate_proj.*asks for \(64, 32\)"),
    ("qwen2moe-shared", {"hidden_act": "gelu"}, "hidden_act"),
    ("qwen2moe-shared", {"qkv_bias": False}, r"q_proj\.bias"),
])  # fmt: skip
def test_what_cannot_run_is_named(tmp_path: Path, name: str, change: dict[str, Any], message: str) -> None:
    config, tensors = golden(name)
    with pytest.raises(ConversionError, match=message):
        convert(write_folder(tmp_path / "tiny", {**config, **change}, tensors), tmp_path / "out.gguf")


@pytest.mark.parametrize("name", ["qwen3moe-dense-layer", "qwen2moe-shared"])
def test_experts_stacked_in_the_checkpoint_give_the_same_file(tmp_path: Path, name: str) -> None:
    config, tensors = golden(name)
    stacked = {key: array for key, array in tensors.items() if ".experts." not in key}
    for layer in range(config["num_hidden_layers"]):
        mixture = f"model.layers.{layer}.mlp.experts"
        if f"{mixture}.0.up_proj.weight" in tensors:
            experts = [
                {part: tensors[f"{mixture}.{i}.{part}_proj.weight"] for part in ("gate", "up", "down")}
                for i in range(4)
            ]
            stacked[f"{mixture}.gate_up_proj"] = np.stack([np.vstack([e["gate"], e["up"]]) for e in experts])
            stacked[f"{mixture}.down_proj"] = np.stack([expert["down"] for expert in experts])
    files = [convert(write_folder(tmp_path / side / "tiny", config, some), tmp_path / f"{side}.gguf", type="f32").path
             for side, some in (("apart", tensors), ("stacked", stacked))]  # fmt: skip
    assert Path(files[0]).read_bytes() == Path(files[1]).read_bytes()
