"""Gemma 2: Hugging Face's `Gemma2ForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from .gemma_parts import GELU, normed_sublayer_rows, plan_scale, read_cap, refusals
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import Bias, decoder_metadata, plan_rotary, plan_rows, vocabulary_of
from .windows import plan_alternating_windows

__all__ = ["plan"]

LAYERS_OF_27B = 46


def plan(source: Source) -> Plan:
    """What a Gemma 2 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_activation", *GELU)
    config.expect("hidden_act", *GELU, None)
    config.expect("use_bidirectional_attention", None, False)
    metadata = decoder_metadata(config, head_dim=256)
    plan_scale(config, metadata, LAYERS_OF_27B)
    metadata["attn_logit_softcapping"] = read_cap(config, "attn_logit_softcapping", 50.0)
    metadata["final_logit_softcapping"] = read_cap(config, "final_logit_softcapping", 30.0)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    bias = Bias.given(config.get("attention_bias", bool, False))
    plan_rows(tensors, normed_sublayer_rows(metadata, bias), metadata["block_count"])
    plan_alternating_windows(config, metadata, window=4096, period=2)
    notes = plan_decoder_head(source, tensors, metadata, tied=True)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, [*notes, *refusals(tensors, bias)])
