"""GTE: the published checkpoints (model type "new"), and those that transformers 5 writes ("gte")."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...host.exact import power
from .encoder_parts import BERT, embedding_rows, encoder_metadata, gated_layer_rows, prefix_of, text_side
from .heads import CLASSES, MASKED_WORDS, ROW_HEADS, Head, plan_task_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import Bias, plan_rows
from .rotary import plan_rotary

__all__ = ["plan"]

PUBLISHED = replace(
    BERT,
    parts=(
        *("attention.qkv_proj", "attention.o_proj", "attn_ln"),
        *("mlp.up_gate_proj", "mlp.up_gate_proj", "mlp.down_proj", "mlp_ln"),
    ),
)
TRANSFORMERS = replace(
    BERT,
    layer="layers.{}",
    parts=(
        *("self_attn", "self_attn.o_proj", "post_attention_layernorm"),
        *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "post_mlp_layernorm"),
    ),
)
_WITHOUT_EFFECT = ("tie_word_embeddings", "unpad_inputs", "use_memory_efficient_attention", "pack_qkv")


def plan(source: Source) -> Plan:
    """What a GTE checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    metadata = encoder_metadata(config, BERT)
    config.expect("position_embedding_type", "rope", None)
    config.expect("layer_norm_type", "layer_norm")
    config.expect("logn_attention_scale", False)
    config.expect("logn_attention_clip1", False)
    vocab_size, num_types = config.count("vocab_size"), config.get("type_vocab_size", int, 1)
    num_positions = config.count("max_position_embeddings", 8192)
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, num_types, num_positions)
    metadata["rope.dimension_count"] = metadata["embedding_length"] // metadata["attention.head_count"]
    read_rotary(tensors, config, metadata)
    prefix = prefix_of(tensors, "new.", "gte.")
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    plan_rows(tensors, embedding_rows(f"{prefix}embeddings", width, vocab_size, num_types, None))
    stored = PUBLISHED if tensors.has(f"{prefix}{PUBLISHED.layer.format(0)}.attn_ln.weight") else TRANSFORMERS
    biases = (Bias.NEEDED, Bias.NEEDED)
    layers = gated_layer_rows("blk.{}", f"{prefix}{stored.layer}", stored.parts, width, hidden_width, *biases)
    plan_rows(tensors, layers, metadata["block_count"])
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    notes += plan_task_head(source, tensors, metadata, heads_of(tensors, prefix, metadata), f"{prefix}pooler.*")
    config.finish(HARMLESS | {*_WITHOUT_EFFECT})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def read_rotary(tensors: TensorPlan, config: Config, metadata: dict[str, Any]) -> None:
    """The rotary settings: those of transformers, or the published "ntk", a base times `factor` and frequencies
    divided by factor^(2 / columns) for all lengths.
    """
    settings = config.section("rope_scaling")
    if settings is None or settings.get("type", str, settings.get("rope_type", str, "")) != "ntk":
        plan_rotary(tensors, config, metadata, "default", "linear", theta=160000.0)
        return
    factor = settings.number("factor")
    if not 1.0 <= factor < 1e6:
        raise settings.fail("factor", "not from 1 to a million")
    settings.expect("mixed_b", None)
    settings.finish()
    metadata["rope.freq_base"] = config.number("rope_theta", 10000.0) * factor
    metadata["rope.scaling.type"] = "linear"
    metadata["rope.scaling.factor"] = power(factor, 2, metadata["rope.dimension_count"])


def heads_of(tensors: TensorPlan, prefix: str, metadata: dict[str, Any]) -> dict[str, Head]:
    """Where the family has its heads."""
    norm = tensors.first("lm_head.norm.weight", "lm_head.layer_norm.weight").removesuffix(".weight")
    words = Head("lm_head.decoder", dense="lm_head.dense", norm=norm, activation=metadata["activation"])
    return {CLASSES: Head("classifier", dense=f"{prefix}pooler.dense"), MASKED_WORDS: words, **ROW_HEADS}
