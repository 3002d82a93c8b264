"""MPNet (Song et al. 2020): BERT with a bias of its attention by distance, in T5's buckets, that all layers share.

llama.cpp does not know it; keys and names are its own for BERT and T5.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from ..graph.position_bias import bucket_bias, relative_buckets
from .blocks import Shapes, pass_cache, read_sizes, self_attention
from .encoder_blocks import add_and_norm, check_bidirectional, placed_embeddings
from .heads import encoder_heads

BUCKETS, MAX_DISTANCE = 32, 128  # fixed in the published code, whatever the configuration says


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states, and what heads make of them."""
    check_bidirectional(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache = pass_cache(graph, sizes)
    buckets = relative_buckets(BUCKETS, MAX_DISTANCE, bidirectional=True)
    bias = bucket_bias("attn_rel_b.weight", sizes.num_heads, buckets, MAX_DISTANCE)
    x = placed_embeddings(graph, tensors, sizes, sizes.hidden_size)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        attended = self_attention(graph, x, cache, 0, f"{block}.attn", sizes, causal=False, bias=bias)
        x = add_and_norm(graph, x, attended, block, sizes, activation, epsilon)
        graph.tap("layers", x)
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))
