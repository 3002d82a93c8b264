"""T5, mT5, umT5 and ByT5: Hugging Face's names to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from ...host.exact import power
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import Row, linear, plan_head, plan_rows, rms_norm, table, vocabulary_of

__all__ = ["plan"]

_CONTEXT = 512  # of configurations that name none, as llama.cpp has it: T5's positions have no end


def plan(source: Source) -> Plan:
    """What a T5 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    config.expect("is_decoder", False)
    kind = config.expect("model_type", "t5", "mt5", "umt5")
    config.expect("scalable_attention", True)  # of umT5's published configurations; nothing has read it
    gated = is_gated(config)
    metadata = read_metadata(config, kind)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    width, vocab_size = metadata["embedding_length"], metadata["vocab_size"]
    shared = tensors.first("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    plan_rows(tensors, [table("token_embd", shared.removesuffix(".weight"), vocab_size, width)])
    for side, stack, num_layers in (
        ("enc", "encoder", metadata["block_count"]),
        ("dec", "decoder", metadata["decoder_block_count"]),
    ):
        layer = "{}" if kind == "umt5" else "0"
        buckets = Row(f"{side}.blk.{layer}.attn_rel_b",
                      f"{stack}.block.{layer}.layer.0.SelfAttention.relative_attention_bias",
                      (metadata["attention.relative_buckets_count"], metadata["attention.head_count"]))  # fmt: skip
        plan_rows(tensors, [buckets, *rows_of_layer(side, f"{stack}.block.{{}}", metadata, gated)], num_layers)
        plan_rows(tensors, [rms_norm(f"{side}.output_norm", f"{stack}.final_layer_norm", width)])
    plan_head(tensors, config, tied=True)
    tensors.ignore("*coder.embed_tokens.weight")  # copies of the shared table
    tensors.ignore("*EncDecAttention.relative_attention_bias.weight")  # of old checkpoints; nothing reads it
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies)


def read_metadata(config: Config, kind: str) -> dict[str, Any]:
    """The sizes, under llama.cpp's keys."""
    width, layers = config.count("d_model"), config.count("num_layers")
    epsilon = config.number("layer_norm_epsilon", 1e-6)
    tied = config.get("tie_word_embeddings", bool, True)
    scaled = config.get("scale_decoder_outputs", bool, tied and kind != "mt5")
    if scaled:
        config.notes.append(f"llama.cpp does not scale the rows before the head: its logits are {width}^0.5 as large")
    return {
        "context_length": config.count("n_positions", _CONTEXT),
        "embedding_length": width,
        "block_count": layers,
        "decoder_block_count": config.count("num_decoder_layers", layers),
        "feed_forward_length": config.count("d_ff"),
        "attention.head_count": config.count("num_heads"),
        "attention.key_length": config.count("d_kv"),
        "attention.value_length": config.count("d_kv"),
        "attention.layer_norm_epsilon": epsilon,  # llama.cpp reads this one, too
        "attention.layer_norm_rms_epsilon": epsilon,
        "attention.relative_buckets_count": config.count("relative_attention_num_buckets", 32),
        "attention.relative_max_distance": config.count("relative_attention_max_distance", 128),
        "logit_scale": power(width, -1, 2) if scaled else 1.0,
        "decoder_start_token_id": config.get("decoder_start_token_id", int, 0),
        "vocab_size": config.count("vocab_size"),
    }


def is_gated(config: Config) -> bool:
    """Whether the feed-forward is that of T5 1.1; the two keys that follow from its name must agree with it."""
    gated = bool(config.expect("feed_forward_proj", "relu", "gated-gelu") == "gated-gelu")
    config.expect("is_gated_act", gated)
    config.expect("dense_act_fn", "gelu_new" if gated else "relu")
    return gated


def rows_of_layer(side: str, layer: str, metadata: dict[str, Any], gated: bool) -> list[Row]:
    """The tensors of a layer of either stack."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    inner, block = metadata["attention.head_count"] * metadata["attention.key_length"], f"{side}.blk.{{}}"
    parts = ["SelfAttention", *(["EncDecAttention"] if side == "dec" else [])]
    targets = [f"{block}.{name}" for name in ("attn", "cross_attn")]
    rows: list[Row] = []
    for index, (target, name) in enumerate(zip(targets, parts, strict=False)):
        rows.append(rms_norm(f"{target}_norm", f"{layer}.layer.{index}.layer_norm", width))
        rows += [linear(f"{target}_{x}", f"{layer}.layer.{index}.{name}.{x}", inner, width) for x in "qkv"]
        rows.append(linear(f"{target}_o", f"{layer}.layer.{index}.{name}.o", width, inner))
    dense = f"{layer}.layer.{len(parts)}.DenseReluDense"
    rows.append(rms_norm(f"{block}.ffn_norm", f"{layer}.layer.{len(parts)}.layer_norm", width))
    if gated:
        rows.append(linear(f"{block}.ffn_gate", f"{dense}.wi_0", hidden_width, width))
    rows.append(linear(f"{block}.ffn_up", f"{dense}.wi_1" if gated else f"{dense}.wi", hidden_width, width))
    return [*rows, linear(f"{block}.ffn_down", f"{dense}.wo", width, hidden_width)]
