"""Adapters as PEFT writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints import write_safetensors

# The keys that PEFT 0.17 writes of a plain adapter.
LORA: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "tiny",
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "up_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}

Factors = tuple[np.ndarray, np.ndarray]


def factors(shape: tuple[int, ...], rank: int, seed: int = 0) -> Factors:
    """Random [rank, inputs] and [outputs, rank] of a matrix of this shape."""
    generator = np.random.default_rng(seed)
    down, up = generator.normal(size=(rank, shape[1])), generator.normal(size=(shape[0], rank))
    return (down * shape[1] ** -0.5).astype(np.float32), (up * rank**-0.5).astype(np.float32)


def write_adapter(
    folder: Path,
    pairs: Mapping[str, Factors],
    changes: Mapping[str, Any],
    saved: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """A folder with the factors of modules, those of a table by a name that ends with ":embedding"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**LORA, **changes}))
    tensors = dict(saved or {})
    for module, (down, up) in pairs.items():
        name = module.removesuffix(":embedding")
        first, second = ("embedding_A", "embedding_B") if name != module else ("A.weight", "B.weight")
        tensors |= {f"{name}.lora_{first}": down, f"{name}.lora_{second}": up}
    named = {f"base_model.model.{name}": np.ascontiguousarray(array) for name, array in tensors.items()}
    write_safetensors(folder / "adapter_model.safetensors", named)
    return folder
