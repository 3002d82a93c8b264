"""Granite (Granite Team 2024): decoder-only like Llama, with four multipliers: of the embeddings, of what a sublayer
adds, of the attention's scores, and a divisor of the logits.

Metadata keys and tensor names are llama.cpp's. Query and key rows are stored in the order that pairs neighbouring
columns for the rotation.
"""

from __future__ import annotations

from ..errors import UnsupportedModelError
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
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    if not metadata.boolean("rope.scaling.finetuned", True):
        switch = metadata.key("rope.scaling.finetuned")
        raise UnsupportedModelError(f"{metadata.path}: {switch} is false; only a Granite with rotation is supported")
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    of_embeddings = metadata.number("embedding_scale", 0.0) or 1.0  # to llama.cpp nought means that there is none
    of_sublayers = metadata.number("residual_scale", 0.0) or 1.0
    of_scores = metadata.number("attention.scale", 0.0) or None
    of_logits = 1.0 / metadata.number("logit_scale", low=1e-6)
    graph = Graph(tensors, metadata.path)
    cache, angles = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size, scale=of_embeddings)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "neighbours")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "neighbours")
        graph.store_kv(key, value, cache, layer)
        h = attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, scale=of_scores)
        x = graph.add(x, graph.scale(h, of_sublayers))
        h = graph.rms_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, graph.scale(gated_feed_forward(graph, h, block, sizes, "silu"), of_sublayers))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    rows = graph.rms_norm(x, "output_norm", epsilon)
    return decoder(graph, metadata, rows, last, sizes, logit_scale=of_logits)
