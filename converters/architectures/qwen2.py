"""Qwen2 and Qwen2.5: Hugging Face's `Qwen2ForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    SILU,
    Bias,
    Row,
    attention_output_row,
    decoder_metadata,
    gated_feed_forward_rows,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    rms_norm,
    table,
    vocabulary_of,
)
from .windows import plan_windows

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a Qwen2 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    config.expect("use_mrope", False)
    metadata = decoder_metadata(config)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    plan_rows(tensors, rows(metadata), metadata["block_count"])
    first = config.get("max_window_layers", int, 28)
    plan_windows(config, metadata, lambda layer: layer >= first, window=4096)
    notes = plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width = metadata["embedding_length"]
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        rms_norm("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        *query_key_value_rows(metadata, Bias.NEEDED),
        attention_output_row(metadata, Bias.NONE),
        rms_norm("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
        *gated_feed_forward_rows(metadata, Bias.NONE),
        rms_norm("output_norm", "model.norm", width),
    ]
