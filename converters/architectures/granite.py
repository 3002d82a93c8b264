"""Granite: Hugging Face's `GraniteForCausalLM` to llama.cpp's keys and tensor names, which are Llama's but for the
multipliers.
"""

from __future__ import annotations

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .llama_rows import llama_rows
from .parts import SILU, decoder_metadata, plan_rotary, plan_rows, vocabulary_of

__all__ = ["plan"]

MULTIPLIERS = {
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "attention_multiplier": "attention.scale",
    "logits_scaling": "logit_scale",
}


def plan(source: Source) -> Plan:
    """What a Granite checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    metadata = decoder_metadata(config)
    for key, name in MULTIPLIERS.items():
        metadata[name] = config.number(key, 1.0)
        if metadata[name] <= 0:
            raise config.fail(key, "not supported; it must be positive")
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, llama_cpp_divides=True)
    plan_rows(tensors, llama_rows(config, metadata), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, notes)
