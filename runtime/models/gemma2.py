"""Gemma 2 (Gemma Team 2024): Gemma with norms before and after each sublayer, windows in every other layer, and soft
caps on the scores of attention and on the logits.

Metadata keys and tensor names are llama.cpp's, `gemma2.attention.scale` apart; the ones that Gemma adds to the scales
of its norms are in the file's.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..host.exact import power
from .blocks import (
    Shapes,
    attend,
    caches_by_window,
    check_causal,
    gated_feed_forward,
    head_share_scale,
    layer_windows,
    query_key_value,
    read_sizes,
    rotary,
)
from .heads import decoder

LAYERS_OF_27B = 46


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    windows = layer_windows(metadata, sizes, (True, False), window=4096)
    scale = head_share_scale(metadata, sizes, LAYERS_OF_27B)
    soft_cap = metadata.number("attn_logit_softcapping", 50.0)
    logit_cap = metadata.number("final_logit_softcapping", 30.0)
    graph = Graph(tensors, metadata.path)
    caches, angles = caches_by_window(graph, sizes, windows), rotary(graph, metadata, sizes)
    root = power(sizes.hidden_size, 1, 2)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size, scale=root)
    graph.tap("layers", x)
    for layer, (window, (cache, place)) in enumerate(zip(windows, caches, strict=True)):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, place)
        name = f"{block}.attn"
        h = attend(graph, query, cache, place, name, sizes, causal=True, window=window, scale=scale, soft_cap=soft_cap)
        x = graph.add(x, graph.rms_norm(h, f"{block}.post_attention_norm", epsilon))
        h = gated_feed_forward(graph, graph.rms_norm(x, f"{block}.ffn_norm", epsilon), block, sizes, "gelu_tanh")
        x = graph.add(x, graph.rms_norm(h, f"{block}.post_ffw_norm", epsilon))
        graph.tap("layers", x)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes, soft_cap=logit_cap)
