"""What Gemma 3 and EmbeddingGemma share: their embeddings and layers."""

from __future__ import annotations

from ..graph.domains import TOKENS
from ..graph.graph import CacheSpec, Graph, rotary_frequencies
from ..graph.metadata import Metadata
from ..graph.values import Value
from ..host.exact import power
from .blocks import Sizes, attend, gated_feed_forward, query_key_value, rotary

WINDOWED = (True, True, True, True, True, False)  # in turn


def gemma3_rows(
    graph: Graph,
    metadata: Metadata,
    sizes: Sizes,
    windows: list[int],
    caches: list[tuple[CacheSpec, int]],
    *,
    epsilon: float,
    scale: float,
    causal: bool,
) -> Value:
    """Token ids to the rows before the last norm; each layer has a window (0: none), and a place in a cache.

    Without `causal`, half of a window is before a row and half behind it.
    """
    everywhere = rotary(graph, metadata, sizes)
    near_base = metadata.number("rope.freq_base_swa", 10000.0, low=1.0)
    nearby = graph.rotary(rotary_frequencies(everywhere.width, near_base))
    root = power(sizes.hidden_size, 1, 2)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size, scale=root)
    graph.tap("layers", x)
    for layer, (window, (cache, place)) in enumerate(zip(windows, caches, strict=True)):
        block, angles = f"blk.{layer}", nearby if window else everywhere
        seen = window if causal or not window else window // 2 + 1
        h = graph.rms_norm(x, f"{block}.attn_norm", epsilon)
        query, key, value = query_key_value(graph, h, f"{block}.attn", sizes)
        query = graph.rms_norm(query, f"{block}.attn_q_norm", epsilon, groups=sizes.num_heads)
        key = graph.rms_norm(key, f"{block}.attn_k_norm", epsilon, groups=sizes.num_key_value_heads)
        query = graph.rope(query, angles, sizes.num_heads, "halves")
        key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
        graph.store_kv(key, value, cache, place)
        h = attend(graph, query, cache, place, f"{block}.attn", sizes, causal=causal, window=seen, scale=scale)
        x = graph.add(x, graph.rms_norm(h, f"{block}.post_attention_norm", epsilon))
        h = gated_feed_forward(graph, graph.rms_norm(x, f"{block}.ffn_norm", epsilon), block, sizes, "gelu_tanh")
        x = graph.add(x, graph.rms_norm(h, f"{block}.post_ffw_norm", epsilon))
        graph.tap("layers", x)
    return x
