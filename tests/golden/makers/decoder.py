"""Decoders: logits of a short prompt, the last row of one longer than an attention span, hidden states, greedy ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from golden.cases import Case

from .bare import MODELS, Bare, bare_model
from .common import draw_ids, greedy, save, transformers_model, write_expected


def make(folder: Path, case: Case, seed: int) -> float:
    """Write the folder; returns the smallest gap on the greedy path."""
    model = bare_model(case, seed) if case["class"] in MODELS else transformers_model(case, seed)
    rng, vocab_size = np.random.default_rng(seed), model.config.vocab_size
    short, long = draw_ids(rng, 21, vocab_size), draw_ids(rng, 150, vocab_size)

    def run(ids: list[int]) -> torch.Tensor:
        return model(torch.tensor([ids])).logits[0]

    continued, gap = greedy(lambda ids: run(ids)[-1], short)
    hidden = model.base_model(torch.tensor([short])).last_hidden_state[0]
    rounded = {"rounded_logits": model.rounding(torch.tensor([short])).logits[0]} if case.get("ternary") else {}
    write_expected(folder, ids=short, logits=run(short), hidden=hidden, long_ids=long, long_last_logits=run(long)[-1],
                   greedy_ids=continued, **rounded)  # fmt: skip
    save(model, folder, case) if not isinstance(model, Bare) else model.write(folder, case)
    return gap
