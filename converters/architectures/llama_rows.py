"""The tensors of Llama and of the decoders that have its names, whose rotation pairs neighbouring columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .huggingface import Config
from .parts import (
    Bias,
    Row,
    attention_output_row,
    gated_feed_forward_rows,
    query_key_value_rows,
    reordered,
    rms_norm,
    table,
)

__all__ = ["llama_rows", "pair_neighbours"]

Float32 = NDArray[np.float32]


def llama_rows(config: Config, metadata: dict[str, Any], feed_forward: Sequence[Row] = ()) -> list[Row]:
    """Every tensor but the head's. `feed_forward` is what stands in the place of a gated one."""
    width = metadata["embedding_length"]
    in_attention = Bias.given(config.get("attention_bias", bool, False))
    query, key, value = query_key_value_rows(metadata, in_attention)
    if not feed_forward:
        feed_forward = gated_feed_forward_rows(metadata, Bias.given(config.get("mlp_bias", bool, False)))
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        rms_norm("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        reordered(query, partial(pair_neighbours, num_heads=metadata["attention.head_count"])),
        reordered(key, partial(pair_neighbours, num_heads=metadata["attention.head_count_kv"])),
        value,
        attention_output_row(metadata, in_attention),
        rms_norm("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
        *feed_forward,
        rms_norm("output_norm", "model.norm", width),
    ]


def pair_neighbours(array: Float32, num_heads: int) -> Float32:
    """Reorder the rows of each head from Hugging Face's pairs (i, i + d/2) to llama.cpp's pairs (2i, 2i + 1)."""
    halves = array.reshape(num_heads, 2, -1, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
