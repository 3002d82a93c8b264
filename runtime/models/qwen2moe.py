"""Qwen2 with experts (Qwen Team 2024): decoder-only like Llama with biases of queries, keys and values; rows choose
their feed-forwards, and all of them have a shared one, weighted by a sigmoid.

Metadata keys and tensor names are llama.cpp's; `qwen2moe.expert_weights_norm` is a key of its other architectures. A
layer without a router is dense.
"""

from __future__ import annotations

from functools import partial

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
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
from .expert_blocks import read_experts, routed_feed_forward, shared_expert
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    normalized = metadata.boolean("expert_weights_norm", False)
    share = sizes.feed_forward_size // metadata.integer("expert_used_count")
    experts = read_experts(metadata, width=share, normalized=normalized)
    shared_width = metadata.integer("expert_shared_feed_forward_length", sizes.feed_forward_size)
    graph = Graph(tensors, metadata.path)
    silu = partial(graph.gate, kind="silu")
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
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
        if graph.has(f"{block}.ffn_gate_inp.weight"):
            routed = routed_feed_forward(graph, h, block, sizes, experts, silu)
            x = graph.add(x, graph.add(routed, shared_expert(graph, h, block, sizes, shared_width, "silu")))
        else:
            x = graph.add(x, gated_feed_forward(graph, h, block, sizes, "silu"))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
