"""OPT: Hugging Face's `OPTForCausalLM` to keys and tensor names in llama.cpp's style."""

from __future__ import annotations

from typing import Any

import numpy as np

from .heads import OLDER_DECODER_HEADS, plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    ACTIVATION_NAMES,
    Bias,
    Row,
    linear,
    norm,
    part,
    plan_rows,
    table,
    vocabulary_of,
    whole_heads,
)

__all__ = ["plan"]

FIRST_POSITION = 2  # the rows before it are never looked up


def plan(source: Source) -> Plan:
    """What an OPT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads", 768, 12)
    norm_first = config.get("do_layer_norm_before", bool, True)
    metadata: dict[str, Any] = {
        "context_length": config.count("max_position_embeddings", 2048),
        "embedding_length": width,
        "token_embedding_length": config.count("word_embed_proj_dim", width),
        "feed_forward_length": config.count("ffn_dim", 3072),
        "block_count": config.count("num_hidden_layers", 12),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": 1e-5,  # torch's, which no configuration changes
        "activation": ACTIVATION_NAMES[config.expect("activation_function", "relu", *ACTIVATION_NAMES)],
        "norm_first": norm_first,
        "vocab_size": config.count("vocab_size", 50272),
    }
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    prefix = "model.decoder" if tensors.has("model.decoder.embed_tokens.weight") else "decoder"
    without_last = config.get("_remove_final_layer_norm", bool, False)  # the first files' last norm was a mistake
    norms = norm_rows(prefix, width, norm_first and not without_last)
    if config.get("layer_norm_elementwise_affine", bool, True):
        plan_rows(tensors, norms, metadata["block_count"])
    else:
        make_norms(tensors, norms, metadata["block_count"])
    bias = Bias.given(config.get("enable_bias", bool, True))
    plan_rows(tensors, rows(prefix, metadata, bias), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=True, heads=OLDER_DECODER_HEADS)
    config.finish(HARMLESS | {"init_std", "layerdrop"})
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def norm_rows(prefix: str, width: int, has_last: bool) -> list[Row]:
    """The norms of a layer, and the last one where there is any."""
    last = [norm("output_norm", f"{prefix}.final_layer_norm", width)] if has_last else []
    return [
        norm("blk.{}.attn_norm", f"{prefix}.layers.{{}}.self_attn_layer_norm", width),
        norm("blk.{}.ffn_norm", f"{prefix}.layers.{{}}.final_layer_norm", width),
        *last,
    ]


def make_norms(tensors: TensorPlan, norms: list[Row], num_layers: int) -> None:
    """Norms that have neither scales nor biases in the checkpoint have those that change nothing in the file."""
    for row in norms:
        for layer in range(num_layers if "{}" in row.target else 1):
            name = row.target.format(layer)
            ones, zeros = np.ones(row.shape, np.float32), np.zeros(row.shape, np.float32)
            tensors.make(f"{name}.weight", row.shape, ones.copy)
            tensors.make(f"{name}.bias", row.shape, zeros.copy)


def rows(prefix: str, metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the norms and the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    positions, narrow = metadata["context_length"], metadata["token_embedding_length"]
    block, layer = "blk.{}", f"{prefix}.layers.{{}}"
    projections = [
        linear("token_embd_proj", f"{prefix}.project_in", width, narrow),
        linear("output_proj", f"{prefix}.project_out", narrow, width),
    ]
    return [
        table("token_embd", f"{prefix}.embed_tokens", metadata["vocab_size"], narrow),
        *(projections if narrow != width else []),
        part(
            table("position_embd", f"{prefix}.embed_positions", positions, width),
            FIRST_POSITION,
            positions + FIRST_POSITION,
        ),
        *(linear(f"{block}.attn_{x}", f"{layer}.self_attn.{x}_proj", width, width, bias) for x in "qkv"),
        linear(f"{block}.attn_output", f"{layer}.self_attn.out_proj", width, width, bias),
        linear(f"{block}.ffn_up", f"{layer}.fc1", hidden_width, width, bias),
        linear(f"{block}.ffn_down", f"{layer}.fc2", width, hidden_width, bias),
    ]
