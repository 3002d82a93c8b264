"""OPT (Zhang et al. 2022): decoder-only, learned positions, LayerNorm first, ReLU feed-forward.

The 350M puts its norms after each sublayer instead, and its embeddings are narrower than its layers: a matrix widens
them, another narrows the last rows. llama.cpp does not know OPT; keys and tensor names are in its style.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import POSITIONS, TOKENS
from ..graph.graph import ACTIVATIONS, Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Shapes, check_causal, feed_forward, read_sizes, self_attention, sequence_cache
from .heads import decoder


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program, "decode": token ids to logits."""
    check_causal(metadata)
    sizes = read_sizes(metadata, tensors)
    epsilon = metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0)
    activation = metadata.string("activation", choices=ACTIVATIONS[1:])
    norm_first = metadata.boolean("norm_first")
    embedding_width = metadata.integer("token_embedding_length", sizes.hidden_size)
    is_narrow = embedding_width != sizes.hidden_size
    graph = Graph(tensors, metadata.path)
    cache = sequence_cache(graph, sizes)

    def finish(x: Value) -> Value:
        if graph.has("output_norm.weight"):
            x = graph.layer_norm(x, "output_norm", epsilon)
        return graph.linear(x, "output_proj", embedding_width) if is_narrow else x

    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, embedding_width)
    if is_narrow:
        x = graph.linear(x, "token_embd_proj", sizes.hidden_size)
    x = graph.embed(POSITIONS, "position_embd", sizes.context_length, sizes.hidden_size, add=x)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = graph.layer_norm(x, f"{block}.attn_norm", epsilon) if norm_first else x
        x = graph.add(x, self_attention(graph, h, cache, layer, f"{block}.attn", sizes, causal=True))
        x = x if norm_first else graph.layer_norm(x, f"{block}.attn_norm", epsilon)
        h = graph.layer_norm(x, f"{block}.ffn_norm", epsilon) if norm_first else x
        x = graph.add(x, feed_forward(graph, h, block, sizes, activation))
        x = x if norm_first else graph.layer_norm(x, f"{block}.ffn_norm", epsilon)
        graph.tap("layers", x)
    return decoder(graph, metadata, finish(x), finish(graph.select(x)), sizes)
