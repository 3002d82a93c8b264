"""Qwen3 with experts: Hugging Face's `Qwen3MoeForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from .experts import ROUTER_TRAINING, plan_qwen_layers, read_qwen_experts
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    SILU,
    check_windows,
    decoder_metadata,
    normed_heads_rows,
    plan_rotary,
    plan_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a checkpoint of Qwen3 with experts becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    metadata = decoder_metadata(config)
    width, num_layers = metadata["embedding_length"], metadata["block_count"]
    check_windows(config, num_layers)
    read_qwen_experts(config, metadata, llama_cpp_normalizes=True)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    plan_rows(tensors, [table("token_embd", "model.embed_tokens", metadata["vocab_size"], width)])
    plan_rows(tensors, normed_heads_rows(config, metadata), num_layers)
    plan_qwen_layers(tensors, config, metadata, [])
    plan_rows(tensors, [rms_norm("output_norm", "model.norm", width)])
    config.notes += plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS | ROUTER_TRAINING)
    notes = ["llama.cpp refuses Qwen3 with biases in its attention"] if config.values.get("attention_bias") else []
    return Plan(metadata, tensors.finish(), vocabularies, notes)
