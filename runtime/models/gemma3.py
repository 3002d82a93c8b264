"""Gemma 3 (Gemma Team 2025), its text: Gemma 2 without the cap on scores; every head of the queries and keys is
normalized; all layers but every sixth have a window, and a rotary base of their own.

Metadata keys and tensor names are llama.cpp's, `gemma3.attention.scale` apart; the ones that Gemma adds to the scales
of its norms are in the file's.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from .blocks import Shapes, caches_by_window, check_causal, head_share_scale, layer_windows, read_sizes
from .gemma_blocks import WINDOWED, gemma3_rows
from .heads import decoder

LAYERS_OF_27B = 62


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0)
    scale = head_share_scale(metadata, sizes, LAYERS_OF_27B)
    logit_cap = metadata.number("final_logit_softcapping", 0.0)
    graph = Graph(tensors, metadata.path)
    windows = layer_windows(metadata, sizes, WINDOWED)
    caches = caches_by_window(graph, sizes, windows)
    x = gemma3_rows(graph, metadata, sizes, windows, caches, epsilon=epsilon, scale=scale, causal=True)
    last = graph.rms_norm(graph.select(x), "output_norm", epsilon)
    return decoder(graph, metadata, graph.rms_norm(x, "output_norm", epsilon), last, sizes, soft_cap=logit_cap)
