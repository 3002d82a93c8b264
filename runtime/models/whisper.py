"""The encoder of Whisper (Radford et al. 2022): two convolutions over the frames of a log-mel spectrogram, of which the
second halves them, sinusoidal positions (a table in the file), LayerNorm first, GELU feed-forward.

Rows of `frames` are the mel bins of one frame.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import Features, Places, Window
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from .blocks import Shapes, feed_forward, pass_cache, read_sizes, self_attention, table_rows


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "encode": frames to hidden states of half as many rows."""
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", choices=ACTIVATIONS[1:])
    graph = Graph(tensors, metadata.path)
    cache = pass_cache(graph, sizes)
    x = graph.features(Features("frames", metadata.integer("num_mel_bins", high=1024)))
    for name, stride in (("conv1", 1), ("conv2", 2)):
        window = Window((3, 1), (stride, 1), padding=(1, 0))
        x = graph.activation(graph.linear(graph.unfold(x, window), name, sizes.hidden_size), "gelu")
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
    graph.output("hidden", graph.layer_norm(x, "output_norm", epsilon))
    return Architecture({"encode": graph}, sizes.context_length)
