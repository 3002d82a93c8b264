"""Qwen3 (Qwen Team 2025): decoder-only like Llama, and every head of the queries and keys is normalized before it is
rotated. The last layers may attend to a window alone.

Metadata keys and tensor names are llama.cpp's. A head's first half of columns is rotated with its second half.
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
    gated_feed_forward,
    layer_windows,
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
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer, window in enumerate(layer_windows(metadata, sizes)):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rms_norm(query, f"{block}.attn_q_norm", epsilon, groups=sizes.num_heads)
        key = graph.rms_norm(key, f"{block}.attn_k_norm", epsilon, groups=sizes.num_key_value_heads)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, window=window))
        h = graph.rms_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, gated_feed_forward(graph, h, block, sizes, "silu"))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
