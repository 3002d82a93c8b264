"""gpt-oss (OpenAI 2025): decoder-only, experts in all layers, alternating windows, attention with sinks, biases
everywhere, and a gated feed-forward whose values are limited.

Metadata keys and tensor names are llama.cpp's, where the norm before the experts is named after the attention.
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
    caches_by_window,
    check_causal,
    layer_windows,
    query_key_value,
    read_sizes,
    rotary,
)
from .expert_blocks import read_experts, routed_feed_forward
from .heads import decoder

LIMIT = 7.0  # no file says so: all models of this architecture have it


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    # The weights of the chosen experts are the softmax of their logits alone.
    experts = read_experts(metadata, width=sizes.feed_forward_size, scoring="chosen_softmax", normalized=False)
    windows = layer_windows(metadata, sizes, (True, False))
    graph = Graph(tensors, metadata.path)
    gate = partial(graph.gate, kind="quick_gelu", limit=LIMIT, offset=1.0)
    caches, angles = caches_by_window(graph, sizes, windows), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer, (window, (cache, number)) in enumerate(zip(windows, caches, strict=True)):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, number)
        sinks = f"{block}.attn_sinks.weight"
        h = attend(graph, query, cache, number, f"{block}.attn", sizes, causal=True, window=window, sinks=sinks)
        x = graph.add(x, h)
        h = graph.rms_norm(x, f"{block}.post_attention_norm", epsilon)
        x = graph.add(x, routed_feed_forward(graph, h, block, sizes, experts, gate))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
