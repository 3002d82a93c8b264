"""Models of float rows: what images and sounds of different size give, each alone, for torch pads neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from golden.cases import Case

from .common import save, transformers_model, write_expected


def patches(images: torch.Tensor, size: int) -> np.ndarray:
    """The pixels of every patch, [channel][row][column], row by row of patches."""
    return torch.nn.functional.unfold(images, size, stride=size)[0].T.numpy()


def make(folder: Path, case: Case, seed: int) -> float:
    """Write the folder; nothing here can nearly tie."""
    model, generator = transformers_model(case, seed), torch.Generator().manual_seed(seed)
    config, numbers = model.config, {}
    if case["source"] == "patches":
        shape = (1, config.num_channels, config.image_size, config.image_size)
        images = [torch.randn(shape, generator=generator) for _ in range(2)]
        results = [model(image) for image in images]
        samples = [patches(image, config.patch_size) for image in images]
        states = [model.vit(image).last_hidden_state[0] for image in images]
        numbers["classes"] = torch.cat([result.logits for result in results])
    else:
        length = 2 * config.max_source_positions  # of every sound: Whisper fills the rest with silence
        sounds = [torch.randn((1, config.num_mel_bins, length), generator=generator) for _ in range(2)]
        samples = [sound[0].T.numpy() for sound in sounds]
        states = [model(sound).last_hidden_state[0] for sound in sounds]
    numbers |= {"rows": np.concatenate(samples), "lengths": [len(s) for s in samples], "hidden": torch.cat(states)}
    save(model, folder, case)
    write_expected(folder, **numbers)
    return 1.0
