"""Models with a head: classes of sequences or of tokens, spans, masked words, of sequences of different length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.cases import Case

from .bare import MODELS, Bare, bare_model
from .common import draw_ids, padded, save, transformers_model, write_expected


def make(folder: Path, case: Case, seed: int) -> float:
    """Write the folder; nothing here can nearly tie."""
    model = bare_model(case, seed) if case["class"] in MODELS else transformers_model(case, seed)
    model.config.pad_token_id = case["config"].get("pad_token_id", 0)
    rng = np.random.default_rng(seed)
    sequences = [draw_ids(rng, n, model.config.vocab_size) for n in (5, 17, 1, 40)]
    if getattr(model.config, "is_encoder_decoder", False):  # its class is told at the end token
        sequences = [[*ids[:-1], model.config.eos_token_id] for ids in sequences]
    ids, mask = padded(sequences)
    numbers = {"ids": np.concatenate(sequences), "lengths": [len(s) for s in sequences]}
    numbers[case["output"]] = results(model, case, ids, mask, sequences)
    if getattr(model.config, "type_vocab_size", 1) > 1:
        types = [[0] * (len(s) // 2) + [1] * (len(s) - len(s) // 2) for s in sequences]
        numbers["token_types"] = np.concatenate(types)
        numbers["typed"] = results(model, case, ids, mask, sequences, token_type_ids=padded(types)[0])
    save(model, folder, case) if not isinstance(model, Bare) else model.write(folder, case)
    write_expected(folder, **numbers)
    return 1.0


def results(
    model: torch.nn.Module, case: Case, ids: torch.Tensor, mask: torch.Tensor, sequences: list[list[int]], **more: Any
) -> torch.Tensor:
    """The head's numbers: a row a sequence, or the rows of all sequences one after the other."""
    given = model(ids, attention_mask=mask, **more)
    if case["output"] == "classes":
        return given.logits
    spans = case["output"] == "spans"
    rows = torch.stack([given.start_logits, given.end_logits], dim=-1) if spans else given.logits
    return torch.cat([rows[i, : len(s)] for i, s in enumerate(sequences)])
