"""What the converters of models with routed experts share: their sizes, which layers have them, their matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .huggingface import Config, TensorPlan
from .parts import Bias, Row, gated_feed_forward_rows, linear, plan_rows

__all__ = ["ROUTER_TRAINING", "expert_rows", "plan_qwen_layers", "read_experts", "read_qwen_experts", "router_row"]

# Keys that matter while a router is trained alone.
ROUTER_TRAINING = frozenset({"router_jitter_noise", "output_router_logits", "router_aux_loss_coef"})


def read_experts(config: Config, metadata: dict[str, Any], count_key: str) -> None:
    """Read how many experts there are, and how many a row chooses, into `metadata`.

    Raises
    ------
    ConversionError
        A row would choose more than there are.
    """
    count, used = config.count(count_key), config.count("num_experts_per_tok")
    if used > count:
        raise config.fail("num_experts_per_tok", f"is more than the {count} experts")
    metadata |= {"expert_count": count, "expert_used_count": used}


def read_qwen_experts(config: Config, metadata: dict[str, Any], *, llama_cpp_normalizes: bool) -> None:
    """Read a Qwen's experts into `metadata`, and whether their weights are divided by their sum."""
    config.rename(num_local_experts="num_experts")
    read_experts(config, metadata, "num_experts")
    metadata["expert_feed_forward_length"] = config.count("moe_intermediate_size")
    normalizes = config.get("norm_topk_prob", bool, False)
    if normalizes != llama_cpp_normalizes:
        metadata["expert_weights_norm"] = normalizes
        does = "divides" if llama_cpp_normalizes else "does not divide"
        config.notes.append(f"llama.cpp {does} the weights of this architecture's experts by their sum")


def plan_qwen_layers(tensors: TensorPlan, config: Config, metadata: dict[str, Any], shared: Sequence[Row]) -> None:
    """Plan the feed-forwards of a Qwen: experts and `shared` rows in each `decoder_sparse_step`-th layer but those of
    `mlp_only_layers`, dense ones in the others. The layers' other tensors are planned: there are so many of them.

    Raises
    ------
    ConversionError
        No layer has experts, or a tensor is missing or has another shape.
    """
    layers, mixture = range(metadata["block_count"]), "model.layers.{}.mlp"
    step, dense_ones = config.count("decoder_sparse_step", 1), config.get("mlp_only_layers", list, [])
    routed = [layer for layer in layers if (layer + 1) % step == 0 and layer not in dense_ones]
    if not routed:
        raise config.fail("decoder_sparse_step", "no layer has experts; that is a model of another type")
    if len(routed) < len(layers):
        config.notes.append("llama.cpp refuses this architecture with experts in some layers only")
    if tensors.has(f"{mixture}.experts.gate_up_proj".format(routed[0])):
        experts = joined_expert_rows(metadata, mixture)
    else:
        experts = expert_rows(metadata, mixture, gate="gate_proj", up="up_proj", down="down_proj")
    plan_rows(tensors, [router_row(metadata, mixture), *experts, *shared], routed)
    dense = [layer for layer in layers if layer not in routed]
    plan_rows(tensors, gated_feed_forward_rows(metadata, Bias.NONE), dense)


def router_row(metadata: dict[str, Any], mixture: str) -> Row:
    """The router's matrix."""
    return linear("blk.{}.ffn_gate_inp", f"{mixture}.gate", metadata["expert_count"], metadata["embedding_length"])


def expert_rows(metadata: dict[str, Any], mixture: str, *, gate: str, up: str, down: str) -> list[Row]:
    """The matrices of experts that the checkpoint has apart, by these names, as stacks."""
    count, width, hidden_width = _sizes(metadata)
    wide, narrow = (hidden_width, width), (width, hidden_width)
    return [
        Row(f"blk.{{}}.ffn_{part}_exps", f"{mixture}.experts.{{{{}}}}.{name}", shape, together=count)
        for part, name, shape in (("gate", gate, wide), ("up", up, wide), ("down", down, narrow))
    ]


def joined_expert_rows(metadata: dict[str, Any], mixture: str) -> list[Row]:
    """The same of a checkpoint that stacks them, the gate's rows over those of `up`, as transformers holds them."""
    count, width, hidden_width = _sizes(metadata)
    joined, source = (count, 2 * hidden_width, width), f"{mixture}.experts.gate_up_proj"
    wide, names = (count, hidden_width, width), [f"blk.{{}}.ffn_{part}_exps" for part in ("gate", "up", "down")]
    return [
        Row(names[0], source, wide, stored=joined, transform=lambda array: array[:, :hidden_width], joint=None),
        Row(names[1], source, wide, stored=joined, transform=lambda array: array[:, hidden_width:], joint=None),
        Row(names[2], f"{mixture}.experts.down_proj", (count, width, hidden_width), joint=None),
    ]


def _sizes(metadata: dict[str, Any]) -> tuple[int, int, int]:
    """Experts, columns of the model, columns within an expert."""
    hidden_width = metadata.get("expert_feed_forward_length", metadata["feed_forward_length"])
    return metadata["expert_count"], metadata["embedding_length"], hidden_width
