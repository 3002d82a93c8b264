"""BLOOM: Hugging Face's `BloomForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import OLDER_DECODER_HEADS, plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    Bias,
    Row,
    grouped_query_key_value,
    linear,
    norm,
    plan_rows,
    table,
    vocabulary_of,
    whole_heads,
)

__all__ = ["plan"]

# What the first files say of the program that trained them, and whether sums are taken in its order.
OF_TRAINING = frozenset(
    {"attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion", "skip_bias_add", "skip_bias_add_qkv"}
    | {"offset_alibi", "slow_but_exact"}
)


def plan(source: Source) -> Plan:
    """What a BLOOM checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    if config.values.get("architectures") == ["BloomModel"]:  # the first files, whose head is the embeddings
        config.values = {**config.values, "architectures": ["BloomForCausalLM"]}
    config.rename(n_embed="hidden_size", num_attention_heads="n_head", num_hidden_layers="n_layer")
    width, num_heads = whole_heads(config, "hidden_size", "n_head", 64, 8)
    config.expect("apply_residual_connection_post_layernorm", False)
    metadata: dict[str, Any] = {
        "context_length": config.count("seq_length", 2048),
        "embedding_length": width,
        "feed_forward_length": config.count("n_inner", 4 * width),
        "block_count": config.count("n_layer", 2),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "vocab_size": config.count("vocab_size", 250880),
    }
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    prefix = "transformer." if tensors.has("transformer.word_embeddings.weight") else ""
    plan_rows(tensors, rows(prefix, metadata), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=True, heads=OLDER_DECODER_HEADS)
    config.finish(HARMLESS | OF_TRAINING)
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(prefix: str, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, layer, num_heads = "blk.{}", f"{prefix}h.{{}}", metadata["attention.head_count"]
    fused = linear(f"{block}.attn_qkv", f"{layer}.self_attention.query_key_value", 3 * width, width, Bias.NEEDED)
    return [
        table("token_embd", f"{prefix}word_embeddings", metadata["vocab_size"], width),
        norm("token_embd_norm", f"{prefix}word_embeddings_layernorm", width),
        norm(f"{block}.attn_norm", f"{layer}.input_layernorm", width),
        grouped_query_key_value(fused, num_heads, num_heads),
        linear(f"{block}.attn_output", f"{layer}.self_attention.dense", width, width, Bias.NEEDED),
        norm(f"{block}.ffn_norm", f"{layer}.post_attention_layernorm", width),
        linear(f"{block}.ffn_up", f"{layer}.mlp.dense_h_to_4h", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.mlp.dense_4h_to_h", width, hidden_width, Bias.NEEDED),
        norm("output_norm", f"{prefix}ln_f", width),
    ]
