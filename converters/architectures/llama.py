"""Llama and its kin, Mistral and Mixtral: Hugging Face's `LlamaForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .experts import ROUTER_TRAINING, expert_rows, read_experts, router_row
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .llama_rows import llama_rows
from .parts import SILU, Row, decoder_metadata, plan_rotary, plan_rows, vocabulary_of

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a Llama checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    config.expect("partial_rotary_factor", 1.0, 1)
    config.expect("rope_interleaved", False)
    metadata = decoder_metadata(config)
    window = sliding_window(config, metadata["context_length"])
    if window:
        metadata["attention.sliding_window"] = window
        config.notes.append(f"llama.cpp attends to all positions, not to the last {window}, in this architecture")
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, llama_cpp_divides=True)
    routed = experts(config, metadata) if "num_local_experts" in config.values else []
    plan_rows(tensors, llama_rows(config, metadata, routed), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS | ROUTER_TRAINING if "expert_count" in metadata else HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def sliding_window(config: Config, context_length: int) -> int:
    """Positions that a row attends to, with its own; 0 where it is all, or the window is as long as the context.

    An absent key means 4,096 to Mistral. Llama has no windows.
    """
    model_type = config.values.get("model_type", "mistral")
    is_llama = model_type == "llama" or "LlamaForCausalLM" in config.get("architectures", list, [])
    has_default = model_type == "mistral" and not is_llama and "sliding_window" not in config.values
    window = config.get("sliding_window", int, 4096 if has_default else context_length)
    if window >= context_length:
        return 0
    if is_llama or window < 1:
        raise config.fail("sliding_window", "not supported; it is null in a Llama, and above 0 in a Mistral")
    return window


def experts(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Mixtral's: a gated feed-forward for each expert, and the router's matrix."""
    read_experts(config, metadata, "num_local_experts")
    mixture = "model.layers.{}.block_sparse_moe"
    return [router_row(metadata, mixture), *expert_rows(metadata, mixture, gate="w1", up="w3", down="w2")]
