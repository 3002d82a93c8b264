"""BERT (Devlin et al. 2018): bidirectional encoder, learned positions, LayerNorm after each sublayer, GELU
feed-forward. RoBERTa, XLM-RoBERTa and CamemBERT are the same; DistilBERT has no token types.

Metadata keys and tensor names are llama.cpp's; `bert.activation` is ours.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import Shapes, pass_cache, read_sizes, self_attention
from .encoder_blocks import add_and_norm, check_bidirectional, placed_embeddings
from .heads import encoder_heads


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states, and what heads make of them."""
    check_bidirectional(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache = pass_cache(graph, sizes)
    x = placed_embeddings(graph, tensors, sizes, sizes.hidden_size)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        attended = self_attention(graph, x, cache, 0, f"{block}.attn", sizes, causal=False)
        x = add_and_norm(graph, x, attended, block, sizes, activation, epsilon)
        graph.tap("layers", x)
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))
