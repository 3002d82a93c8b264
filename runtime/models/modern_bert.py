"""ModernBERT (Warner et al. 2024): norms before the sublayers, rotary positions, gated feed-forward, no biases.

Every third layer sees all positions; the others a window around their own, and rotate by another base. The first layer
has no norm before its attention, for that of the embeddings is there. Metadata keys and tensor names are llama.cpp's.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import Graph, rotary_frequencies
from ..graph.metadata import MAX_CONTEXT, MAX_LAYERS, Metadata
from ..graph.values import Value
from .blocks import Shapes, fused_gated_feed_forward, pass_cache, read_sizes, rotary
from .encoder_blocks import check_bidirectional, rotated_self_attention
from .heads import encoder_heads

GATES = ("gelu", "silu")


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states, and what heads make of them."""
    check_bidirectional(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("hidden_activation", "gelu", choices=GATES)
    around = metadata.integer("attention.sliding_window", 0, low=0, high=MAX_CONTEXT)  # both sides together; 0: all
    every = metadata.integer("attention.sliding_window_pattern", 3, high=MAX_LAYERS)
    graph = Graph(tensors, metadata.path)

    def norm(x: Value, name: str) -> Value:
        return graph.layer_norm(x, name, epsilon, bias=graph.has(f"{name}.bias"))

    cache, angles = pass_cache(graph, sizes), rotary(graph, metadata, sizes)
    local_base = metadata.number("rope.freq_base_swa", 10000.0, low=1.0)
    local_angles = graph.rotary(rotary_frequencies(angles.width, local_base))
    x = norm(graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size), "token_embd_norm")
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block, is_local = f"blk.{layer}", around > 0 and layer % every > 0
        h = norm(x, f"{block}.attn_norm") if layer else x
        window = around // 2 + 1 if is_local else 0
        turn = local_angles if is_local else angles
        x = graph.add(x, rotated_self_attention(graph, h, cache, f"{block}.attn", sizes, turn, window=window))
        h = norm(x, f"{block}.ffn_norm")
        x = graph.add(x, fused_gated_feed_forward(graph, h, block, sizes, activation))
        graph.tap("layers", x)
    x = norm(x, "output_norm")
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))
