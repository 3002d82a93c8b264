"""GPT-J (Wang and Komatsuzaki 2021), and CodeGen: decoder-only, attention and feed-forward side by side on the same
LayerNorm, part of each head rotated, GELU.

Neighbouring columns are rotated together. llama.cpp has a name for GPT-J and does not run it; keys and tensor names are
in its style.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import (
    Shapes,
    attend,
    check_causal,
    feed_forward,
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
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu_tanh", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "neighbours")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "neighbours")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True))
        x = graph.add(x, feed_forward(graph, h, block, sizes, activation))
        graph.tap("layers", x)
    last = graph.layer_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.layer_norm(x, "output_norm", epsilon), last, sizes)
