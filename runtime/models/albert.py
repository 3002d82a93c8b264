"""ALBERT (Lan et al. 2020): BERT whose layers share their tensors, behind embeddings of fewer columns.

`albert.layer_group_count` says how many layers the file has: those of the model follow each other in as many runs of
the same one. With a layer each it is ELECTRA's small encoder (Clark et al. 2020); its larger ones project nothing. The
keys are llama.cpp's for BERT but for this one, and so are the names but for `token_embd_proj`.
"""

from __future__ import annotations

from ..errors import ModelFormatError
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
    num_groups = metadata.integer("layer_group_count", sizes.num_layers, high=sizes.num_layers)
    if sizes.num_layers % num_groups:
        what = f"{num_groups} groups do not divide {sizes.num_layers} layers"
        raise ModelFormatError(metadata.path, None, metadata.key("layer_group_count"), what)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", "gelu", choices=ACTIVATIONS[1:])
    width = metadata.integer("embedding_length_input", sizes.hidden_size)
    graph = Graph(tensors, metadata.path)
    cache = pass_cache(graph, sizes)
    x = placed_embeddings(graph, tensors, sizes, width)
    x = graph.layer_norm(x, "token_embd_norm", epsilon)
    if graph.has("token_embd_proj.weight") or width != sizes.hidden_size:
        x = graph.linear(x, "token_embd_proj", sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer * num_groups // sizes.num_layers}"
        attended = self_attention(graph, x, cache, 0, f"{block}.attn", sizes, causal=False)
        x = add_and_norm(graph, x, attended, block, sizes, activation, epsilon)
        graph.tap("layers", x)
    graph.output("hidden", x)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, x))
