"""T5 (Raffel et al. 2020): an encoder-decoder that knows positions by biases of its attention alone.

Distances fall into buckets, each head has a bias for each bucket, and all layers of a stack share them; in umT5 (Chung
et al. 2023) each layer has its own. Scores are not scaled. Both forms are read: the first, whose feed-forward has ReLU
and whose rows are scaled before the tied head, and T5 1.1 with gated GELU and a head of its own. Metadata keys and
tensor names are llama.cpp's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..graph.architecture import Architecture
from ..graph.domains import TOKENS
from ..graph.graph import CacheSpec, Graph, Value
from ..graph.metadata import MAX_LAYERS, Metadata
from ..graph.position_bias import PositionBias, bucket_bias, relative_buckets
from ..host.exact import power
from .blocks import (
    Shapes,
    Sizes,
    feed_forward,
    gated_feed_forward,
    language_head,
    pass_cache,
    query_key_value,
    read_sizes,
    sequence_cache,
    source_cache,
    store_source,
)


@dataclass(frozen=True)
class T5Config:
    """What both stacks go by."""

    encoder: Sizes
    decoder: Sizes
    epsilon: float
    num_buckets: int
    max_distance: int
    logit_scale: float


def read_config(metadata: Metadata, tensors: Shapes) -> T5Config:
    """The sizes from the file's metadata; where it does not say so, only the rows before a tied head are scaled."""
    sizes = read_sizes(metadata, tensors)
    num_buckets = metadata.integer("attention.relative_buckets_count", low=4, high=256)
    return T5Config(
        encoder=sizes,
        decoder=replace(sizes, num_layers=metadata.integer("decoder_block_count", sizes.num_layers, high=MAX_LAYERS)),
        epsilon=metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0),
        num_buckets=num_buckets,
        max_distance=metadata.integer(
            "attention.relative_max_distance", max(128, num_buckets), low=num_buckets // 2 + 1, high=1 << 14
        ),
        logit_scale=metadata.number(
            "logit_scale", 1.0 if "output.weight" in tensors else power(sizes.hidden_size, -1, 2), high=1e6
        ),
    )


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The programs "encode" and "decode"."""
    config = read_config(metadata, tensors)
    start = metadata.integer("decoder_start_token_id", low=0, high=max(config.decoder.vocab_size - 1, 0))
    programs = {"encode": Graph(tensors, metadata.path), "decode": Graph(tensors, metadata.path)}
    encode(programs["encode"], config)
    decode(programs["decode"], config)
    return Architecture(programs, config.decoder.context_length, decoder_start_token_id=start)


def encode(graph: Graph, config: T5Config) -> None:
    """A source's token ids to the cross keys and values of every decoder layer."""
    sizes = config.encoder
    own, cross = pass_cache(graph, sizes), source_cache(graph, config.decoder)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"enc.blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", config.epsilon)
        bias = position_bias(graph, config, block, bidirectional=True)
        x = graph.add(x, self_attention(graph, h, own, 0, f"{block}.attn", sizes, bias, causal=False))
        h = graph.rms_norm(x, f"{block}.ffn_norm", config.epsilon)
        x = graph.add(x, any_feed_forward(graph, h, block, sizes))
        graph.tap("layers", x)
    memory = graph.rms_norm(x, "enc.output_norm", config.epsilon)
    graph.output("hidden", memory)
    for layer in range(config.decoder.num_layers):
        store_source(graph, memory, cross, layer, f"dec.blk.{layer}.cross_attn", config.decoder)


def decode(graph: Graph, config: T5Config) -> None:
    """Target token ids to logits, over the source's cross keys and values."""
    sizes = config.decoder
    own, cross = sequence_cache(graph, sizes), source_cache(graph, sizes)
    x = graph.embed(TOKENS, "token_embd", sizes.vocab_size, sizes.hidden_size)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"dec.blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", config.epsilon)
        bias = position_bias(graph, config, block, bidirectional=False)
        x = graph.add(x, self_attention(graph, h, own, layer, f"{block}.attn", sizes, bias, causal=True))
        h = graph.rms_norm(x, f"{block}.cross_attn_norm", config.epsilon)
        query = graph.linear(h, f"{block}.cross_attn_q", sizes.num_heads * sizes.key_dim)
        attended = graph.attention(query, cross, layer, causal=False, scale=1.0)
        x = graph.add(x, graph.linear(attended, f"{block}.cross_attn_o", sizes.hidden_size))
        h = graph.rms_norm(x, f"{block}.ffn_norm", config.epsilon)
        x = graph.add(x, any_feed_forward(graph, h, block, sizes))
        graph.tap("layers", x)
    graph.output("hidden", graph.rms_norm(x, "dec.output_norm", config.epsilon))
    last = graph.rms_norm(graph.select(x), "dec.output_norm", config.epsilon)
    if config.logit_scale != 1.0:
        last = graph.scale(last, config.logit_scale)
    graph.output("logits", language_head(graph, last, "token_embd", sizes))


def position_bias(graph: Graph, config: T5Config, block: str, *, bidirectional: bool) -> PositionBias:
    """A layer's own bias, or that of the stack's first layer, which all share."""
    buckets = relative_buckets(config.num_buckets, config.max_distance, bidirectional=bidirectional)
    side = block.split(".")[0]
    own, shared = f"{block}.attn_rel_b.weight", f"{side}.blk.0.attn_rel_b.weight"
    tensor = own if graph.has(own) else shared
    return bucket_bias(tensor, config.encoder.num_heads, buckets, config.max_distance)


def self_attention(
    graph: Graph, x: Value, cache: CacheSpec, layer: int, name: str, sizes: Sizes, bias: PositionBias, *, causal: bool
) -> Value:
    """Attention of the rows over their own sequence, with the bias and no scale."""
    query, key, value = query_key_value(graph, x, name, sizes)
    graph.store_kv(key, value, cache, layer)
    attended = graph.attention(query, cache, layer, causal=causal, scale=1.0, bias=bias)
    return graph.linear(attended, f"{name}_o", sizes.hidden_size)


def any_feed_forward(graph: Graph, x: Value, block: str, sizes: Sizes) -> Value:
    """With a gate where the file has one."""
    if graph.has(f"{block}.ffn_gate.weight"):
        return gated_feed_forward(graph, x, block, sizes, "gelu_tanh")
    return feed_forward(graph, x, block, sizes, "relu")
