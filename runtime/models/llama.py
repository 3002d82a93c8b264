"""Llama (Touvron et al. 2023): decoder-only, RMSNorm first, rotary positions, grouped-query attention, gated SiLU
feed-forward. With experts, Mixtral (Jiang et al. 2024): every row's feed-forward is that of the experts it chooses.

Metadata keys and tensor names are llama.cpp's, so the files are exchanged both ways. Query and key rows are stored in
the order that pairs neighbouring columns for the rotation.
"""

from __future__ import annotations

from functools import partial

from .._kernels import core
from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import MAX_CONTEXT, Metadata
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
from .expert_blocks import read_experts, routed_feed_forward
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    window = metadata.integer("attention.sliding_window", 0, low=0, high=MAX_CONTEXT)  # Mistral's
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    is_routed = metadata.integer("expert_count", 0, low=0, high=core.EF_MAX_EXPERTS) > 0
    experts = read_experts(metadata, width=sizes.feed_forward_size) if is_routed else None
    graph = Graph(tensors, metadata.path)
    silu = partial(graph.gate, kind="silu")
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "neighbours")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "neighbours")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, window=window))
        h = graph.rms_norm(x, f"{block}.ffn_norm", epsilon)
        if experts is None:
            x = graph.add(x, gated_feed_forward(graph, h, block, sizes, "silu"))
        else:
            x = graph.add(x, routed_feed_forward(graph, h, block, sizes, experts, silu))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
