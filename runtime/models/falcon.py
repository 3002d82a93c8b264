"""Falcon (Almazrouei et al. 2023): decoder-only, attention and feed-forward side by side on the same LayerNorm, rotary
positions, few key-value heads, GELU.

Where a layer has two norms (the 40B), the second is that before attention. Metadata keys and tensor names are
llama.cpp's: queries, keys and values come from one tensor; a head's first half of columns is rotated with its second.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from .blocks import (
    Shapes,
    attend,
    check_causal,
    feed_forward,
    fused_query_key_value,
    read_sizes,
    rotary,
    sequence_cache,
)
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = side = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        if graph.has(f"{block}.attn_norm_2.weight"):
            h = graph.layer_norm(x, f"{block}.attn_norm_2", epsilon)
        query, key, value = fused_query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True))
        x = graph.add(x, feed_forward(graph, side, block, sizes, "gelu"))
        graph.tap("layers", x)
    last = graph.layer_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.layer_norm(x, "output_norm", epsilon), last, sizes)
