"""What the converters of the Gemmas share. Gemma multiplies normalized rows by 1 + w; the file has these sums."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...host.exact import power
from .huggingface import Config, TensorPlan
from .parts import (
    Bias,
    Row,
    attention_output_row,
    gated_feed_forward_rows,
    plan_rotary,
    query_key_value_rows,
    reordered,
    rms_norm,
    table,
)

__all__ = [
    "GELU",
    "gemma3_rows",
    "normed_sublayer_rows",
    "one_more",
    "plan_gemma3_rotations",
    "plan_scale",
    "read_cap",
    "refusals",
]

PREFIXES = ("model.", "language_model.model.", "model.language_model.", "")  # of a text's tensors
GELU = ("gelu_pytorch_tanh", "gelu", "gelu_new")  # by "gelu" the first files mean tanh's approximation, too


def one_more(target: str, source: str, width: int) -> Row:
    """The scale of a norm, of which the checkpoint has the part beyond one."""
    return reordered(rms_norm(target, source, width), lambda array: array + np.float32(1))


def refusals(tensors: TensorPlan, bias: Bias, *, own_head: bool = False) -> list[str]:
    """What llama.cpp does not read; `own_head`: it reads a head."""
    has_head = any(tensor.name == "output.weight" for tensor in tensors.tensors)
    if bias is Bias.NEEDED or (has_head and not own_head):
        return ["llama.cpp refuses Gemma with biases in its attention, and Gemma 1 and 2 with a head of its own"]
    return []


def read_cap(config: Config, key: str, usual: float) -> float:
    """A soft cap; 0 for none, which a null says. An absent key means the usual one."""
    if config.values.get(key, usual) is None:
        config.notes.append(f"llama.cpp cannot leave out {key}")
        return 0.0
    cap = config.number(key, usual)
    if not cap > 0:
        raise config.fail(key, "a cap must be above 0, or null")
    return cap


def plan_scale(config: Config, metadata: dict[str, Any], largest: int = 0) -> None:
    """Read `query_pre_attn_scalar` into `metadata`, where it is not what llama.cpp goes by.

    That is the columns of a head, and in the model of `largest` layers a head's share of the embeddings' columns.
    """
    scalar = config.number("query_pre_attn_scalar", 256.0)
    if not scalar > 0:
        raise config.fail("query_pre_attn_scalar", "must be above 0")
    usual = metadata["attention.key_length"]
    if metadata["block_count"] == largest:
        usual = metadata["embedding_length"] // metadata["attention.head_count"]
    if scalar != usual:
        metadata["attention.scale"] = scalar**-0.5 if scalar % 1 else power(int(scalar), -1, 2)
        config.notes.append(f"llama.cpp scales attention by the root of {usual}, not by that of query_pre_attn_scalar")


def normed_sublayer_rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the head's, where each sublayer has a norm before it and one after it."""
    width = metadata["embedding_length"]
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        one_more("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        *query_key_value_rows(metadata, bias),
        attention_output_row(metadata, bias),
        one_more("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm", width),
        one_more("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm", width),
        *gated_feed_forward_rows(metadata, Bias.NONE),
        one_more("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm", width),
        one_more("output_norm", "model.norm", width),
    ]


def gemma3_rows(tensors: TensorPlan, metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor of Gemma 3 but the head's."""
    prefix = next((p for p in PREFIXES if tensors.has(f"{p}embed_tokens.weight")), PREFIXES[0])
    columns, name = metadata["attention.key_length"], "self_attn.{}_norm"
    norms = [one_more(f"blk.{{}}.attn_{x}_norm", f"model.layers.{{}}.{name.format(x)}", columns) for x in "qk"]
    all_rows = [*normed_sublayer_rows(metadata, bias), *norms]
    return [replace(row, source=row.source.replace("model.", prefix, 1)) for row in all_rows]


def plan_gemma3_rotations(tensors: TensorPlan, config: Config, metadata: dict[str, Any]) -> None:
    """Read the rotations of the layers that see all, and the base of those that have a window, into `metadata`."""
    nearby = config.number("rope_local_base_freq", 10000.0)
    kinds = config.section("rope_parameters")
    if kinds is not None and not {"full_attention", "sliding_attention"}.isdisjoint(kinds.values):
        everywhere, windowed = kinds.section("full_attention"), kinds.section("sliding_attention")
        kinds.finish()
        if windowed is not None:
            windowed.expect("rope_type", "default")
            nearby = windowed.number("rope_theta", nearby)
            windowed.finish()
        config.values = {**config.values, "rope_parameters": everywhere.values if everywhere else None}
    plan_rotary(tensors, config, metadata, "default", "linear", theta=1e6)
    metadata["rope.freq_base_swa"] = nearby
