"""Llama (Touvron et al. 2023): decoder-only, RMSNorm first, rotary positions, grouped-query attention, gated SiLU
feed-forward.

Metadata keys and tensor names are llama.cpp's, so the files are exchanged both ways. Query and key rows are stored in
the order that pairs neighbouring columns for the rotation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ModelFormatError, UnsupportedModelError
from ..graph.graph import MAX_CONTEXT, MAX_LAYERS, Architecture, Graph, Metadata, rotary_frequencies


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama model, in Hugging Face's names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    value_dim: int
    rotary_dim: int
    rope_theta: float
    rope_linear_factor: float
    rms_norm_eps: float
    max_position_embeddings: int


def read_config(metadata: Metadata, vocab_size: int) -> LlamaConfig:
    """The sizes from the file's metadata."""
    hidden_size = metadata.integer("embedding_length")
    num_attention_heads = metadata.integer("attention.head_count", high=8192)
    head_dim = metadata.integer("attention.key_length", max(hidden_size // num_attention_heads, 1), high=256)
    rotary_dim = metadata.integer("rope.dimension_count", head_dim, low=2, high=256)
    if rotary_dim % 2:
        what = f"{rotary_dim} columns cannot be rotated in pairs"
        raise ModelFormatError(metadata.path, None, "llama.rope.dimension_count", what)
    scaling = metadata.string("rope.scaling.type", "none", choices=("none", "linear"))
    if metadata.integer("expert_count", 0, low=0):
        raise UnsupportedModelError(f"{metadata.path}: mixture-of-experts models are not supported")
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=metadata.integer("feed_forward_length"),
        num_hidden_layers=metadata.integer("block_count", high=MAX_LAYERS),
        num_attention_heads=num_attention_heads,
        num_key_value_heads=metadata.integer("attention.head_count_kv", num_attention_heads, high=8192),
        head_dim=head_dim,
        value_dim=metadata.integer("attention.value_length", head_dim, high=256),
        rotary_dim=rotary_dim,
        rope_theta=metadata.number("rope.freq_base", 10000.0, low=1.0),
        rope_linear_factor=metadata.number("rope.scaling.factor", 1.0, low=1e-3) if scaling == "linear" else 1.0,
        rms_norm_eps=metadata.number("attention.layer_norm_rms_epsilon", low=0.0, high=1.0),
        max_position_embeddings=metadata.integer("context_length", high=MAX_CONTEXT),
    )


def build(metadata: Metadata, tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The model's one program, "decode"."""
    config = read_config(metadata, vocab_size=tensors.get("token_embd.weight", (0,))[0])
    graph = Graph(tensors, metadata.path)
    decode(graph, config)
    return Architecture("decoder", {"decode": graph}, config.max_position_embeddings, config.vocab_size, config)


def decode(graph: Graph, config: LlamaConfig) -> None:
    """Token ids to logits."""
    cache = graph.cache(
        "self", config.num_hidden_layers, config.num_key_value_heads, config.head_dim, config.value_dim, "sequence"
    )
    frequencies = rotary_frequencies(config.rotary_dim, config.rope_theta) / config.rope_linear_factor
    rotary = graph.rotary(frequencies, factors="rope_freqs.weight" if graph.has("rope_freqs.weight") else None)
    x = graph.embed("tokens", "token_embd", config.vocab_size, config.hidden_size)
    for layer in range(config.num_hidden_layers):
        block = f"blk.{layer}"
        h = graph.rms_norm(x, f"{block}.attn_norm", config.rms_norm_eps)
        query = graph.linear(h, f"{block}.attn_q", config.num_attention_heads * config.head_dim)
        key = graph.linear(h, f"{block}.attn_k", config.num_key_value_heads * config.head_dim)
        value = graph.linear(h, f"{block}.attn_v", config.num_key_value_heads * config.value_dim)
        query = graph.rope(query, rotary, config.num_attention_heads, "neighbours")
        key = graph.rope(key, rotary, config.num_key_value_heads, "neighbours")
        graph.store_kv(key, value, cache, layer)
        attended = graph.attention(query, cache, layer, causal=True, scale=config.head_dim**-0.5)
        x = graph.add(x, graph.linear(attended, f"{block}.attn_output", config.hidden_size))
        h = graph.rms_norm(x, f"{block}.ffn_norm", config.rms_norm_eps)
        gate = graph.linear(h, f"{block}.ffn_gate", config.intermediate_size)
        up = graph.linear(h, f"{block}.ffn_up", config.intermediate_size)
        x = graph.add(x, graph.linear(graph.gate(gate, up, "silu"), f"{block}.ffn_down", config.hidden_size))
    graph.output("hidden", graph.rms_norm(x, "output_norm", config.rms_norm_eps))
    last = graph.rms_norm(graph.select(x), "output_norm", config.rms_norm_eps)
    head = "output" if graph.has("output.weight") else "token_embd"  # tied embeddings
    graph.output("logits", graph.linear(last, head, config.vocab_size))
