"""Gemma 3 (Gemma Team 2025), its text: Gemma 2 without the cap on scores; every head of the queries and keys is
normalized; all layers but every sixth have a window, and a rotary base of their own.

Metadata keys and tensor names are llama.cpp's, `gemma3.attention.scale` apart; the ones that Gemma adds to the scales
of its norms are in the file's.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph, rotary_frequencies
from ..graph.metadata import Metadata
from ..host.exact import power
from .blocks import (
    Shapes,
    attend,
    check_causal,
    gated_feed_forward,
    head_share_scale,
    layer_windows,
    query_key_value,
    read_sizes,
    rotary,
    sequence_cache,
)
from .heads import decoder

LAYERS_OF_27B = 62


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    windows = layer_windows(metadata, sizes, (*[True] * 5, False))
    scale = head_share_scale(metadata, sizes, LAYERS_OF_27B)
    logit_cap = metadata.number("final_logit_softcapping", 0.0)
    graph = Graph(tensors, metadata.path)
    cache, everywhere = sequence_cache(graph, sizes), rotary(graph, metadata, sizes)
    near_base = metadata.number("rope.freq_base_swa", 10000.0, low=1.0)
    nearby = graph.rotary(rotary_frequencies(everywhere.width, near_base))
    root = power(sizes.hidden_size, 1, 2)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size, scale=root)
    graph.tap("layers", x)
    for layer, window in enumerate(windows):
        block, angles = f"blk.{layer}", nearby if window else everywhere
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rms_norm(query, f"{block}.attn_q_norm", epsilon, groups=sizes.num_heads)
        key = graph.rms_norm(key, f"{block}.attn_k_norm", epsilon, groups=sizes.num_key_value_heads)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, layer)
        h = attend(graph, query, cache, layer, f"{block}.attn", sizes, causal=True, window=window, scale=scale)
        x = graph.add(x, graph.rms_norm(h, f"{block}.post_attention_norm", epsilon))
        h = gated_feed_forward(graph, graph.rms_norm(x, f"{block}.ffn_norm", epsilon), block, sizes, "gelu_tanh")
        x = graph.add(x, graph.rms_norm(h, f"{block}.post_ffw_norm", epsilon))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes, soft_cap=logit_cap)
