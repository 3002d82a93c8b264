"""What BERT and its successors share: embeddings, what they refuse.

A part takes sizes and names and has no switches, as in `blocks`.
"""

from __future__ import annotations

from ..errors import UnsupportedModelError
from ..graph.domains import POSITIONS, TOKEN_TYPES, TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Shapes, Sizes, feed_forward, table_rows


def check_bidirectional(metadata: Metadata) -> None:
    """Refuse an encoder whose rows are to see only what comes before them."""
    if metadata.boolean("attention.causal", False):
        key = metadata.key("attention.causal")
        raise UnsupportedModelError(f"{metadata.path}: {key} is true; this architecture is bidirectional")


def typed_embeddings(graph: Graph, tensors: Shapes, sizes: Sizes, width: int) -> Value:
    """Rows of the tokens, and of their types where the file has a table of these."""
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, width)
    if graph.has("token_types.weight"):
        x = graph.embed(TOKEN_TYPES, "token_types", table_rows(tensors, "token_types"), width, add=x)
    return x


def placed_embeddings(graph: Graph, tensors: Shapes, sizes: Sizes, width: int) -> Value:
    """`typed_embeddings`, and a learned row for each position."""
    x = typed_embeddings(graph, tensors, sizes, width)
    return graph.embed(POSITIONS, "position_embd", sizes.context_length, width, add=x)


def add_and_norm(
    graph: Graph, x: Value, attended: Value, block: str, sizes: Sizes, activation: str, epsilon: float
) -> Value:
    """The rest of a layer behind its attention: the norm of the sum, the feed-forward, the norm of that sum."""
    x = graph.layer_norm(graph.add(x, attended), f"{block}.attn_output_norm", epsilon)
    h = feed_forward(graph, x, block, sizes, activation)
    return graph.layer_norm(graph.add(x, h), f"{block}.layer_output_norm", epsilon)
