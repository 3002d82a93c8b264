"""GPT-2 (Radford et al. 2019): decoder-only, LayerNorm first, learned positions, GELU feed-forward.

Metadata keys and tensor names are llama.cpp's: queries, keys and values come from one tensor. `gpt2.activation`,
`gpt2.attention.scale` and `gpt2.attention.scale_by_layer` are ours, for models with another activation or other scores.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import POSITIONS, TOKENS
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import (
    Shapes,
    attend,
    check_causal,
    feed_forward,
    fused_query_key_value,
    read_sizes,
    sequence_cache,
)
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu_tanh", choices=ACTIVATIONS[1:])
    scale = metadata.number("attention.scale", sizes.key_dim**-0.5, high=1e6)
    by_layer = metadata.boolean("attention.scale_by_layer", False)  # divided by the layer's number, from 1 on
    graph = Graph(tensors, metadata.path)
    cache = sequence_cache(graph, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    x = graph.embed(POSITIONS, "position_embd", sizes.context_length, sizes.hidden_size, add=x)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = fused_query_key_value(graph, h, f"{block}.attn", sizes)
        graph.store_kv(key, value, cache, layer)
        here = scale / (layer + 1) if by_layer else scale
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, scale=here))
        h = graph.layer_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, feed_forward(graph, h, block, sizes, activation))
        graph.tap("layers", x)
    last = graph.layer_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.layer_norm(x, "output_norm", epsilon), last, sizes)
