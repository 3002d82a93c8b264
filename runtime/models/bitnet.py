"""BitNet b1.58 (Ma et al. 2024): decoder-only like Llama, with weights of -1, 0 and 1 and two norms more a layer, one
of what attention gives and one within the feed-forward.

Metadata keys and tensor names are llama.cpp's; `bitnet.activation` is ours, where llama.cpp always takes SiLU.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import (
    Shapes,
    check_causal,
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
    activation = metadata.string("activation", "silu", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
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
        h = graph.attention(query, cache, layer, causal=True, scale=sizes.key_dim**-0.5)
        h = graph.rms_norm(h, f"{block}.attn_sub_norm", epsilon)
        x = graph.add(x, graph.linear(h, f"{block}.attn_output", sizes.hidden_size))
        h = graph.rms_norm(x, f"{block}.ffn_norm", epsilon)
        gate, up = (graph.linear(h, f"{block}.ffn_{part}", sizes.feed_forward_size) for part in ("gate", "up"))
        h = graph.rms_norm(graph.gate(gate, up, activation), f"{block}.ffn_sub_norm", epsilon)
        x = graph.add(x, graph.linear(h, f"{block}.ffn_down", sizes.hidden_size))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
