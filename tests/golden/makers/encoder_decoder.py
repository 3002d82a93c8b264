"""Encoder-decoders: teacher-forced logits over sources of different length in one padded batch, and greedy ids."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.cases import Case

from .common import BOS, draw_ids, greedy, padded, randomize, save, transformers_model, write_expected


def make(folder: Path, case: Case, seed: int) -> float:
    """Write the folder; returns the smallest gap on the greedy paths."""
    model = translator(case, seed) if case["class"] == "torch.nn.Transformer" else transformers_model(case, seed)
    config = case["config"]
    start = config.get("decoder_start_token_id", config.get("bos_token_id", BOS))
    source_size = config.get("src_vocab_size", config.get("vocab_size"))
    target_size = config.get("tgt_vocab_size", config.get("decoder_vocab_size", source_size))
    rng = np.random.default_rng(seed)
    sources = [draw_ids(rng, n, source_size) for n in (4, 11, 1, 135)]
    targets = [[start, *draw_ids(rng, n - 1, target_size)] for n in (9, 3, 6, 14)]
    logits = run_padded(model, sources, targets)
    continued, gap = [], 1.0
    for source in sources:
        ids, source_gap = greedy(lambda t, s=source: run_padded(model, [s], [t])[0][-1], [start])
        continued.append(ids)
        gap = min(gap, source_gap)
    if isinstance(model, Translator):
        torch.save(model.state_dict(), folder / "model.pt")
        description = {"architectures": ["torch.nn.Transformer"], "model_type": "transformer", **config}
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
    else:
        save(model, folder, case)
    write_expected(folder, source_ids=np.concatenate(sources), source_lengths=[len(s) for s in sources],
                   target_ids=np.concatenate(targets), target_lengths=[len(t) for t in targets],
                   logits=torch.cat(logits), greedy_ids=continued)  # fmt: skip
    return gap


def run_padded(model: torch.nn.Module, sources: list[list[int]], targets: list[list[int]]) -> list[torch.Tensor]:
    """Logits of every target row, from one batch padded on the right and masked."""
    source, mask = padded(sources)
    target, _ = padded(targets)
    logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits
    return [logits[i, : len(t)] for i, t in enumerate(targets)]


# -- torch.nn.Transformer, which has no configuration and no embeddings of its own ------------------------------------


def sinusoidal_table(length: int, width: int) -> torch.Tensor:
    """sin and cos of the same angle side by side, as in "Attention Is All You Need", section 3.5."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position * torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    table = torch.zeros(length, width, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = torch.sin(angle), torch.cos(angle)
    return table.float()


class Logits:
    """What a model of transformers gives back."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


class Translator(torch.nn.Module):
    """`torch.nn.Transformer` between embeddings and a generator, as its users write it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["d_model"]
        self.scale = math.sqrt(width) if config["scale_embedding"] else 1.0
        self.src_embed = torch.nn.Embedding(config["src_vocab_size"], width)
        self.tgt_embed = torch.nn.Embedding(config["tgt_vocab_size"], width)
        self.generator = torch.nn.Linear(width, config["tgt_vocab_size"], bias=config["bias"])
        self.learned = config["positional_encoding"]["type"] == "learned"
        if self.learned:
            self.src_pos_embed = torch.nn.Embedding(config["max_length"], width)
            self.tgt_pos_embed = torch.nn.Embedding(config["max_length"], width)
        self.table = sinusoidal_table(config["max_length"], width)
        names = ("d_model", "nhead", "num_encoder_layers", "num_decoder_layers", "dim_feedforward", "activation",
                 "norm_first", "layer_norm_eps", "bias")  # fmt: skip
        self.transformer = torch.nn.Transformer(batch_first=True, dropout=0.0, **{n: config[n] for n in names})

    def place(self, ids: torch.Tensor, embed: torch.nn.Embedding, positions: str) -> torch.Tensor:
        table = getattr(self, positions).weight if self.learned else self.table
        return embed(ids) * self.scale + table[: ids.shape[1]]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, decoder_input_ids: torch.Tensor) -> Logits:
        causal = torch.nn.Transformer.generate_square_subsequent_mask(decoder_input_ids.shape[1]).bool()
        decoded = self.transformer(
            self.place(input_ids, self.src_embed, "src_pos_embed"),
            self.place(decoder_input_ids, self.tgt_embed, "tgt_pos_embed"),
            tgt_mask=causal, src_key_padding_mask=attention_mask == 0, memory_key_padding_mask=attention_mask == 0,
        )  # fmt: skip
        return Logits(self.generator(decoded))


def translator(case: Case, seed: int) -> Translator:
    """Random weights; "tie" is "output" (generator = target embedding) or "all" (and the source embedding too)."""
    model = Translator(case["config"]).eval()
    if "tie" in case:
        model.generator.weight = model.tgt_embed.weight
    if case.get("tie") == "all":
        model.src_embed.weight = model.tgt_embed.weight
    randomize(model, seed)
    return model
