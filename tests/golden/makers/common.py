"""What all makers share: weights, token ids, greedy paths, and the files of a folder."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from golden.cases import Case

from . import mxfp4, ternary

GREEDY_TOKENS = 16
BOS = 1


def randomize(module: torch.nn.Module, seed: int) -> None:
    """Fill every parameter: scales of norms around 1, other vectors around 0, matrices so that values keep their size.

    A scale is a vector that the model starts with ones in, whatever its class is called. Tables of sinusoids, which
    are frozen, stay what they are.
    """
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(module.named_parameters()):
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.copy_(float((parameter == 1).all()) + 0.2 * noise)
        else:
            parameter.copy_(noise / math.sqrt(parameter.shape[-1]))


def transformers_model(case: Case, seed: int) -> torch.nn.Module:
    """A model of the case's class and configuration with random weights of the type that its file will hold."""
    kind = operator.attrgetter(case["class"])(transformers)
    config = kind.config_class(**case["config"], attn_implementation="eager")
    model = kind(config, **case.get("arguments", {})).eval()
    if case.get("untie"):  # a class that ties its head in spite of its configuration
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    randomize(model, seed)
    for end, factor in case.get("amplified", {}).items():  # so that limits and caps are reached
        for name, parameter in model.named_parameters():
            parameter.mul_(factor if name.endswith(end) else 1.0)
    if case.get("mxfp4"):
        model.mxfp4 = mxfp4.quantize(model, seed)
    if case.get("ternary"):
        ternary.quantize(model, case, seed)
    if hasattr(model, "final_logits_bias"):  # a buffer, yet of the checkpoint
        model.final_logits_bias.normal_(generator=torch.Generator().manual_seed(seed))
    for parameter in model.parameters():  # not buffers: rotary frequencies stay as they are
        parameter.data = parameter.data.to(getattr(torch, case.get("dtype", "float32"))).float()
    return model


def save(model: torch.nn.Module, folder: Path, case: Case) -> None:
    """The folder as its library writes it, or with a pickled state dict, or with the configuration of version 4."""
    model.to(getattr(torch, case.get("dtype", "float32")))
    if case.get("format") == "torch":
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    elif case.get("mxfp4"):
        mxfp4.save(model, model.mxfp4, folder)
    elif case.get("ternary"):
        ternary.save(model, folder, case)
    else:
        model.save_pretrained(folder)
    if case.get("version_4"):
        rewrite_as_version_4(folder / "config.json")


def rewrite_as_version_4(path: Path) -> None:
    """Say the rope parameters the way transformers 4 wrote them, which most published folders still do."""
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.46.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def relative_gap(logits: torch.Tensor) -> float:
    """How far the best logit of a row leads the second, as a share of the row's range."""
    best = torch.topk(logits, 2).values
    return float((best[0] - best[1]) / (logits.max() - logits.min()))


def greedy(step: Callable[[list[int]], torch.Tensor], ids: list[int]) -> tuple[list[int], float]:
    """Continue `ids` by the best token, whatever the end token says; also the smallest gap on the way."""
    continued, gap = list(ids), 1.0
    for _ in range(GREEDY_TOKENS):
        logits = step(continued)
        gap = min(gap, relative_gap(logits))
        continued.append(int(logits.argmax()))
    return continued[len(ids) :], gap


def draw_ids(rng: np.random.Generator, count: int, vocab_size: int) -> list[int]:
    """Token ids other than the first three, which are the special ones."""
    return [int(i) for i in rng.integers(3, vocab_size, count)]


def padded(sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences side by side, padded on the right with token 0, and a mask that is 1 where they are."""
    width = max(map(len, sequences))
    mask = [[1] * len(s) + [0] * (width - len(s)) for s in sequences]
    return torch.tensor([s + [0] * (width - len(s)) for s in sequences]), torch.tensor(mask)


def write_expected(folder: Path, **arrays: Any) -> None:
    np.savez_compressed(folder / "expected.npz", **{name: np.asarray(value) for name, value in arrays.items()})
