"""Falcon: Hugging Face's `FalconForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import OLDER_DECODER_HEADS, plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    Bias,
    Row,
    grouped_query_key_value,
    linear,
    norm,
    plan_rotary,
    plan_rows,
    table,
    vocabulary_of,
    whole_heads,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a Falcon checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "transformer.")
    config.rename(n_embed="hidden_size", n_head="num_attention_heads", n_layer="num_hidden_layers")
    config.rename(n_head_kv="num_kv_heads")
    newer = check_kind(config)
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads", 4544, 71)
    metadata: dict[str, Any] = {
        "context_length": config.count("max_position_embeddings", 2048),
        "embedding_length": width,
        "feed_forward_length": config.count("ffn_hidden_size", 4 * width),
        "block_count": config.count("num_hidden_layers", 32),
        "attention.head_count": num_heads,
        "attention.head_count_kv": key_value_heads(config, num_heads, newer),
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "rope.dimension_count": width // num_heads,
        "vocab_size": config.count("vocab_size", 65024),
    }
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata)
    bias = Bias.given(config.get("bias", bool, False))
    norms = norm_rows(config, width, newer)
    plan_rows(tensors, [*norms, *rows(metadata, bias)], metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=True, heads=OLDER_DECODER_HEADS)
    config.finish(HARMLESS | {"ff_factor"})  # ffn_hidden_size says it
    if bias is Bias.NEEDED:
        notes.append("llama.cpp refuses Falcon with biases in its projections")
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def check_kind(config: Config) -> bool:
    """Whether it is of the newer architecture, that of the 40B.

    The first Falcons are refused: their attention stands before the feed-forward, or has ALiBi in bfloat16.
    """
    config.expect("activation", "gelu")
    config.expect("apply_residual_connection_post_layernorm", False)
    if config.get("alibi", bool, False):
        raise config.fail("alibi", "not supported: Falcon adds biases of whole positions that are rounded to bfloat16")
    if not config.get("parallel_attn", bool, True):
        raise config.fail("parallel_attn", "not supported; attention and feed-forward must be side by side")
    return config.get("new_decoder_architecture", bool, config.values.get("model_type") == "RefinedWeb")


def key_value_heads(config: Config, num_heads: int, newer: bool) -> int:
    """As many as the newer configurations say; in the others one, or one a head."""
    given, multi_query = config.count("num_kv_heads", num_heads), config.get("multi_query", bool, True)
    if not newer:
        return 1 if multi_query else num_heads
    if num_heads % given:
        raise config.fail("num_kv_heads", f"does not divide the {num_heads} heads")
    return given


def norm_rows(config: Config, width: int, newer: bool) -> list[Row]:
    """A layer's norms: one for both halves, or in the newer ones that do not say otherwise, one for each."""
    count = config.expect("num_ln_in_parallel_attn", None, 1, 2)
    if not newer or count == 1:
        return [norm("blk.{}.attn_norm", "transformer.h.{}.input_layernorm", width)]
    return [
        norm("blk.{}.attn_norm", "transformer.h.{}.ln_mlp", width),
        norm("blk.{}.attn_norm_2", "transformer.h.{}.ln_attn", width),
    ]


def rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the head's and a layer's norms."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    num_heads, num_kv_heads = metadata["attention.head_count"], metadata["attention.head_count_kv"]
    block, layer = "blk.{}", "transformer.h.{}"
    fused_rows = width + 2 * num_kv_heads * (width // num_heads)
    fused = linear(f"{block}.attn_qkv", f"{layer}.self_attention.query_key_value", fused_rows, width, bias)
    return [
        grouped_query_key_value(fused, num_heads, num_kv_heads),
        linear(f"{block}.attn_output", f"{layer}.self_attention.dense", width, width, bias),
        linear(f"{block}.ffn_up", f"{layer}.mlp.dense_h_to_4h", hidden_width, width, bias),
        linear(f"{block}.ffn_down", f"{layer}.mlp.dense_4h_to_h", width, hidden_width, bias),
        table("token_embd", "transformer.word_embeddings", metadata["vocab_size"], width),
        norm("output_norm", "transformer.ln_f", width),
    ]
