"""OLMo 2: Hugging Face's `Olmo2ForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
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

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What an OLMo 2 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    metadata = decoder_metadata(config, epsilon=1e-5)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    plan_rows(tensors, rows(config, metadata), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS)
    if all(tensor.name != "output.weight" for tensor in tensors.tensors):
        config.notes.append("llama.cpp refuses OLMo 2 without an output matrix of its own")
    if config.values.get("attention_bias"):
        config.notes.append("llama.cpp refuses OLMo 2 with biases in its attention")
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, bias = metadata["embedding_length"], Bias.given(config.get("attention_bias", bool, False))
    query, key, value = query_key_value_rows(metadata, bias)
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        query,
        key,
        value,
        rms_norm("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm", query.shape[0]),
        rms_norm("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm", key.shape[0]),
        attention_output_row(metadata, bias),
        rms_norm("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm", width),
        *gated_feed_forward_rows(metadata, Bias.NONE),
        rms_norm("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm", width),
        rms_norm("output_norm", "model.norm", width),
    ]
