"""ViT: Hugging Face's `ViTModel` and `ViTForImageClassification`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...errors import ConversionError
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, flattened, linear, norm, plan_rows, table, whole_heads

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a ViT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads", 768, 12)
    side, patch = config.count("image_size", 224), config.count("patch_size", 16)
    if side % patch:
        raise ConversionError(f"{config.path}: images of {side} pixels are no whole patches of {patch}")
    metadata: dict[str, Any] = {
        "context_length": (side // patch) ** 2,
        "embedding_length": width,
        "block_count": config.count("num_hidden_layers", 12),
        "feed_forward_length": config.count("intermediate_size", 3072),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-12),
        "activation": ACTIVATION_NAMES[config.expect("hidden_act", *ACTIVATION_NAMES)],
        "image_size": side,
        "patch_size": patch,
        "num_channels": config.count("num_channels", 3),
    }
    prefix = "vit." if tensors.has("vit.embeddings.cls_token") else ""
    bias = Bias.given(config.get("qkv_bias", bool, True))
    plan_rows(tensors, rows(prefix, metadata, bias), metadata["block_count"])
    notes = plan_classes(tensors, config, metadata)
    config.finish(HARMLESS | {"encoder_stride", "pooler_act", "pooler_output_size"})
    return Plan(metadata, tensors.finish(), {}, notes)


def plan_classes(tensors: TensorPlan, config: Config, metadata: dict[str, Any]) -> list[str]:
    """The matrix of the classes and their names, where there is one."""
    if tensors.has("classifier.weight"):
        names = config.section("id2label") or Config({}, config.path)
        labels = [names.get(str(number), str) for number in range(len(names.values))]
        row = linear("output", "classifier", len(labels), metadata["embedding_length"], Bias.NEEDED)
        plan_rows(tensors, [row])
        metadata["classifier.output_labels"] = labels
    left_out = tensors.ignore("pooler.*", "vit.pooler.*")
    return [f"left out, for nothing here reads it: {', '.join(left_out)}"] if left_out else []


def rows(prefix: str, metadata: dict[str, Any], qkv_bias: Bias) -> list[Row]:
    """Every tensor of the model but the classes'."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    channels, patch, positions = metadata["num_channels"], metadata["patch_size"], metadata["context_length"] + 1
    tables, block, layer = f"{prefix}embeddings", "blk.{}", f"{prefix}encoder.layer.{{}}"
    patches = linear("patch_embd", f"{tables}.patch_embeddings.projection", width, channels * patch**2, Bias.NEEDED)
    position_table = table("position_embd", f"{tables}.position_embeddings", positions, width)
    return [
        flattened(patches, width, channels, patch, patch),
        replace(flattened(table("class_embd", f"{tables}.cls_token", 1, width), 1, 1, width), joint=None),
        replace(flattened(position_table, 1, positions, width), joint=None),
        norm(f"{block}.attn_norm", f"{layer}.layernorm_before", width),
        linear(f"{block}.attn_q", f"{layer}.attention.attention.query", width, width, qkv_bias),
        linear(f"{block}.attn_k", f"{layer}.attention.attention.key", width, width, qkv_bias),
        linear(f"{block}.attn_v", f"{layer}.attention.attention.value", width, width, qkv_bias),
        linear(f"{block}.attn_output", f"{layer}.attention.output.dense", width, width, Bias.NEEDED),
        norm(f"{block}.ffn_norm", f"{layer}.layernorm_after", width),
        linear(f"{block}.ffn_up", f"{layer}.intermediate.dense", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.output.dense", width, hidden_width, Bias.NEEDED),
        norm("output_norm", f"{prefix}layernorm", width),
    ]
