"""ViT (Dosovitskiy et al. 2021): patches of an image as rows, a class token before them, learned positions, LayerNorm
first, GELU feed-forward, and classes from the class token.

Rows of `patches` are the pixels of one patch in the order [channel][row][column].
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import SEGMENTS, Features, Places
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import Shapes, feed_forward, pass_cache, read_sizes, self_attention, table_rows


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": patches to hidden states and classes."""
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", choices=ACTIVATIONS[1:])
    columns = metadata.integer("num_channels", high=64) * metadata.integer("patch_size", high=1024) ** 2
    graph = Graph(tensors, metadata.path)
    cache = pass_cache(graph, sizes)
    patches = graph.linear(graph.features(Features("patches", columns)), "patch_embd", sizes.hidden_size)
    x = graph.join(graph.repeat("class_embd", sizes.hidden_size, SEGMENTS), patches)
    positions = table_rows(tensors, "position_embd")
    x = graph.embed(Places(x.domain), "position_embd", positions, sizes.hidden_size, add=x)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        x = graph.add(x, self_attention(graph, h, cache, 0, f"{block}.attn", sizes, causal=False))
        h = graph.layer_norm(x, f"{block}.ffn_norm", epsilon)
        x = graph.add(x, feed_forward(graph, h, block, sizes, activation))
        graph.tap("layers", x)
    h = graph.layer_norm(x, "output_norm", epsilon)
    graph.output("hidden", h)
    if graph.has("output.weight"):
        graph.output("classes", graph.linear(graph.pool(h, "first"), "output", table_rows(tensors, "output")))
    return Architecture({"encode": graph}, sizes.context_length)
