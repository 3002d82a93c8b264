"""DeBERTa, its second and its third version, with the vectors of distances as each layer's heads meet them.

A layer projects the same table of distances as it projects its rows; the file has the products, so that nothing about
them is left to compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .encoder_parts import BERT, embedding_rows, encoder_metadata, layer_rows, prefix_of, refuse_decoders, text_side
from .heads import CLASSES, Head, bert_heads, plan_task_head
from .huggingface import HARMLESS, Config, Plan, Source
from .parts import ACTIVATION_NAMES, linear, plan_rows, reordered
from .tensor_plan import ReadTensor, TensorPlan

__all__ = ["plan"]

Float32 = NDArray[np.float32]
TILE = 16  # rows; what is counted by buckets is filled up to whole ones
_WITHOUT_EFFECT = ("tie_word_embeddings", "pooler_dropout", "pooler_hidden_size", "legacy", "padding_idx", "pooler")


def plan(source: Source) -> Plan:
    """What a DeBERTa checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    refuse_decoders(config)
    metadata = encoder_metadata(config, BERT, epsilon=1e-7)
    read_distances(config, metadata)
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    columns = metadata["embedding_length_input"] = config.count("embedding_size", width)
    config.expect("attention_head_size", width // metadata["attention.head_count"], None)
    vocab_size, num_types = config.count("vocab_size"), config.get("type_vocab_size", int, 0)
    stored = config.count("max_position_embeddings", 512)
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, num_types, stored)
    prefix = prefix_of(tensors, "deberta.")
    placed = config.get("position_biased_input", bool, True)
    positions = (metadata["context_length"], 0, stored) if placed else None
    norm_name = f"{prefix}embeddings.LayerNorm"
    rows = embedding_rows(f"{prefix}embeddings", columns, vocab_size, num_types, positions, norm_name, width)
    if columns != width:
        rows.append(linear("token_embd_proj", f"{prefix}embeddings.embed_proj", width, columns))
    plan_rows(tensors, rows)
    layers = layer_rows("blk.{}", f"{prefix}{BERT.layer}", BERT.parts, width, hidden_width)
    plan_rows(tensors, layers[3:], metadata["block_count"])  # but for queries, keys and values
    is_first = tensors.has(f"{prefix}{BERT.layer.format(0)}.attention.self.in_proj.weight")
    (plan_first_attention if is_first else plan_attention)(tensors, config, metadata, f"{prefix}encoder.")
    tensors.ignore(f"{prefix}embeddings.position_ids", f"{prefix}embeddings.position_embeddings.weight")
    heads = bert_heads("", metadata["activation"])
    activation = ACTIVATION_NAMES[config.expect("pooler_hidden_act", *ACTIVATION_NAMES)]
    heads[CLASSES] = Head("classifier", dense="pooler.dense", activation=activation)
    notes += plan_task_head(source, tensors, metadata, heads, "mask_predictions.*", "lm_predictions.*")
    config.finish(HARMLESS | {*_WITHOUT_EFFECT})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def read_distances(config: Config, metadata: dict[str, Any]) -> None:
    """How many buckets the distances have, and how far those go; and what kinds of attention there are."""
    config.expect("relative_attention", True)
    spelled = isinstance(config.values.get("pos_att_type"), str)
    kinds = config.get("pos_att_type", str).lower().split("|") if spelled else config.get("pos_att_type", list)
    if sorted(str(kind).strip() for kind in kinds) != ["c2p", "p2c"]:
        raise config.fail("pos_att_type", "not supported; known is c2p with p2c")
    if config.get("conv_kernel_size", int, 0) > 0:
        raise config.fail("conv_kernel_size", "a convolution beside the first layer is not supported")
    config.get("conv_act", str, "")
    side = config.get("position_buckets", int, -1)
    farthest = config.get("max_relative_positions", int, -1)
    farthest = farthest if farthest > 0 else config.count("max_position_embeddings", 512)
    metadata["attention.relative_buckets_count"] = side if side > 0 else farthest
    if side > 0:
        metadata["attention.relative_max_distance"] = farthest
    if side > 0 and not 4 <= side < 2 * farthest - 3:
        raise config.fail("position_buckets", f"does not go with distances up to {farthest}")


def plan_attention(tensors: TensorPlan, config: Config, metadata: dict[str, Any], encoder: str) -> None:
    """Queries, keys and values of each layer as one tensor, and the vectors of distances that its heads meet."""
    width, num_rows = metadata["embedding_length"], 2 * metadata["attention.relative_buckets_count"]
    table = [tensors.reader(f"{encoder}rel_embeddings.weight", (num_rows, width))]
    kinds = [kind.strip() for kind in config.get("norm_rel_ebd", str, "none").lower().split("|")]
    if "layer_norm" in kinds:
        table += [tensors.reader(f"{encoder}LayerNorm.{part}", (width,)) for part in ("weight", "bias")]
    shared = config.get("share_att_key", bool, False)
    for layer in range(metadata["block_count"]):
        attention = f"{encoder}layer.{layer}.attention.self"
        for part, shape in (("weight", (width, width)), ("bias", (width,))):
            names = [f"{attention}.{name}_proj.{part}" for name in ("query", "key", "value")]
            tensors.take_together(f"blk.{layer}.attn_qkv.{part}", names, shape, new_axis=False)
        projections = [
            (
                tensors.reader(f"{attention}.{name}.weight", (width, width)),
                tensors.reader(f"{attention}.{name}.bias", (width,)),
            )
            for name in (("key_proj", "query_proj") if shared else ("pos_key_proj", "pos_query_proj"))
        ]
        plan_vectors(tensors, f"blk.{layer}.attn_rel.weight", metadata, table, projections)


def plan_first_attention(tensors: TensorPlan, config: Config, metadata: dict[str, Any], encoder: str) -> None:
    """The same of the first version, whose tensor holds queries, keys and values head by head; keys have no bias."""
    width, num_rows = metadata["embedding_length"], 2 * metadata["attention.relative_buckets_count"]
    heads = (metadata["attention.head_count"], 3, -1, width)
    config.expect("talking_head", False)
    table = [tensors.reader(f"{encoder}rel_embeddings.weight", (num_rows, width))]
    for layer in range(metadata["block_count"]):
        attention, target = f"{encoder}layer.{layer}.attention.self", f"blk.{layer}.attn_qkv"
        apart = linear(target, f"{attention}.in_proj", 3 * width, width)
        plan_rows(tensors, [reordered(apart, lambda array: array.reshape(heads).swapaxes(0, 1).reshape(-1, width))])
        query, value = (tensors.reader(f"{attention}.{name}_bias", (width,)) for name in "qv")
        tensors.make(f"{target}.bias", (3 * width,), partial(around_zeros, query, value, width))
        meets = (
            (tensors.reader(f"{attention}.pos_proj.weight", (width, width)), partial(no_bias, width)),
            (
                tensors.reader(f"{attention}.pos_q_proj.weight", (width, width)),
                tensors.reader(f"{attention}.pos_q_proj.bias", (width,)),
            ),
        )
        plan_vectors(tensors, f"blk.{layer}.attn_rel.weight", metadata, table, meets)


def no_bias(count: int) -> Float32:
    """Zeros in place of a bias that the checkpoint does not have."""
    return np.zeros(count, np.float32)


def around_zeros(before: ReadTensor, after: ReadTensor, count: int) -> Float32:
    """The biases of queries and values, and none of keys between them."""
    return np.concatenate([before(), no_bias(count), after()])


def plan_vectors(
    tensors: TensorPlan,
    target: str,
    metadata: dict[str, Any],
    table: list[ReadTensor],
    projections: Sequence[tuple[ReadTensor, ReadTensor]],
) -> None:
    """`target`: for each head the vectors that queries meet, then for each head those that keys meet."""
    num_heads, epsilon = metadata["attention.head_count"], metadata["attention.layer_norm_epsilon"]
    columns = metadata["embedding_length"] // num_heads
    count = -(-2 * metadata["attention.relative_buckets_count"] // TILE) * TILE

    def compute() -> Float32:
        rows = table[0]().astype(np.float64)
        if len(table) > 1:
            centred = rows - rows.mean(1, keepdims=True)
            rows = centred / np.sqrt((centred**2).mean(1, keepdims=True) + epsilon) * table[1]() + table[2]()
        vectors = np.zeros((2, num_heads, count, columns))
        for side, (weight, bias) in enumerate(projections):
            projected = rows @ weight().astype(np.float64).T + bias()
            vectors[side, :, : len(rows)] = projected.reshape(len(rows), num_heads, columns).transpose(1, 0, 2)
        return (vectors / np.sqrt(3 * columns)).astype(np.float32).reshape(-1, columns)

    tensors.make(target, (2 * num_heads * count, columns), compute)
