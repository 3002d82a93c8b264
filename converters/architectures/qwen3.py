"""Qwen3: Hugging Face's `Qwen3ForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    SILU,
    Bias,
    Row,
    attention_output_row,
    decoder_metadata,
    gated_feed_forward_rows,
    plan_head,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a Qwen3 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    config.expect("hidden_act", *SILU)
    metadata = decoder_metadata(config, head_dim=128)
    check_windows(config, metadata["block_count"])
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    plan_rows(tensors, rows(config, metadata), metadata["block_count"])
    plan_head(tensors, config, metadata, tied=False)
    config.finish(HARMLESS)
    notes = ["llama.cpp refuses Qwen3 with biases in its attention"] if config.values.get("attention_bias") else []
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def check_windows(config: Config, num_layers: int) -> None:
    """Every layer attends to all that is before; a window is without effect where it is switched off."""
    config.expect("use_sliding_window", False)
    config.get("sliding_window", int, 0)
    config.get("max_window_layers", int, 0)
    given = config.get("layer_types", list, [])
    if given not in ([], ["full_attention"] * min(num_layers, len(given) + 1)):  # no longer list than the one given
        raise config.fail("layer_types", f"not supported; each of the {num_layers} layers must be 'full_attention'")


def rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, head_dim = metadata["embedding_length"], metadata["attention.key_length"]
    bias = Bias.given(config.get("attention_bias", bool, False))
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        rms_norm("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        *query_key_value_rows(metadata, bias),
        rms_norm("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm", head_dim),
        rms_norm("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm", head_dim),
        attention_output_row(metadata, bias),
        rms_norm("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
        *gated_feed_forward_rows(metadata, Bias.NONE),
        rms_norm("output_norm", "model.norm", width),
    ]
