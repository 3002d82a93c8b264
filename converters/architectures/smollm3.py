"""SmolLM3: Hugging Face's `SmolLM3ForCausalLM` to llama.cpp's keys and tensor names, which are Llama's."""

from __future__ import annotations

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .llama_rows import llama_rows
from .parts import SILU, decoder_metadata, plan_rotary, plan_rows, vocabulary_of
from .windows import plan_windows

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a SmolLM3 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    metadata = decoder_metadata(config)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, theta=2000000.0)
    plan_rows(tensors, llama_rows(config, metadata), metadata["block_count"])
    rotates = rotated_layers(config, metadata["block_count"])
    if rotates != [layer % 4 != 3 for layer in range(len(rotates))]:
        metadata["attention.rope_pattern"] = rotates
        config.notes.append("llama.cpp rotates all layers but every fourth, whatever the file says")
    plan_windows(config, metadata, lambda layer: not rotates[layer])
    notes = plan_decoder_head(source, tensors, metadata, tied=True)
    config.finish(HARMLESS | {"max_window_layers"})  # of Qwen2, whose configuration this began as
    if config.values.get("attention_bias") or config.values.get("mlp_bias"):
        notes.append("llama.cpp refuses SmolLM3 with biases")
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rotated_layers(config: Config, count: int) -> list[bool]:
    """Whether each layer's queries and keys are rotated: by a list of 1 and 0, or all but every so many-th."""
    interval = config.count("no_rope_layer_interval", 4)
    flags = config.get("no_rope_layers", list, [int((layer + 1) % interval != 0) for layer in range(count)])
    if len(flags) < count or any(flag not in (0, 1) for flag in flags):
        raise config.fail("no_rope_layers", f"not a 1 or a 0 for each of the {count} layers")
    return [flag == 1 for flag in flags[:count]]
