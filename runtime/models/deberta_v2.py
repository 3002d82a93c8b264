"""DeBERTa (He et al. 2021), its second and third version: a row's content and its position are apart in attention.

A score is the product of query and key, and of the query with a vector for the distance, and of the key with another,
over the root of three heads' columns. Distances share buckets, one each near by and ever wider ones farther away. The
vectors are the file's, one matrix for each head: `attn_rel` has those that queries meet, then those that keys meet,
over that root already. llama.cpp does not know it; keys and names are its own for BERT where it has them.
"""

from __future__ import annotations

import numpy as np

from .._kernels.core import TILE
from ..graph.architecture import Architecture
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from ..graph.position_bias import DistanceBuckets, log_buckets
from .blocks import Shapes, pass_cache, read_sizes
from .encoder_blocks import add_and_norm, check_bidirectional, placed_embeddings, typed_embeddings
from .heads import encoder_heads


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states, and what heads make of them."""
    check_bidirectional(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    width = metadata.integer("embedding_length_input", sizes.hidden_size)
    graph = Graph(tensors, metadata.path)
    cache, buckets = pass_cache(graph, sizes), read_buckets(metadata)
    inner, scale = sizes.num_heads * sizes.key_dim, (3 * sizes.key_dim) ** -0.5
    embeddings = placed_embeddings if graph.has("position_embd.weight") else typed_embeddings
    x = embeddings(graph, tensors, sizes, width)
    if graph.has("token_embd_proj.weight") or width != sizes.hidden_size:
        x = graph.linear(x, "token_embd_proj", sizes.hidden_size)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        both = graph.linear(x, f"{block}.attn_qkv", 2 * inner, num_rows=3 * inner)
        value = graph.linear(x, f"{block}.attn_qkv", inner, first_row=2 * inner, num_rows=3 * inner)
        query, key = graph.columns(both, 0, inner), graph.columns(both, inner, inner)
        relative = graph.grouped_linear(
            both, f"{block}.attn_rel", 2 * sizes.num_heads * buckets.count, 2 * sizes.num_heads
        )
        graph.store_kv(key, value, cache, 0)
        attended = graph.attention(query, cache, 0, causal=False, scale=scale, relative=(relative, buckets))
        attended = graph.linear(attended, f"{block}.attn_output", sizes.hidden_size)
        x = add_and_norm(graph, x, attended, block, sizes, activation, epsilon)
        graph.tap("layers", x)
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))


def read_buckets(metadata: Metadata) -> DistanceBuckets:
    """The bucket of each distance: `attention.relative_buckets_count` on either side, which grow up to
    `attention.relative_max_distance`, or where the file has none, hold a distance each.
    """
    if metadata.has("attention.relative_max_distance"):
        side = metadata.integer("attention.relative_buckets_count", low=4, high=1 << 10)
        farthest = metadata.integer("attention.relative_max_distance", low=side // 2 + 2, high=1 << 14)
        numbers = log_buckets(side, farthest)
    else:
        side = metadata.integer("attention.relative_buckets_count", high=1 << 14)
        numbers = np.clip(np.arange(2 * side, -1, -1), 0, 2 * side - 1)
    return DistanceBuckets(numbers, len(numbers) // 2, -(-2 * side // TILE) * TILE)  # in the file whole tiles
