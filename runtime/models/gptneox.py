"""GPT-NeoX (Black et al. 2022), and Pythia: decoder-only, LayerNorm first, attention and feed-forward side by side as a
rule, part of each head rotated, GELU.

Metadata keys and tensor names are llama.cpp's, `gptneox.activation` apart: queries, keys and values come from one
tensor; a head's first half of the rotated columns is rotated with the second.
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
    side_by_side = metadata.boolean("use_parallel_residual", True)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block, before = f"blk.{layer}", x
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = fused_query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True))
        h = graph.layer_norm(before if side_by_side else x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, feed_forward(graph, h, block, sizes, activation))
        graph.tap("layers", x)
    last = graph.layer_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.layer_norm(x, "output_norm", epsilon), last, sizes)
