"""Gemma (Gemma Team 2024): decoder-only like Llama, token embeddings scaled by the root of their columns, GELU in the
gate.

Metadata keys and tensor names are llama.cpp's; the ones that Gemma adds to the scales of its norms are in the file's. A
head's first half of columns is rotated with its second half.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..host.exact import power
from .blocks import (
    Shapes,
    attend,
    check_causal,
    gated_feed_forward,
    query_key_value,
    read_sizes,
    rotary,
    sequence_cache,
)
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    root = power(sizes.hidden_size, 1, 2)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size, scale=root)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True))
        h = graph.rms_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, gated_feed_forward(graph, h, block, sizes, "gelu_tanh"))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
