"""MPT (MosaicML 2023): decoder-only, LayerNorm first, positions known by ALiBi alone, GELU feed-forward, and as a rule
no biases.

Metadata keys and tensor names are llama.cpp's, `mpt.attention.scale` apart: queries, keys and values come from one
tensor, and may be clipped. Biases are there where the file has them.
"""

from __future__ import annotations

from ..errors import UnsupportedModelError
from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
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
    limit = metadata.number("attention.clamp_kqv", 0.0)
    scale = metadata.number("attention.scale", sizes.key_dim**-0.5, high=1e6)
    graph = Graph(tensors, metadata.path)
    cache, bias = sequence_cache(graph, sizes), alibi(metadata, sizes, read_max_bias(metadata))

    def norm(x: Value, name: str) -> Value:
        return graph.layer_norm(x, name, epsilon, bias=graph.has(f"{name}.bias"))

    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        projected = fused_query_key_value(graph, norm(x, f"{block}.attn_norm"), f"{block}.attn", sizes)
        query, key, value = (graph.clip(part, limit) for part in projected) if limit else projected
        graph.store_kv(key, value, cache, layer)
        h = attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, scale=scale, bias=bias)
        x = graph.add(x, h)
        x = graph.add(x, feed_forward(graph, norm(x, f"{block}.ffn_norm"), block, sizes, "gelu"))
        graph.tap("layers", x)
    return decoder(graph, metadata, norm(x, "output_norm"), norm(graph.select(x), "output_norm"), sizes)


def read_max_bias(metadata: Metadata) -> float:
    """What the slopes of ALiBi go by. Learned positions in its place are refused."""
    max_bias = metadata.number("attention.max_alibi_bias", 0.0, high=1e3)
    if not max_bias:
        key = metadata.key("attention.max_alibi_bias")
        raise UnsupportedModelError(f"{metadata.path}: {key} is 0; MPT is supported with ALiBi only")
    return max_bias
