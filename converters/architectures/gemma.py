"""Gemma: Hugging Face's `GemmaForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .gemma_parts import GELU, one_more, refusals
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    Bias,
    Row,
    attention_output_row,
    decoder_metadata,
    gated_feed_forward_rows,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a Gemma checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *GELU)
    config.expect("hidden_activation", *GELU, None)
    config.expect("use_bidirectional_attention", None, False)
    metadata = decoder_metadata(config, head_dim=256)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    bias = Bias.given(config.get("attention_bias", bool, False))
    plan_rows(tensors, rows(metadata, bias), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=True)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, [*notes, *refusals(tensors, bias)])


def rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the head's."""
    width = metadata["embedding_length"]
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        one_more("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        *query_key_value_rows(metadata, bias),
        attention_output_row(metadata, bias),
        one_more("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
        *gated_feed_forward_rows(metadata, Bias.NONE),
        one_more("output_norm", "model.norm", width),
    ]
