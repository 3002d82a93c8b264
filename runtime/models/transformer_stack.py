"""One stack of the original Transformer's layers, as `torch.nn.TransformerEncoder` builds it.

Bidirectional it reads whole sequences, for classes, vectors or masked words; causal it is a language model, of text, of
items that a user looked at (Kang and McAuley 2018) or of notes.

Tensors are named as the encoder's of `transformer`, without its side.
"""

from __future__ import annotations

from ..graph.architecture import Architecture
from ..graph.domains import POSITIONS, TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Shapes, Sizes, feed_forward, pass_cache, read_sizes, self_attention, sequence_cache
from .heads import decoder, encoder_heads
from .torch_blocks import LayerSettings, after, before, final_norm, read_settings


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The model's one program: "decode" of a causal stack, token ids to logits; else "encode", to hidden states."""
    sizes = read_sizes(metadata, tensors)
    settings = read_settings(metadata)
    graph = Graph(tensors, metadata.path)
    causal = metadata.boolean("attention.causal")
    x = layers(graph, settings, sizes, causal)
    hidden = final_norm(graph, settings, x, "output_norm")
    if causal:
        last = final_norm(graph, settings, graph.select(x), "output_norm")
        return decoder(graph, metadata, hidden, last, sizes)
    graph.output("hidden", hidden)
    return Architecture({"encode": graph}, sizes.context_length, **encoder_heads(graph, metadata, hidden))


def layers(graph: Graph, settings: LayerSettings, sizes: Sizes, causal: bool) -> Value:
    """Scaled token embeddings plus positions, normalized where the file says so, through every layer.

    A layer's third norm stands where a decoder's layer attended to a source that there is none of.
    """
    cache = sequence_cache(graph, sizes) if causal else pass_cache(graph, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size, scale=settings.embedding_scale)
    x = graph.embed(POSITIONS, "position_embd", sizes.context_length, sizes.hidden_size, add=x)
    x = final_norm(graph, settings, x, "token_embd_norm")
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"blk.{layer}"
        h = before(graph, settings, x, f"{block}.attn_norm")
        h = self_attention(graph, h, cache, layer if causal else 0, f"{block}.attn", sizes, causal=causal)
        x = after(graph, settings, graph.add(x, h), f"{block}.attn_norm")
        x = final_norm(graph, settings, x, f"{block}.cross_attn_norm")
        h = feed_forward(graph, before(graph, settings, x, f"{block}.ffn_norm"), block, sizes, settings.activation)
        x = after(graph, settings, graph.add(x, h), f"{block}.ffn_norm")
        graph.tap("layers", x)
    return x
