"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: Hugging Face's `Phi3ForCausalLM` to llama.cpp's keys and tensor names."""

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
    linear,
    plan_rotary,
    plan_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]

NEUTRAL = {  # keys of the published configurations, and the one value that they have
    "attention_bias": False,
    "mlp_bias": False,
    "lm_head_bias": False,
    "full_attn_mod": 1,
    "interpolate_factor": 1,
}


def plan(source: Source) -> Plan:
    """What a Phi-3 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    for key, value in NEUTRAL.items():
        config.expect(key, value)
    metadata = decoder_metadata(config, epsilon=1e-5)
    window = config.get("sliding_window", int, metadata["context_length"])
    if window < 1:
        raise config.fail("sliding_window", "not supported; it is null, or above 0")
    if window < metadata["context_length"]:
        metadata["attention.sliding_window"] = window
        config.notes.append(f"llama.cpp attends to all positions, not to the last {window}, in this architecture")
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(
        tensors,
        config,
        metadata,
        "default",
        "longrope",
        partial=1.0,
        trained_length=4096,
        llama_cpp_divides=True,
    )
    plan_rows(tensors, rows(metadata), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    heads = metadata["attention.head_count"] + 2 * metadata["attention.head_count_kv"]
    layer = "model.layers.{}"
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        rms_norm("blk.{}.attn_norm", f"{layer}.input_layernorm", width),
        linear("blk.{}.attn_qkv", f"{layer}.self_attn.qkv_proj", heads * metadata["attention.key_length"], width),
        attention_output_row(metadata, Bias.NONE),
        rms_norm("blk.{}.ffn_norm", f"{layer}.post_attention_layernorm", width),
        linear("blk.{}.ffn_up", f"{layer}.mlp.gate_up_proj", 2 * hidden_width, width),
        linear("blk.{}.ffn_down", f"{layer}.mlp.down_proj", width, hidden_width),
        rms_norm("output_norm", "model.norm", width),
    ]
