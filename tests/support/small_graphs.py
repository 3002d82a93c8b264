"""Graphs of small models, compiled without a file."""

from __future__ import annotations

from typing import Any

from edgeformer.graph.compiler import compile_graph
from edgeformer.graph.graph import Graph
from edgeformer.graph.metadata import Metadata
from edgeformer.graph.recipe import Recipe
from edgeformer.models.llama import build

WIDTH, HEADS, FFN, VOCAB = 64, 2, 96, 40
F32, Q8_0 = 0, 8


def llama_tensors(layers: int = 2) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(layers):
        block = f"blk.{layer}."
        shapes |= {f"{block}{name}.weight": (WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"{block}{name}.weight": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {
            f"{block}ffn_gate.weight": (FFN, WIDTH),
            f"{block}ffn_up.weight": (FFN, WIDTH),
            f"{block}ffn_down.weight": (WIDTH, FFN),
        }
    return shapes


def llama_graph(layers: int = 2, heads: int = HEADS) -> Graph:
    keys = {
        "llama.context_length": 128,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": FFN,
        "llama.block_count": layers,
        "llama.attention.head_count": heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }

    def get(key: str, kind: type, *default: Any) -> Any:
        return keys.get(key, *default)

    return build(Metadata(get, keys, "llama", "small"), llama_tensors(layers)).programs["decode"]


def compiled(outputs: tuple[str, ...] = ("logits",), quantized: bool = True, layers: int = 2) -> Recipe:
    return compile_graph(llama_graph(layers), outputs, lambda name: quantized, lambda name: Q8_0 if quantized else F32)
