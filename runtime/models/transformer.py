"""The original encoder-decoder ("Attention Is All You Need", Vaswani et al. 2017) as `torch.nn.Transformer` builds it.

Post- or pre-norm, ReLU or GELU, sinusoidal or learned positions (both are tables in the file), tied or separate
embeddings. The encode program runs a source once and leaves every decoder layer's cross keys and values in the cache;
the decode program reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..graph.architecture import Architecture
from ..graph.domains import POSITIONS, TOKENS
from ..graph.graph import Graph
from ..graph.metadata import MAX_LAYERS, Metadata
from ..graph.values import Value
from .blocks import (
    Shapes,
    Sizes,
    cross_attention,
    feed_forward,
    language_head,
    pass_cache,
    read_sizes,
    self_attention,
    sequence_cache,
    source_cache,
    store_source,
    table_rows,
)
from .heads import HeadSettings, decoder_heads, head_of
from .torch_blocks import LayerSettings, after, before, final_norm, read_settings


@dataclass(frozen=True)
class TransformerConfig(LayerSettings):
    """What both stacks go by."""

    encoder: Sizes
    decoder: Sizes


def read_config(metadata: Metadata, tensors: Shapes) -> TransformerConfig:
    """The sizes from the file's metadata; the vocabularies' sizes from the embeddings."""
    sizes = read_sizes(metadata, tensors)
    return TransformerConfig(
        **vars(read_settings(metadata)),
        encoder=replace(sizes, vocab_size=table_rows(tensors, table(tensors, "enc", "token_embd"))),
        decoder=replace(
            sizes,
            vocab_size=table_rows(tensors, table(tensors, "dec", "token_embd")),
            num_layers=metadata.integer("decoder_block_count", high=MAX_LAYERS),
        ),
    )


def build(metadata: Metadata, tensors: Shapes) -> Architecture:
    """The programs "encode" and "decode"."""
    config = read_config(metadata, tensors)
    start = metadata.integer("decoder_start_token_id", low=0, high=max(config.decoder.vocab_size - 1, 0))
    programs = {"encode": Graph(tensors, metadata.path), "decode": Graph(tensors, metadata.path)}
    encode(programs["encode"], config)
    heads = decode(programs["decode"], metadata, config)
    return Architecture(programs, config.decoder.context_length, decoder_start_token_id=start, **heads)


def encode(graph: Graph, config: TransformerConfig) -> None:
    """A source's token ids to the cross keys and values of every decoder layer."""
    sizes = config.encoder
    own, cross = pass_cache(graph, sizes), source_cache(graph, config.decoder)
    x = embeddings(graph, config, "enc", sizes)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"enc.blk.{layer}"
        h = before(graph, config, x, f"{block}.attn_norm")
        h = self_attention(graph, h, own, 0, f"{block}.attn", sizes, causal=False)
        x = after(graph, config, graph.add(x, h), f"{block}.attn_norm")
        h = feed_forward(graph, before(graph, config, x, f"{block}.ffn_norm"), block, sizes, config.activation)
        x = after(graph, config, graph.add(x, h), f"{block}.ffn_norm")
        graph.tap("layers", x)
    memory = final_norm(graph, config, x, "enc.output_norm")
    graph.output("hidden", memory)
    for layer in range(config.decoder.num_layers):
        store_source(graph, memory, cross, layer, f"dec.blk.{layer}.cross_attn", config.decoder)


def decode(graph: Graph, metadata: Metadata, config: TransformerConfig) -> HeadSettings:
    """Target token ids to logits, or to what a head makes of them, over the source's cross keys and values."""
    sizes = config.decoder
    own, cross = sequence_cache(graph, sizes), source_cache(graph, sizes)
    x = embeddings(graph, config, "dec", sizes)
    graph.tap("layers", x)
    for layer in range(sizes.num_layers):
        block = f"dec.blk.{layer}"
        h = before(graph, config, x, f"{block}.attn_norm")
        h = self_attention(graph, h, own, layer, f"{block}.attn", sizes, causal=True)
        x = after(graph, config, graph.add(x, h), f"{block}.attn_norm")
        h = before(graph, config, x, f"{block}.cross_attn_norm")
        h = cross_attention(graph, h, cross, layer, f"{block}.cross_attn", sizes)
        x = after(graph, config, graph.add(x, h), f"{block}.cross_attn_norm")
        h = feed_forward(graph, before(graph, config, x, f"{block}.ffn_norm"), block, sizes, config.activation)
        x = after(graph, config, graph.add(x, h), f"{block}.ffn_norm")
        graph.tap("layers", x)
    rows = final_norm(graph, config, x, "dec.output_norm")
    graph.output("hidden", rows)
    last = final_norm(graph, config, graph.select(x), "dec.output_norm")
    if head_of(metadata) is None:
        graph.output("logits", language_head(graph, last, table(graph.tensor_shapes, "dec", "token_embd"), sizes))
    return decoder_heads(graph, metadata, rows, last)


def table(tensors: Shapes, side: str, name: str) -> str:
    """The side's own table, or the one that both sides share."""
    return f"{side}.{name}" if f"{side}.{name}.weight" in tensors else name


def embeddings(graph: Graph, config: TransformerConfig, side: str, sizes: Sizes) -> Value:
    """Scaled token embeddings plus positions, normalized where the file says so (BART does)."""
    tokens, positions = (table(graph.tensor_shapes, side, name) for name in ("token_embd", "position_embd"))
    x = graph.embed(TOKENS, tokens, sizes.vocab_size, sizes.hidden_size, scale=config.embedding_scale)
    x = graph.embed(POSITIONS, positions, sizes.context_length, sizes.hidden_size, add=x)
    return final_norm(graph, config, x, f"{side}.token_embd_norm")
