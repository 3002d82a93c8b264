"""BitNet's ternary matrices as its checkpoints have them, and transformers' own layers over them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from golden.cases import Case
from safetensors.torch import save_file
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, WeightQuant, pack_weights


def linears(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The layers that are ternary, by name."""
    return {name: module for name, module in sorted(model.named_modules())
            if isinstance(module, torch.nn.Linear) and name != "lm_head"}  # fmt: skip


def quantize(model: torch.nn.Module, case: Case, seed: int) -> None:
    """Make the layers ternary; the model keeps what a checkpoint holds, and a twin of transformers' own layers."""
    generator, settings = torch.Generator().manual_seed(seed), case["ternary"]
    twin, model.stored = copy.deepcopy(model), {}
    online = settings.get("quantization_mode") == "online"
    for name, linear in linears(model).items():
        ternary = torch.randint(-1, 2, linear.weight.shape, generator=generator).float()
        scale = (0.1 + 0.1 * torch.rand(1, generator=generator)).bfloat16().float()
        sizes = (linear.in_features, linear.out_features, False)
        if settings["linear_class"] == "bitlinear":
            layer = BitLinear(*sizes, dtype=torch.float32)
            layer.weight, layer.weight_scale = pack_weights(ternary.clone()), 64 * scale
            linear.weight.copy_(ternary / layer.weight_scale)
        else:
            layer = AutoBitLinear(*sizes, dtype=torch.float32, online_quant=online)
            layer.weight = torch.nn.Parameter(linear.weight.clone() if online else ternary)
            if not online:
                layer.weight_scale = scale
            linear.weight.copy_(WeightQuant.apply(linear.weight) if online else ternary * scale)
        twin.set_submodule(name, layer)
        if online:
            model.stored[f"{name}.weight"] = layer.weight.detach()
        else:
            model.stored |= {f"{name}.weight": pack_weights(ternary.clone()),
                             f"{name}.weight_scale": layer.weight_scale}  # fmt: skip
    model.rounding = twin.forward  # no submodule, whose tensors would be saved


def save(model: torch.nn.Module, folder: Path, case: Case) -> None:
    """The folder with the stored tensors in the place of floats."""
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitnet", **case["ternary"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    model.generation_config.save_pretrained(folder)
    floats = model.state_dict()
    if model.config.tie_word_embeddings:
        del floats["lm_head.weight"]
    save_file({**floats, **model.stored}, folder / "model.safetensors", metadata={"format": "pt"})
