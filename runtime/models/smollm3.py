"""SmolLM3 (Hugging Face 2025): decoder-only like Llama, but every fourth layer knows no positions (Yang et al. 2025,
"Rope to Nope and Back Again"): its queries and keys are not rotated.

Metadata keys and tensor names are llama.cpp's. Query and key rows are stored in the order that pairs neighbouring
columns for the rotation.
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
    windows = layer_windows(metadata, sizes)
    rotates = metadata.booleans("attention.rope_pattern", [layer % 4 != 3 for layer in range(sizes.num_layers)])
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        if rotates[layer]:
            query = graph.rope(query, angles, sizes.num_heads, "neighbours")
            key = graph.rope(key, angles, sizes.num_key_value_heads, "neighbours")
        graph.store_kv(key, value, cache, layer)
        h = attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, window=windows[layer])
        x = graph.add(x, h)
        h = graph.rms_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, gated_feed_forward(graph, h, block, sizes, "silu"))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes)
