"""What decoders and encoders share: their sizes, their attention, their feed-forward, their head.

A part takes sizes and names and has no switches. What is an architecture's own stays in its file, which reads like its
paper: the loop over the layers, the order of the norms, the residual sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ModelFormatError, UnsupportedModelError
from ..graph.graph import CacheSpec, Graph
from ..graph.metadata import MAX_CONTEXT, MAX_LAYERS, Metadata
from ..graph.position_bias import PositionBias, alibi_bias
from ..graph.values import Value
from ..host.exact import power
from .rotary import divisor_name, read_rotation

MAX_HEADS, MAX_HEAD_COLUMNS = 8192, 256
MAX_BIASES = 1 << 23  # elements of a table of biases, a head and a distance each: 32 MB

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a stack of layers. llama.cpp's key of each stands beside it; a file has it under its architecture."""

    vocab_size: int  # rows of the token embeddings
    context_length: int  # context_length
    hidden_size: int  # embedding_length
    feed_forward_size: int  # feed_forward_length
    num_layers: int  # block_count
    num_heads: int  # attention.head_count
    num_key_value_heads: int  # attention.head_count_kv
    key_dim: int  # attention.key_length: columns of a query head and of a key head
    value_dim: int  # attention.value_length


def read_sizes(metadata: Metadata, tensors: Shapes) -> Sizes:
    """The sizes from the file's metadata, and the vocabulary's from the table `token_embd`.

    Raises
    ------
    ModelFormatError
        A size is missing or out of bounds, or the heads do not divide the columns and no key says how wide they are.
    """
    hidden_size = metadata.integer("embedding_length")
    num_heads = metadata.integer("attention.head_count", high=MAX_HEADS)
    if hidden_size % num_heads and not metadata.has("attention.key_length"):
        what = f"{num_heads} heads do not divide {hidden_size} columns"
        raise ModelFormatError(metadata.path, None, metadata.key("attention.head_count"), what)
    key_dim = metadata.integer("attention.key_length", hidden_size // num_heads, high=MAX_HEAD_COLUMNS)
    return Sizes(
        vocab_size=table_rows(tensors, "token_embd"),
        context_length=metadata.integer("context_length", high=MAX_CONTEXT),
        hidden_size=hidden_size,
        feed_forward_size=metadata.integer("feed_forward_length"),
        num_layers=metadata.integer("block_count", high=MAX_LAYERS),
        num_heads=num_heads,
        num_key_value_heads=metadata.integer("attention.head_count_kv", num_heads, high=MAX_HEADS),
        key_dim=key_dim,
        value_dim=metadata.integer("attention.value_length", key_dim, high=MAX_HEAD_COLUMNS),
    )


def table_rows(tensors: Shapes, name: str) -> int:
    """Rows of the table `name`.weight; 0 where the file has none, which the op that reads it reports."""
    return tensors.get(f"{name}.weight", (0,))[0]


def rotary(graph: Graph, metadata: Metadata, sizes: Sizes) -> Value:
    """Angles of rotary position embeddings as the keys `rope.*` say, for `Graph.rope`."""
    width = metadata.integer("rope.dimension_count", sizes.key_dim, low=2, high=MAX_HEAD_COLUMNS)
    if width % 2:
        what = f"{width} columns cannot be rotated in pairs"
        raise ModelFormatError(metadata.path, None, metadata.key("rope.dimension_count"), what)
    rotation = read_rotation(metadata, width)
    return graph.rotary(rotation.frequencies, scale=rotation.scale, factors=divisor_name(metadata, graph.tensor_shapes))


def alibi(metadata: Metadata, sizes: Sizes, max_bias: float = 8.0) -> PositionBias:
    """ALiBi's bias of every head for all distances of the context.

    Raises
    ------
    UnsupportedModelError
        The table would be larger than any real model's.
    """
    if sizes.num_heads * sizes.context_length > MAX_BIASES:
        what = f"is {sizes.context_length}; ALiBi of {sizes.num_heads} heads runs over {MAX_BIASES // sizes.num_heads}"
        raise UnsupportedModelError(f"{metadata.path}: {metadata.key('context_length')} {what} positions at most")
    return alibi_bias(sizes.num_heads, sizes.context_length - 1, max_bias=max_bias)


def layer_windows(
    metadata: Metadata, sizes: Sizes, pattern: tuple[bool, ...] = (True,), *, window: int = 0
) -> list[int]:
    """Positions that the rows of each layer see, their own the last of them; 0: all.

    The key `attention.sliding_window`, whose absence means `window`, holds for the layers that
    `attention.sliding_window_pattern` names. Where it names none, `pattern` does, again and again.
    """
    window = metadata.integer("attention.sliding_window", window, low=0, high=MAX_CONTEXT)
    usual = [pattern[layer % len(pattern)] for layer in range(sizes.num_layers)]
    layers = metadata.booleans("attention.sliding_window_pattern", usual)
    return [window if slides else 0 for slides in layers]


def sequence_cache(graph: Graph, sizes: Sizes) -> CacheSpec:
    """A decoder's own keys and values, which grow with its tokens."""
    return graph.cache("self", sizes.num_layers, sizes.num_key_value_heads, sizes.key_dim, sizes.value_dim, "sequence")


def caches_by_window(graph: Graph, sizes: Sizes, windows: list[int]) -> list[tuple[CacheSpec, int]]:
    """A decoder's own keys and values: the cache of each layer, and the layer's number in it.

    Layers with a window share a cache, so that it gives back what lies behind; those without share another.
    """
    counts = {"window": sum(window > 0 for window in windows), "self": windows.count(0)}
    shape = (sizes.num_key_value_heads, sizes.key_dim, sizes.value_dim, "sequence")
    caches = {name: graph.cache(name, count, *shape) for name, count in counts.items() if count}
    numbers = {name: iter(range(count)) for name, count in counts.items()}
    names = ["window" if window else "self" for window in windows]
    return [(caches[name], next(numbers[name])) for name in names]


def source_cache(graph: Graph, sizes: Sizes) -> CacheSpec:
    """An encoder's keys and values for each layer of a decoder of these sizes."""
    return graph.cache("cross", sizes.num_layers, sizes.num_key_value_heads, sizes.key_dim, sizes.value_dim, "source")


def pass_cache(graph: Graph, sizes: Sizes) -> CacheSpec:
    """An encoder's own keys and values: one layer after the other in the same place, forgotten after the run."""
    return graph.cache("pass", 1, sizes.num_key_value_heads, sizes.key_dim, sizes.value_dim, "pass")


def head_share_scale(metadata: Metadata, sizes: Sizes, largest: int) -> float:
    """Gemma's scale of scores: one over the root of a head's columns; in the largest, of so many layers, of its share
    in the embeddings' columns.

    That is what llama.cpp does. Where a model has another scale, the file says it.
    """
    columns = sizes.hidden_size // sizes.num_heads if sizes.num_layers == largest else sizes.key_dim
    return metadata.number("attention.scale", power(columns, -1, 2), high=1e6)


def query_key_value(graph: Graph, x: Value, name: str, sizes: Sizes) -> tuple[Value, Value, Value]:
    """The projections `name`_q, `name`_k and `name`_v of the same rows, or `fused_query_key_value` where the file has
    its tensor.
    """
    if graph.has(f"{name}_qkv.weight"):
        return fused_query_key_value(graph, x, name, sizes)
    query = graph.linear(x, f"{name}_q", sizes.num_heads * sizes.key_dim)
    key = graph.linear(x, f"{name}_k", sizes.num_key_value_heads * sizes.key_dim)
    value = graph.linear(x, f"{name}_v", sizes.num_key_value_heads * sizes.value_dim)
    return query, key, value


def check_causal(metadata: Metadata) -> None:
    """Refuse a decoder whose rows are to see what comes after them."""
    if not metadata.boolean("attention.causal", True):
        key = metadata.key("attention.causal")
        raise UnsupportedModelError(f"{metadata.path}: {key} is false; only causal decoders are supported")


def fused_query_key_value(graph: Graph, x: Value, name: str, sizes: Sizes) -> tuple[Value, Value, Value]:
    """The same three projections from one tensor, `name`_qkv: queries, keys and values one below the other."""
    widths = (
        sizes.num_heads * sizes.key_dim,
        sizes.num_key_value_heads * sizes.key_dim,
        sizes.num_key_value_heads * sizes.value_dim,
    )
    query, key, value = (
        graph.linear(x, f"{name}_qkv", width, first_row=sum(widths[:i]), num_rows=sum(widths))
        for i, width in enumerate(widths)
    )
    return query, key, value


def attend(
    graph: Graph,
    query: Value,
    cache: CacheSpec,
    layer: int,
    name: str,
    sizes: Sizes,
    *,
    causal: bool,
    window: int = 0,
    scale: float | None = None,
    soft_cap: float = 0.0,
    bias: PositionBias | None = None,
    sinks: str | None = None,
) -> Value:
    """Attention of queries over a layer of a cache, then `name`_output.

    `scale` is that of the scores; without it, one over the root of a head's columns. `window`: each query sees so many
    positions, its own the last of them; 0: all. `soft_cap`, `bias` and `sinks` are those of `Graph.attention`.
    """
    scale = sizes.key_dim**-0.5 if scale is None else scale
    attended = graph.attention(
        query, cache, layer, causal=causal, scale=scale, window=window, soft_cap=soft_cap, bias=bias, sinks=sinks
    )
    return graph.linear(attended, f"{name}_output", sizes.hidden_size)


def self_attention(
    graph: Graph,
    x: Value,
    cache: CacheSpec,
    layer: int,
    name: str,
    sizes: Sizes,
    *,
    causal: bool,
    bias: PositionBias | None = None,
) -> Value:
    """Multi-head attention of the rows over their own sequence, positions known from the embeddings or the bias."""
    query, key, value = query_key_value(graph, x, name, sizes)
    graph.store_kv(key, value, cache, layer)
    return attend(graph, query, cache, layer, name, sizes, causal=causal, bias=bias)


def store_source(graph: Graph, x: Value, cache: CacheSpec, layer: int, name: str, sizes: Sizes) -> None:
    """Keys and values `name`_k and `name`_v of a source's rows, for `cross_attention`."""
    key = graph.linear(x, f"{name}_k", sizes.num_key_value_heads * sizes.key_dim)
    value = graph.linear(x, f"{name}_v", sizes.num_key_value_heads * sizes.value_dim)
    graph.store_kv(key, value, cache, layer)


def cross_attention(graph: Graph, x: Value, cache: CacheSpec, layer: int, name: str, sizes: Sizes) -> Value:
    """Multi-head attention of the rows over the whole source."""
    query = graph.linear(x, f"{name}_q", sizes.num_heads * sizes.key_dim)
    return attend(graph, query, cache, layer, name, sizes, causal=False)


def feed_forward(graph: Graph, x: Value, block: str, sizes: Sizes, activation: str) -> Value:
    """Two linear layers with the activation between."""
    h = graph.activation(graph.linear(x, f"{block}.ffn_up", sizes.feed_forward_size), activation)
    return graph.linear(h, f"{block}.ffn_down", sizes.hidden_size)


def gated_feed_forward(graph: Graph, x: Value, block: str, sizes: Sizes, activation: str) -> Value:
    """Shazeer 2020: the activation of one linear layer times another, then a third."""
    return gated_product(graph, x, f"{block}.ffn_{{}}", sizes.feed_forward_size, sizes.hidden_size, activation)


def gated_product(graph: Graph, x: Value, names: str, width: int, hidden_size: int, activation: str) -> Value:
    """The same with `gate`, `up` and `down` in the place of ``{}`` in `names`; the first two have `width` rows."""
    gate, up = (graph.linear(x, names.format(part), width) for part in ("gate", "up"))
    return graph.linear(graph.gate(gate, up, activation), names.format("down"), hidden_size)


def fused_gated_feed_forward(graph: Graph, x: Value, block: str, sizes: Sizes, activation: str) -> Value:
    """`gated_feed_forward` whose gate and up projections are one tensor, ffn_up: the gate's rows, then the other's."""
    width = sizes.feed_forward_size
    gate = graph.linear(x, f"{block}.ffn_up", width, num_rows=2 * width)
    up = graph.linear(x, f"{block}.ffn_up", width, first_row=width, num_rows=2 * width)
    return graph.linear(graph.gate(gate, up, activation), f"{block}.ffn_down", sizes.hidden_size)


def language_head(graph: Graph, x: Value, embedding: str, sizes: Sizes) -> Value:
    """Logits: the product with `output`, or with the token embeddings where the file has no matrix of its own."""
    head = "output" if graph.has("output.weight") else embedding
    return graph.linear(x, head, sizes.vocab_size, bias_name="output.bias")
