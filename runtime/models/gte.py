"""GTE (Zhang et al. 2024, "mGTE"): BERT with rotary positions, and a gate by GELU in its feed-forward.

llama.cpp does not know it; keys and names are those that it has for Nomic BERT, whose gate is SiLU.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import Shapes, gated_feed_forward, pass_cache, read_sizes, rotary
from .encoder_blocks import add_and_norm, check_bidirectional, rotated_self_attention, typed_embeddings
from .heads import encoder_heads


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states, and what heads make of them."""
    check_bidirectional(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache, angles = pass_cache(graph, sizes), rotary(graph, metadata, sizes)
    x = typed_embeddings(graph, tensors, sizes, sizes.hidden_size)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        attended = rotated_self_attention(graph, x, cache, f"{block}.attn", sizes, angles)
        x = add_and_norm(graph, x, attended, block, sizes, activation, epsilon, gated_feed_forward)
        graph.tap("layers", x)
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))
