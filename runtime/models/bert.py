"""BERT (Devlin et al. 2018): bidirectional encoder, learned positions, LayerNorm after each sublayer, GELU
feed-forward.

Metadata keys and tensor names are llama.cpp's; `bert.activation` and `bert.normalize_embeddings` are ours.
"""

from __future__ import annotations

from ..errors import UnsupportedModelError
from ..graph.architecture import Architecture
from ..graph.domains import POSITIONS, TOKEN_TYPES, TOKENS
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import Shapes, feed_forward, pass_cache, read_sizes, self_attention, table_rows

POOLING_TYPES = {0: None, 1: "mean", 2: "first", 3: "last"}  # llama.cpp's numbers


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states and pooled embeddings."""
    pooling = read_pooling(metadata)
    if metadata.boolean("attention.causal", False):
        raise UnsupportedModelError(
            f"{metadata.path}: bert.attention.causal is true; only bidirectional BERT is supported"
        )
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache = pass_cache(graph, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    x = graph.embed(TOKEN_TYPES, "token_types", table_rows(tensors, "token_types"), sizes.hidden_size, add=x)
    x = graph.embed(POSITIONS, "position_embd", sizes.context_length, sizes.hidden_size, add=x)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        x = graph.add(x, self_attention(graph, x, cache, 0, f"{block}.attn", sizes, causal=False))
        x = graph.layer_norm(x, f"{block}.attn_output_norm", epsilon)
        x = graph.add(x, feed_forward(graph, x, block, sizes, activation))
        x = graph.layer_norm(x, f"{block}.layer_output_norm", epsilon)
        graph.tap("layers", x)
    graph.output("hidden", x)
    if pooling is not None:
        pooled = graph.pool(x, pooling)
        graph.output("pooled", pooled)
        graph.output("normalized", graph.l2_norm(pooled))
    normalize = metadata.boolean("normalize_embeddings", False)
    return Architecture({"encode": graph}, sizes.context_length, normalize_embeddings=normalize)


def read_pooling(metadata: Metadata) -> str | None:
    """How a sentence's rows become one, or None."""
    kind = metadata.integer("pooling_type", 0, low=0, high=100)
    if kind not in POOLING_TYPES:
        raise UnsupportedModelError(f"{metadata.path}: bert.pooling_type {kind} is not supported")
    return POOLING_TYPES[kind]
