"""BERT (Devlin et al. 2018): bidirectional encoder, learned positions, LayerNorm after each sublayer, GELU
feed-forward.

Metadata keys and tensor names are llama.cpp's; `bert.activation` and `bert.normalize_embeddings` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ModelFormatError, UnsupportedModelError
from ..graph.graph import ACTIVATIONS, MAX_CONTEXT, MAX_LAYERS, Architecture, Graph, Metadata

POOLING_TYPES = {0: None, 1: "mean", 2: "first", 3: "last"}  # llama.cpp's numbers


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT model, in Hugging Face's names."""

    vocab_size: int
    type_vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float
    hidden_act: str
    max_position_embeddings: int
    pooling: str | None


def read_config(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]]) -> BertConfig:
    """The sizes from the file's metadata; the tables' heights from their tensors."""
    pooling_type = metadata.integer("pooling_type", 0, low=0, high=100)
    if pooling_type not in POOLING_TYPES:
        raise UnsupportedModelError(f"{metadata.path}: bert.pooling_type {pooling_type} is not supported")
    if metadata.boolean("attention.causal", False):
        raise UnsupportedModelError(
            f"{metadata.path}: bert.attention.causal is true; only bidirectional BERT is supported"
        )
    config = BertConfig(
        vocab_size=tensors.get("token_embd.weight", (0,))[0],
        type_vocab_size=tensors.get("token_types.weight", (0,))[0],
        hidden_size=metadata.integer("embedding_length"),
        intermediate_size=metadata.integer("feed_forward_length"),
        num_hidden_layers=metadata.integer("block_count", high=MAX_LAYERS),
        num_attention_heads=metadata.integer("attention.head_count", high=8192),
        layer_norm_eps=metadata.number("attention.layer_norm_epsilon", low=0.0, high=1.0),
        hidden_act=metadata.string("activation", "gelu", choices=ACTIVATIONS[1:]),
        max_position_embeddings=metadata.integer("context_length", high=MAX_CONTEXT),
        pooling=POOLING_TYPES[pooling_type],
    )
    if config.hidden_size % config.num_attention_heads:
        raise ModelFormatError(
            metadata.path,
            None,
            "bert.attention.head_count",
            f"{config.num_attention_heads} heads do not divide {config.hidden_size} columns",
        )
    return config


def build(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The model's one program, "encode"."""
    config = read_config(metadata, tensors)
    normalize = metadata.boolean("normalize_embeddings", False)
    graph = Graph(tensors, metadata.path)
    encode(graph, config)
    return Architecture(
        "encoder",
        {"encode": graph},
        config.max_position_embeddings,
        config.vocab_size,
        config,
        normalize_embeddings=normalize,
    )


def encode(graph: Graph, config: BertConfig) -> None:
    """Token ids to hidden states and pooled embeddings."""
    head_dim = config.hidden_size // config.num_attention_heads
    cache = graph.cache("pass", 1, config.num_attention_heads, head_dim, head_dim, "pass")
    x = graph.embed("tokens", "token_embd", config.vocab_size, config.hidden_size)
    x = graph.embed("token_types", "token_types", config.type_vocab_size, config.hidden_size, add=x)
    x = graph.embed("positions", "position_embd", config.max_position_embeddings, config.hidden_size, add=x)
    x = graph.layer_norm(x, "token_embd_norm", config.layer_norm_eps)
    for layer in range(config.num_hidden_layers):
        block = f"blk.{layer}"
        query = graph.linear(x, f"{block}.attn_q", config.hidden_size)
        key = graph.linear(x, f"{block}.attn_k", config.hidden_size)
        value = graph.linear(x, f"{block}.attn_v", config.hidden_size)
        graph.store_kv(key, value, cache, 0)
        attended = graph.attention(query, cache, 0, causal=False, scale=head_dim**-0.5)
        x = graph.add(x, graph.linear(attended, f"{block}.attn_output", config.hidden_size))
        x = graph.layer_norm(x, f"{block}.attn_output_norm", config.layer_norm_eps)
        h = graph.activation(graph.linear(x, f"{block}.ffn_up", config.intermediate_size), config.hidden_act)
        x = graph.add(x, graph.linear(h, f"{block}.ffn_down", config.hidden_size))
        x = graph.layer_norm(x, f"{block}.layer_output_norm", config.layer_norm_eps)
    graph.output("hidden", x)
    if config.pooling is not None:
        pooled = graph.pool(x, config.pooling)
        graph.output("pooled", pooled)
        graph.output("normalized", graph.l2_norm(pooled))
