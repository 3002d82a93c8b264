"""A causal stack of torch.nn's layers that learns what comes next, and the folder that `edgeformer convert` reads.

The model is SASRec's (Kang and McAuley 2018) where the tokens are items, and a language model where they are words or
notes: `torch.nn.TransformerEncoder` with a causal mask, learned positions, and the embeddings once more as the head.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

PAD, START, END, UNKNOWN = range(4)
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
NO_TARGET = -100
SEED = 7


class NextToken(nn.Module):
    """Logits of the token after each."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["d_model"]
        self.embedding = nn.Embedding(config["vocab_size"], width)
        self.pos_embedding = nn.Embedding(config["max_length"], width)
        layer = nn.TransformerEncoderLayer(
            width, config["nhead"], config["dim_feedforward"], dropout=0.1, activation=config["activation"],
            batch_first=True, norm_first=config["norm_first"],
        )  # fmt: skip
        norm = nn.LayerNorm(width)
        self.encoder = nn.TransformerEncoder(layer, config["num_layers"], norm, enable_nested_tensor=False)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        nn.init.normal_(self.pos_embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.pos_embedding.weight[: ids.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.encoder(x, mask=mask, is_causal=True) @ self.embedding.weight.T


def configuration(words: list[str], width: int, layers: int, length: int) -> dict:
    """The small config.json of a stack of torch's layers, in their own argument names."""
    return {
        "model_type": "transformer_decoder",
        "d_model": width,
        "nhead": width // 16,
        "num_layers": layers,
        "dim_feedforward": 4 * width,
        "activation": "gelu",
        "norm_first": True,
        "positional_encoding": {"type": "learned"},
        "vocab_size": len(SPECIAL) + len(words),
        "max_length": length,
        "bos_token_id": START,
        "eos_token_id": END,
    }


def batches(sequences: list[list[int]], size: int, length: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some sequences behind the start token, cut to the length, and the token after each of theirs."""
    chosen = torch.randint(len(sequences), (size,), generator=rng).tolist()
    rows = [[START, *sequences[index]][: length + 1] for index in chosen]
    width = max(map(len, rows)) - 1
    ids = torch.tensor([row[:-1] + [PAD] * (width + 1 - len(row)) for row in rows])
    targets = torch.tensor([row[1:] + [NO_TARGET] * (width + 1 - len(row)) for row in rows])
    return ids, targets


def train(sequences: list[list[int]], config: dict, steps: int, batch: int = 64, rate: float = 2e-3) -> NextToken:
    """A model that was shown the sequences, in so many steps."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    model = NextToken(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    begun = time.perf_counter()
    for step in range(1, steps + 1):
        ids, targets = batches(sequences, batch, config["max_length"], rng)
        loss = cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 5) == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}, {time.perf_counter() - begun:.0f} s", flush=True)
    return model.eval()


def save(model: NextToken, config: dict, words: list[str], folder: Path) -> None:
    """The folder for `edgeformer convert`: state dict, configuration, and a vocabulary of whole words."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary(words), ensure_ascii=False, indent=1) + "\n")


def vocabulary(words: list[str]) -> dict:
    """A tokenizer.json of words between spaces, behind the start token."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": piece, **flags} for token, piece in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, text],
            "pair": [start, text, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [START], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: token for token, word in enumerate([*SPECIAL, *words])},
            "unk_token": "<unk>",
        },
    }
