"""Llama and its kin, Mistral and Mixtral: Hugging Face's `LlamaForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .experts import ROUTER_TRAINING, expert_rows, read_experts, router_row
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
    reordered,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]

Float32 = NDArray[np.float32]


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
    metadata = decoder_metadata(config)
    window = sliding_window(config, metadata["context_length"])
    if window:
        metadata["attention.sliding_window"] = window
        config.notes.append(f"llama.cpp attends to all positions, not to the last {window}, in this architecture")
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, llama_cpp_divides=True)
    plan_rows(tensors, rows(config, metadata), metadata["block_count"])
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


def rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width = metadata["embedding_length"]
    in_attention = Bias.given(config.get("attention_bias", bool, False))
    query, key, value = query_key_value_rows(metadata, in_attention)
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        rms_norm("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        reordered(query, partial(pair_neighbours, num_heads=metadata["attention.head_count"])),
        reordered(key, partial(pair_neighbours, num_heads=metadata["attention.head_count_kv"])),
        value,
        attention_output_row(metadata, in_attention),
        rms_norm("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
        *(experts if "num_local_experts" in config.values else feed_forward)(config, metadata),
        rms_norm("output_norm", "model.norm", width),
    ]


def feed_forward(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """The gated feed-forward of a layer."""
    return gated_feed_forward_rows(metadata, Bias.given(config.get("mlp_bias", bool, False)))


def experts(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Mixtral's: a gated feed-forward for each expert, and the router's matrix."""
    read_experts(config, metadata, "num_local_experts")
    mixture = "model.layers.{}.block_sparse_moe"
    return [router_row(metadata, mixture), *expert_rows(metadata, mixture, gate="w1", up="w3", down="w2")]


def pair_neighbours(array: Float32, num_heads: int) -> Float32:
    """Reorder the rows of each head from Hugging Face's pairs (i, i + d/2) to llama.cpp's pairs (2i, 2i + 1)."""
    halves = array.reshape(num_heads, 2, -1, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
