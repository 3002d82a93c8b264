"""StableLM (Bellagente et al. 2024): decoder-only, LayerNorm first, a part of each head's columns rotated, gated SiLU
feed-forward.

The 12B normalizes every head of queries and keys by a weight of its own, and has no second norm: attention and
feed-forward read the same rows, and both results are added. Metadata keys and tensor names are llama.cpp's. A head's
first half of rotated columns is rotated with the second half.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
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
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = head_norms(graph, query, f"{block}.attn_q_norm", sizes.num_heads, epsilon)
        key = head_norms(graph, key, f"{block}.attn_k_norm", sizes.num_key_value_heads, epsilon)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, layer)
        x = graph.add(x, attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True))
        if graph.has(f"{block}.ffn_norm.weight"):
            h = graph.layer_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, gated_feed_forward(graph, h, block, sizes, "silu"))
        graph.tap("layers", x)
    last = graph.layer_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.layer_norm(x, "output_norm", epsilon), last, sizes)


def head_norms(graph: Graph, x: Value, name: str, num_heads: int, epsilon: float) -> Value:
    """Each head normalized and weighted by its row of `name`.weight [heads, columns]; x where the file has none."""
    if not graph.has(f"{name}.weight"):
        return x
    return graph.affine(
        graph.layer_norm(x, None, epsilon, groups=num_heads),
        weight=f"{name}.weight",
        shape=(num_heads, x.width // num_heads),
    )
