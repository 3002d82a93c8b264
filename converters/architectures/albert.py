"""ALBERT, whose layers share their tensors, and ELECTRA: BERT behind embeddings of fewer columns."""

from __future__ import annotations

from dataclasses import replace

from .encoder_parts import BERT, embedding_rows, encoder_metadata, layer_rows, prefix_of, refuse_decoders, text_side
from .heads import albert_heads, electra_heads, plan_task_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import Bias, linear, plan_rows

__all__ = ["plan"]

ALBERT = replace(
    BERT,
    layer="encoder.albert_layer_groups.{}.albert_layers.0",
    parts=(
        *(f"attention.{name}" for name in ("query", "key", "value", "dense", "LayerNorm")),
        *("ffn", "ffn_output", "full_layer_layer_norm"),
    ),
)
_OF_OLD = ("down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks")  # nothing ever read them


def plan(source: Source) -> Plan:
    """What a checkpoint of either becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    refuse_decoders(config)
    metadata = encoder_metadata(config, BERT)
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    columns = metadata["embedding_length_input"] = config.count("embedding_size", 128)
    is_albert = tensors.has(f"{prefix_of(tensors, 'albert.')}encoder.embedding_hidden_mapping_in.weight")
    num_groups = metadata["layer_group_count"] = read_groups(config, metadata["block_count"], is_albert)
    vocab_size, num_types = config.count("vocab_size"), config.count("type_vocab_size", 2)
    stored = config.count("max_position_embeddings", 512)
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, num_types, stored)
    prefix = prefix_of(tensors, "albert.", "electra.")
    positions = (metadata["context_length"], 0, stored)
    plan_rows(tensors, embedding_rows(f"{prefix}embeddings", columns, vocab_size, num_types, positions))
    names = ALBERT if is_albert else BERT
    if is_albert or columns != width:
        projection = "encoder.embedding_hidden_mapping_in" if is_albert else "embeddings_project"
        plan_rows(tensors, [linear("token_embd_proj", f"{prefix}{projection}", width, columns, Bias.NEEDED)])
    plan_rows(tensors, layer_rows("blk.{}", f"{prefix}{names.layer}", names.parts, width, hidden_width), num_groups)
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    heads = albert_heads(prefix, metadata["activation"]) if is_albert else electra_heads()
    needless = (f"{prefix}pooler.*", "sop_classifier.*", "discriminator_predictions.*")
    notes += plan_task_head(source, tensors, metadata, heads, *needless)
    config.finish(HARMLESS | {"tie_word_embeddings", *_OF_OLD})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def read_groups(config: Config, num_layers: int, is_albert: bool) -> int:
    """How many layers are stored: of an ALBERT as many as it has groups, of an ELECTRA all."""
    if not is_albert:
        return num_layers
    num_groups = config.count("num_hidden_groups", 1)
    if num_layers % num_groups:
        raise config.fail("num_hidden_groups", f"does not divide the {num_layers} layers")
    config.expect("inner_group_num", 1)
    return num_groups
