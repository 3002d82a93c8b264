"""Encoders: hidden states of sentences of different length, run as one padded batch; mean and first rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from golden.cases import Case

from .common import draw_ids, padded, save, transformers_model, write_expected


def make(folder: Path, case: Case, seed: int) -> float:
    """Write the folder; nothing here can nearly tie."""
    model = transformers_model(case, seed)
    rng = np.random.default_rng(seed)
    sentences = [draw_ids(rng, n, model.config.vocab_size) for n in (5, 17, 1, 140)]
    ids, mask = padded(sentences)
    plain = model(ids, attention_mask=mask).last_hidden_state
    rows = [plain[i, : len(s)] for i, s in enumerate(sentences)]
    kept = [0, 1, 2]  # all rows of the short sentences; of the long one the last few, to keep the file small
    numbers = {
        "ids": np.concatenate(sentences), "lengths": [len(s) for s in sentences],
        "hidden": torch.cat([rows[i] for i in kept]), "long_hidden": rows[3][-4:],
        "mean": torch.stack([r.mean(0) for r in rows]), "first": torch.stack([r[0] for r in rows]),
    }  # fmt: skip
    if getattr(model.config, "type_vocab_size", 1) > 1:
        types = [[0] * (len(s) // 2) + [1] * (len(s) - len(s) // 2) for s in sentences]
        typed = model(ids, attention_mask=mask, token_type_ids=padded(types)[0]).last_hidden_state
        numbers["token_types"] = np.concatenate(types)
        numbers["typed_hidden"] = torch.cat([typed[i, : len(sentences[i])] for i in kept])
    if case.get("attentions"):
        numbers["attentions"] = torch.cat(model(torch.tensor(sentences[:1]), output_attentions=True).attentions)
    save(model, folder, case)
    if case.get("sentence_transformer"):
        write_sentence_transformer_files(folder, model.config.hidden_size)
    elif "dense" in case:
        numbers["sentence"] = write_dense_files(folder, case["dense"], numbers["first"], seed)
    write_expected(folder, **numbers)
    return 1.0


def write_sentence_transformer_files(folder: Path, width: int) -> None:
    """The small files by which sentence-transformers says: mean pooling, then unit length."""
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")]
    listed = [{"idx": int(i), "name": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
              for i, path, kind in modules]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(listed, indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
               "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}  # fmt: skip
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")


def write_dense_files(folder: Path, layers: list[dict[str, Any]], x: torch.Tensor, seed: int) -> torch.Tensor:
    """The files for the first row, then linear layers, then unit length; returns the vectors that they make of `x`."""
    generator = torch.Generator().manual_seed(seed + 1)
    kinds = ["", "1_Pooling", *[f"{i}_Dense" for i in range(2, 2 + len(layers))], f"{2 + len(layers)}_Normalize"]
    listed = [{"path": path, "type": f"sentence_transformers.models.{path[2:] or 'Transformer'}"} for path in kinds]
    (folder / "modules.json").write_text(json.dumps(listed, indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    pooling = {"embedding_dimension": x.shape[1], "pooling_mode": "cls", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")
    for path, layer in zip(kinds[2:], layers, strict=False):
        linear = torch.nn.Linear(x.shape[1], layer["outputs"], layer["bias"])
        weights = {}
        for name, parameter in sorted(linear.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
            weights[f"linear.{name}"] = parameter.detach().contiguous()
        activation = getattr(torch.nn, layer["activation"])()
        settings = {"in_features": x.shape[1], "out_features": layer["outputs"], "bias": layer["bias"],
                    "activation_function": f"{type(activation).__module__}.{layer['activation']}"}  # fmt: skip
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        safetensors.torch.save_file(weights, folder / path / "model.safetensors")
        x = activation(linear(x))
    return torch.nn.functional.normalize(x)
