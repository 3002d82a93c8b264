"""Qwen2 with experts: Hugging Face's `Qwen2MoeForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .experts import ROUTER_TRAINING, plan_qwen_layers, read_qwen_experts
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    SILU,
    Bias,
    Row,
    attention_output_row,
    check_windows,
    decoder_metadata,
    flattened,
    linear,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a checkpoint of Qwen2 with experts becomes.

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
    read_qwen_experts(config, metadata, llama_cpp_normalizes=False)
    metadata["expert_shared_feed_forward_length"] = config.count("shared_expert_intermediate_size")
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    plan_rows(tensors, [table("token_embd", "model.embed_tokens", metadata["vocab_size"], width)])
    plan_rows(tensors, attention_rows(config, metadata), num_layers)
    plan_qwen_layers(tensors, config, metadata, shared_expert_rows(metadata))
    plan_rows(tensors, [rms_norm("output_norm", "model.norm", width)])
    config.notes += plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS | ROUTER_TRAINING)
    return Plan(metadata, tensors.finish(), vocabularies)


def attention_rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """A layer's attention, and the norms before it and before the feed-forward."""
    width = metadata["embedding_length"]
    return [
        rms_norm("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        *query_key_value_rows(metadata, Bias.given(config.get("qkv_bias", bool, True))),
        attention_output_row(metadata, Bias.NONE),
        rms_norm("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
    ]


def shared_expert_rows(metadata: dict[str, Any]) -> list[Row]:
    """The expert that every row has, and the vector that its weight comes from."""
    width, hidden_width = metadata["embedding_length"], metadata["expert_shared_feed_forward_length"]
    shapes = {"gate": (hidden_width, width), "up": (hidden_width, width), "down": (width, hidden_width)}
    gate = Row("blk.{}.ffn_gate_inp_shexp", "model.layers.{}.mlp.shared_expert_gate", (width,))
    return [
        flattened(gate, 1, width),
        *(
            linear(f"blk.{{}}.ffn_{part}_shexp", f"model.layers.{{}}.mlp.shared_expert.{part}_proj", *shape)
            for part, shape in shapes.items()
        ),
    ]
