"""EmbeddingGemma (Schechter Vera et al. 2025): Gemma 3 whose rows see what is before them and what comes after, for
vectors of sentences.

Metadata keys and tensor names are llama.cpp's, `gemma-embedding.attention.scale` apart; the ones that Gemma adds to the
scales of its norms are in the file's.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..host.exact import power
from .blocks import Shapes, layer_windows, pass_cache, read_sizes
from .encoder_blocks import check_bidirectional
from .gemma_blocks import WINDOWED, gemma3_rows
from .heads import encoder_heads


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": token ids to hidden states, and what heads make of them."""
    check_bidirectional(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    scale = metadata.number("attention.scale", power(sizes.key_dim, -1, 2), high=1e6)
    graph = Graph(tensors, metadata.path)
    windows = layer_windows(metadata, sizes, WINDOWED)
    caches = [(pass_cache(graph, sizes), 0)] * sizes.num_layers
    x = gemma3_rows(graph, metadata, sizes, windows, caches, epsilon=epsilon, scale=scale, causal=False)
    x = graph.rms_norm(x, "output_norm", epsilon)
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))
