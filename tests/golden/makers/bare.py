"""Models as training scripts write them, in torch alone: nanoGPT, llama2.c, and a stack of torch.nn's layers.

Each computes its formulas by torch's functions, keeps nanoGPT's, llama2.c's or torch's names, and writes a state dict
with a small config.json beside it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from golden.cases import Case
from torch import nn
from torch.nn import functional

from .common import randomize
from .encoder_decoder import sinusoidal_table

Ids = torch.Tensor


class LayerNorm(nn.Module):
    """nanoGPT's: with a bias or without."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class NanoBlock(nn.Module):
    """Attention and feed-forward, norms first."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, bias = config["n_embd"], config["bias"]
        self.heads = config["n_head"]
        self.ln_1, self.ln_2 = LayerNorm(width, bias), LayerNorm(width, bias)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width, bias), "c_proj": nn.Linear(width, width, bias)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width, bias), "c_proj": nn.Linear(4 * width, width, bias)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.attn["c_attn"](self.ln_1(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](attended.transpose(1, 2).flatten(2))
        return x + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class NanoGPT(nn.Module):
    """nanoGPT's `GPT`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["n_embd"]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config["vocab_size"], width),
                "wpe": nn.Embedding(config["block_size"], width),
                "h": nn.ModuleList(NanoBlock(config) for _ in range(config["n_layer"])),
                "ln_f": LayerNorm(width, config["bias"]),
            }
        )
        self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def hidden(self, ids: Ids) -> torch.Tensor:
        x = self.transformer["wte"](ids) + self.transformer["wpe"](torch.arange(ids.shape[1]))
        for block in self.transformer["h"]:
            x = block(x)
        return self.transformer["ln_f"](x)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.lm_head(hidden)


class RMSNorm(nn.Module):
    """A scale of rows over the root of their mean square."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Turn neighbouring columns of [batch, rows, heads, columns] as complex numbers."""
    columns = x.shape[-1]
    frequencies = 10000.0 ** (-torch.arange(0, columns, 2, dtype=torch.float64) / columns)
    angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float64), frequencies)
    turned = (
        torch.view_as_complex(x.double().unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)[:, None]
    )
    return torch.view_as_real(turned).flatten(-2).float()


class LlamaLayer(nn.Module):
    """llama2.c's `TransformerBlock`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, hidden = config["dim"], config["hidden_dim"]
        self.heads, self.kv_heads = config["n_heads"], config["n_kv_heads"]
        keys = width // self.heads * self.kv_heads
        sizes = {"wq": (width, width), "wk": (width, keys), "wv": (width, keys), "wo": (width, width)}
        self.attention = nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in sizes.items()})
        sizes = {"w1": (width, hidden), "w2": (hidden, width), "w3": (width, hidden)}
        self.feed_forward = nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in sizes.items()})
        self.attention_norm, self.ffn_norm = (RMSNorm(width, config["norm_eps"]) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.attention_norm(x)
        counts = {"wq": self.heads, "wk": self.kv_heads, "wv": self.kv_heads}
        q, k, v = (self.attention[name](h).unflatten(-1, (count, -1)) for name, count in counts.items())
        q, k, v = (part.transpose(1, 2) for part in (rotate(q), rotate(k), v))
        k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=1) for part in (k, v))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attention["wo"](attended.transpose(1, 2).flatten(2))
        h = self.ffn_norm(x)
        feed = self.feed_forward
        return x + feed["w2"](functional.silu(feed["w1"](h)) * feed["w3"](h))


class Llama2c(nn.Module):
    """llama2.c's `Transformer`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config["vocab_size"], config["dim"])
        self.layers = nn.ModuleList(LlamaLayer(config) for _ in range(config["n_layers"]))
        self.norm = RMSNorm(config["dim"], config["norm_eps"])
        self.output = nn.Linear(config["dim"], config["vocab_size"], bias=False)
        self.output.weight = self.tok_embeddings.weight

    def hidden(self, ids: Ids) -> torch.Tensor:
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.output(hidden)


class Stack(nn.Module):
    """`torch.nn.TransformerEncoder`, or a `torch.nn.TransformerDecoder` over zeros, with what scripts put around it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["d_model"]
        self.causal = config["model_type"] == "transformer_decoder"
        self.scale = math.sqrt(width) if config["scale_embedding"] else 1.0
        self.pooling = config.get("pooling")
        self.embedding = nn.Embedding(config["vocab_size"], width)
        self.table = sinusoidal_table(config["max_length"], width)
        if config["positional_encoding"]["type"] == "learned":
            self.pos_embedding = nn.Parameter(torch.empty(1, config["max_length"] + 3, width))
        names = ("d_model", "nhead", "dim_feedforward", "activation", "norm_first", "layer_norm_eps", "bias")
        arguments = {"batch_first": True, "dropout": 0.0, **{name: config[name] for name in names}}
        self.over_zeros = config.get("memory") == "zeros"
        last = nn.LayerNorm(width, config["layer_norm_eps"]) if config["norm_first"] else None
        if self.over_zeros:
            self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**arguments), config["num_layers"], last)
        else:
            layer = nn.TransformerEncoderLayer(**arguments)
            self.encoder = nn.TransformerEncoder(layer, config["num_layers"], last, enable_nested_tensor=False)
        if "head_activation" in config:
            self.dense, self.dense_activation = (
                nn.Linear(width, width + 8),
                getattr(functional, config["head_activation"]),
            )
        if "num_classes" in config:
            self.classifier = nn.Linear(width + 8 * ("head_activation" in config), config["num_classes"])
        elif not config.get("tied"):
            self.head = nn.Linear(width, config["vocab_size"])

    def hidden(self, ids: Ids, mask: torch.Tensor | None = None) -> torch.Tensor:
        table = self.pos_embedding[0] if hasattr(self, "pos_embedding") else self.table
        x = self.embedding(ids) * self.scale + table[: ids.shape[1]]
        seen = nn.Transformer.generate_square_subsequent_mask(ids.shape[1]) if self.causal else None
        if self.over_zeros:
            return self.decoder(x, torch.zeros(len(x), 3, x.shape[2]), tgt_mask=seen)
        return self.encoder(x, mask=seen, src_key_padding_mask=None if mask is None else mask == 0)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden) if hasattr(self, "head") else hidden @ self.embedding.weight.T

    def classes(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling is None:
            return self.classifier(self.dense_activation(self.dense(hidden)))
        means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        lasts = hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
        return self.classifier({"mean": means, "first": hidden[:, 0], "last": lasts}[self.pooling])


class Bare(nn.Module):
    """One of these as the other makers see transformers' models."""

    def __init__(self, model: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.written = model, config
        self.config = SimpleNamespace(vocab_size=config["vocab_size"])

    def forward(self, ids: Ids, attention_mask: torch.Tensor | None = None) -> SimpleNamespace:
        if hasattr(self.model, "classifier"):
            return SimpleNamespace(logits=self.model.classes(self.model.hidden(ids, attention_mask), attention_mask))
        masks = () if attention_mask is None else (attention_mask,)  # which only a stack that reads both ways takes
        return SimpleNamespace(logits=self.model.logits(self.model.hidden(ids, *masks)))

    def base_model(self, ids: Ids) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.model.hidden(ids))

    def write(self, folder: Path, case: Case) -> None:
        """The state dict, under the names that the script's wrappers give it, and the configuration."""
        state = {case.get("prefix", "") + name: tensor for name, tensor in self.model.state_dict().items()}
        saved = {case["inside"]: state, "iter_num": 7} if "inside" in case else state
        torch.save(saved, folder / case.get("file", "model.pt"))
        (folder / "config.json").write_text(json.dumps(self.written, indent=2) + "\n")


MODELS = {"bare.NanoGPT": NanoGPT, "bare.Llama2c": Llama2c, "bare.Stack": Stack}


def bare_model(case: Case, seed: int) -> Bare:
    """A model of the case's class and configuration with random weights."""
    config = {key: value for key, value in case["config"].items() if key != "tied"}
    model = MODELS[case["class"]](case["config"]).eval()
    randomize(model, seed)
    return Bare(model, config)
