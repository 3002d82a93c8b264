"""OLMo 2: Hugging Face's `Olmo2ForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    Bias,
    Row,
    decoder_metadata,
    linear,
    plan_head,
    plan_rotary,
    plan_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What an OLMo 2 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    config.expect("hidden_act", "silu")
    metadata = decoder_metadata(config, epsilon=1e-5)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, "default", "linear")
    plan_rows(tensors, rows(config, metadata), metadata["block_count"])
    head = linear("output", "lm_head", metadata["vocab_size"], metadata["embedding_length"])
    plan_head(tensors, config, head, tied=False)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies)


def rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width, head_dim = (
        metadata[key] for key in ("embedding_length", "feed_forward_length", "attention.key_length")
    )
    queries, values = (metadata[f"attention.{key}"] * head_dim for key in ("head_count", "head_count_kv"))
    bias = Bias.given(config.get("attention_bias", bool, False))
    block, layer = "blk.{}", "model.layers.{}"
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        linear(f"{block}.attn_q", f"{layer}.self_attn.q_proj", queries, width, bias),
        linear(f"{block}.attn_k", f"{layer}.self_attn.k_proj", values, width, bias),
        linear(f"{block}.attn_v", f"{layer}.self_attn.v_proj", values, width, bias),
        rms_norm(f"{block}.attn_q_norm", f"{layer}.self_attn.q_norm", queries),
        rms_norm(f"{block}.attn_k_norm", f"{layer}.self_attn.k_norm", values),
        linear(f"{block}.attn_output", f"{layer}.self_attn.o_proj", width, queries, bias),
        rms_norm(f"{block}.post_attention_norm", f"{layer}.post_attention_layernorm", width),
        linear(f"{block}.ffn_gate", f"{layer}.mlp.gate_proj", hidden_width, width),
        linear(f"{block}.ffn_up", f"{layer}.mlp.up_proj", hidden_width, width),
        linear(f"{block}.ffn_down", f"{layer}.mlp.down_proj", width, hidden_width),
        rms_norm(f"{block}.post_ffw_norm", f"{layer}.post_feedforward_layernorm", width),
        rms_norm("output_norm", "model.norm", width),
    ]
