"""What BERT and its successors share: embeddings, a layer with its norms behind the sums, sentences as one row.

A part takes sizes and names and has no switches, as in `blocks`.
"""

from __future__ import annotations

from ..errors import UnsupportedModelError
from ..graph.domains import POSITIONS, TOKEN_TYPES, TOKENS
from ..graph.graph import Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Shapes, Sizes, feed_forward, table_rows

POOLING_TYPES = {0: None, 1: "mean", 2: "first", 3: "last"}  # llama.cpp's numbers


def check_bidirectional(metadata: Metadata) -> None:
    """Refuse an encoder whose rows are to see only what comes before them."""
    if metadata.boolean("attention.causal", False):
        key = metadata.key("attention.causal")
        raise UnsupportedModelError(f"{metadata.path}: {key} is true; this architecture is bidirectional")


def read_pooling(metadata: Metadata) -> str | None:
    """How a sentence's rows become one, or None."""
    kind = metadata.integer("pooling_type", 0, low=0, high=100)
    if kind not in POOLING_TYPES:
        raise UnsupportedModelError(f"{metadata.path}: {metadata.key('pooling_type')} {kind} is not supported")
    return POOLING_TYPES[kind]


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


def give_sentences(graph: Graph, x: Value, pooling: str | None) -> None:
    """Name the results: the rows themselves and, where the file says how, one row for each sentence."""
    graph.output("hidden", x)
    if pooling is not None:
        pooled = graph.pool(x, pooling)
        graph.output("pooled", pooled)
        graph.output("normalized", graph.l2_norm(pooled))
