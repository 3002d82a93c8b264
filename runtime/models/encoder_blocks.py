"""What BERT and its successors share: embeddings, a layer with its norms behind the sums, what they refuse.

A part takes sizes and names and has no switches, as in `blocks`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UnsupportedModelError
from ..graph.domains import POSITIONS, TOKEN_TYPES, TOKENS
from ..graph.graph import CacheSpec, Graph
from ..graph.metadata import Metadata
from ..graph.values import Value
from .blocks import Shapes, Sizes, attend, feed_forward, query_key_value, table_rows

FeedForward = Callable[[Graph, Value, str, Sizes, str], Value]


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


def rotated_self_attention(
    graph: Graph, x: Value, cache: CacheSpec, name: str, sizes: Sizes, angles: Value, *, window: int = 0
) -> Value:
    """Attention of the rows over their own sequence both ways, by rotary positions; `window` as in `attend`."""
    query, key, value = query_key_value(graph, x, name, sizes)
    query = graph.rope(query, angles, sizes.num_heads, "halves")
    key = graph.rope(key, angles, sizes.num_key_value_heads, "halves")
    graph.store_kv(key, value, cache, 0)
    return attend(graph, query, cache, 0, name, sizes, causal=False, window=window)


def add_and_norm(
    graph: Graph,
    x: Value,
    attended: Value,
    block: str,
    sizes: Sizes,
    activation: str,
    epsilon: float,
    feed: FeedForward = feed_forward,
) -> Value:
    """The rest of a layer behind its attention: the norm of the sum, the feed-forward, the norm of that sum."""
    x = graph.layer_norm(graph.add(x, attended), f"{block}.attn_output_norm", epsilon)
    x = graph.add(x, feed(graph, x, block, sizes, activation))
    return graph.layer_norm(x, f"{block}.layer_output_norm", epsilon)
