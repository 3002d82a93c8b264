"""The original encoder-decoder ("Attention Is All You Need", Vaswani et al. 2017) as `torch.nn.Transformer` builds it.

Post- or pre-norm, ReLU or GELU, sinusoidal or learned positions (both are tables in the file), tied or separate
embeddings. The encode program runs a source once and leaves every decoder layer's cross keys and values in the cache;
the decode program reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ModelFormatError
from ..graph.graph import ACTIVATIONS, MAX_CONTEXT, MAX_LAYERS, Architecture, CacheSpec, Graph, Metadata, Value


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of the model, in torch.nn.Transformer's names."""

    src_vocab_size: int
    tgt_vocab_size: int
    d_model: int
    nhead: int
    num_encoder_layers: int
    num_decoder_layers: int
    dim_feedforward: int
    activation: str
    norm_first: bool
    layer_norm_eps: float
    embedding_scale: float
    max_length: int

    @property
    def head_dim(self) -> int:
        """Columns of one head."""
        return self.d_model // self.nhead


def read_config(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]]) -> TransformerConfig:
    """The sizes from the file's metadata; the vocabularies' sizes from the embeddings."""
    shared = tensors.get("token_embd.weight", (0,))[0]
    config = TransformerConfig(
        src_vocab_size=tensors.get("enc.token_embd.weight", (shared,))[0],
        tgt_vocab_size=tensors.get("dec.token_embd.weight", (shared,))[0],
        d_model=metadata.integer("embedding_length"),
        nhead=metadata.integer("attention.head_count", high=8192),
        num_encoder_layers=metadata.integer("block_count", high=MAX_LAYERS),
        num_decoder_layers=metadata.integer("decoder_block_count", high=MAX_LAYERS),
        dim_feedforward=metadata.integer("feed_forward_length"),
        activation=metadata.string("activation", choices=ACTIVATIONS[1:]),
        norm_first=metadata.boolean("norm_first"),
        layer_norm_eps=metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0),
        embedding_scale=metadata.number("embedding_scale", 1.0, high=1e6),
        max_length=metadata.integer("context_length", high=MAX_CONTEXT),
    )
    if config.d_model % config.nhead:
        raise ModelFormatError(
            metadata.path,
            None,
            "transformer.attention.head_count",
            f"{config.nhead} heads do not divide {config.d_model} columns",
        )
    return config


def build(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The programs "encode" and "decode"."""
    config = read_config(metadata, tensors)
    start = metadata.integer("decoder_start_token_id", low=0, high=max(config.tgt_vocab_size - 1, 0))
    programs = {"encode": Graph(tensors, metadata.path), "decode": Graph(tensors, metadata.path)}
    encode(programs["encode"], config)
    decode(programs["decode"], config)
    return Architecture(
        "encoder-decoder", programs, config.max_length, config.tgt_vocab_size, config, decoder_start_token_id=start
    )


def encode(graph: Graph, config: TransformerConfig) -> None:
    """A source's token ids to the cross keys and values of every decoder layer."""
    own = graph.cache("pass", 1, config.nhead, config.head_dim, config.head_dim, "pass")
    cross = graph.cache("cross", config.num_decoder_layers, config.nhead, config.head_dim, config.head_dim, "source")
    x = embeddings(graph, config, "enc", config.src_vocab_size)
    for layer in range(config.num_encoder_layers):
        block = f"enc.blk.{layer}"
        h = self_attention(graph, config, before(graph, config, x, f"{block}.attn_norm"), block, own, 0, causal=False)
        x = after(graph, config, graph.add(x, h), f"{block}.attn_norm")
        h = feed_forward(graph, config, before(graph, config, x, f"{block}.ffn_norm"), block)
        x = after(graph, config, graph.add(x, h), f"{block}.ffn_norm")
    memory = final_norm(graph, config, x, "enc.output_norm")
    graph.output("hidden", memory)
    for layer in range(config.num_decoder_layers):
        key = graph.linear(memory, f"dec.blk.{layer}.cross_attn_k", config.d_model)
        value = graph.linear(memory, f"dec.blk.{layer}.cross_attn_v", config.d_model)
        graph.store_kv(key, value, cross, layer)


def decode(graph: Graph, config: TransformerConfig) -> None:
    """Target token ids to logits, over the source's cross keys and values."""
    own = graph.cache("self", config.num_decoder_layers, config.nhead, config.head_dim, config.head_dim, "sequence")
    cross = graph.cache("cross", config.num_decoder_layers, config.nhead, config.head_dim, config.head_dim, "source")
    x = embeddings(graph, config, "dec", config.tgt_vocab_size)
    for layer in range(config.num_decoder_layers):
        block = f"dec.blk.{layer}"
        h = before(graph, config, x, f"{block}.attn_norm")
        h = self_attention(graph, config, h, block, own, layer, causal=True)
        x = after(graph, config, graph.add(x, h), f"{block}.attn_norm")
        h = cross_attention(graph, config, before(graph, config, x, f"{block}.cross_attn_norm"), block, cross, layer)
        x = after(graph, config, graph.add(x, h), f"{block}.cross_attn_norm")
        h = feed_forward(graph, config, before(graph, config, x, f"{block}.ffn_norm"), block)
        x = after(graph, config, graph.add(x, h), f"{block}.ffn_norm")
    graph.output("hidden", final_norm(graph, config, x, "dec.output_norm"))
    last = final_norm(graph, config, graph.select(x), "dec.output_norm")
    head = "output" if graph.has("output.weight") else table(graph, "dec", "token_embd")  # tied embeddings
    graph.output("logits", graph.linear(last, head, config.tgt_vocab_size, bias_name="output.bias"))


def table(graph: Graph, side: str, name: str) -> str:
    """The side's own table, or the one that both sides share."""
    return f"{side}.{name}" if graph.has(f"{side}.{name}.weight") else name


def embeddings(graph: Graph, config: TransformerConfig, side: str, vocab_size: int) -> Value:
    """Scaled token embeddings plus positions, normalized where the file says so (BART does)."""
    x = graph.embed(
        "tokens", table(graph, side, "token_embd"), vocab_size, config.d_model, scale=config.embedding_scale
    )
    x = graph.embed("positions", table(graph, side, "position_embd"), config.max_length, config.d_model, add=x)
    return final_norm(graph, config, x, f"{side}.token_embd_norm")


def before(graph: Graph, config: TransformerConfig, x: Value, norm: str) -> Value:
    """What a sublayer reads: x, normalized in pre-norm models."""
    return graph.layer_norm(x, norm, config.layer_norm_eps) if config.norm_first else x


def after(graph: Graph, config: TransformerConfig, x: Value, norm: str) -> Value:
    """What follows a sublayer's residual sum: x, normalized in post-norm models."""
    return x if config.norm_first else graph.layer_norm(x, norm, config.layer_norm_eps)


def self_attention(
    graph: Graph, config: TransformerConfig, h: Value, block: str, cache: CacheSpec, layer: int, *, causal: bool
) -> Value:
    """Multi-head attention of the rows over their own sequence."""
    query = graph.linear(h, f"{block}.attn_q", config.d_model)
    key = graph.linear(h, f"{block}.attn_k", config.d_model)
    value = graph.linear(h, f"{block}.attn_v", config.d_model)
    graph.store_kv(key, value, cache, layer)
    attended = graph.attention(query, cache, layer, causal=causal, scale=config.head_dim**-0.5)
    return graph.linear(attended, f"{block}.attn_output", config.d_model)


def cross_attention(
    graph: Graph, config: TransformerConfig, h: Value, block: str, cache: CacheSpec, layer: int
) -> Value:
    """Multi-head attention of the target's rows over the whole source."""
    query = graph.linear(h, f"{block}.cross_attn_q", config.d_model)
    attended = graph.attention(query, cache, layer, causal=False, scale=config.head_dim**-0.5)
    return graph.linear(attended, f"{block}.cross_attn_output", config.d_model)


def feed_forward(graph: Graph, config: TransformerConfig, h: Value, block: str) -> Value:
    """Two linear layers with the activation between."""
    h = graph.activation(graph.linear(h, f"{block}.ffn_up", config.dim_feedforward), config.activation)
    return graph.linear(h, f"{block}.ffn_down", config.d_model)


def final_norm(graph: Graph, config: TransformerConfig, x: Value, name: str) -> Value:
    """LayerNorm where the file has it, else x."""
    return graph.layer_norm(x, name, config.layer_norm_eps) if graph.has(f"{name}.weight") else x
