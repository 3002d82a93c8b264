"""BLOOM (Scao et al. 2022): decoder-only, LayerNorm first and after the embeddings, positions known by ALiBi alone,
GELU feed-forward.

Metadata keys and tensor names are llama.cpp's: queries, keys and values come from one tensor.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from .blocks import (
    Shapes,
    alibi,
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
    graph = Graph(tensors, metadata.path)
    cache, bias = sequence_cache(graph, sizes), alibi(metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = fused_query_key_value(graph, h, f"{block}.attn", sizes)
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, bias=bias))
        h = graph.layer_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, feed_forward(graph, h, block, sizes, "gelu_tanh"))
        graph.tap("layers", x)
    last = graph.layer_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.layer_norm(x, "output_norm", epsilon), last, sizes)
