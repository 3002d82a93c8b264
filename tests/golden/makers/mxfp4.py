"""Experts of gpt-oss in MXFP4, as its checkpoints have them: blocks of nibbles and their exponents."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

EXPERTS = ("experts.gate_up_proj", "experts.down_proj")


def quantize(model: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Give the experts random weights of MXFP4; returns the blocks and scales of a checkpoint."""
    generator, stored = torch.Generator().manual_seed(seed), {}
    for name, parameter in sorted(model.named_parameters()):
        if name.endswith(EXPERTS):
            count, inputs, outputs = parameter.shape
            shape = (count, outputs, inputs // 32)
            blocks = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
            scales = torch.randint(123, 126, shape, generator=generator, dtype=torch.uint8)
            parameter.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
            stored |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    return stored


def save(model: torch.nn.Module, stored: dict[str, torch.Tensor], folder: Path) -> None:
    """The folder with these tensors in the place of the experts' floats."""
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    model.generation_config.save_pretrained(folder)
    floats = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(EXPERTS)}
    save_file({**floats, **stored}, folder / "model.safetensors", metadata={"format": "pt"})
