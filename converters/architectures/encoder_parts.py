"""What the converters of BERT and its successors share: what a family calls its sizes and its tensors.

A layer is attention and feed-forward, each with a norm behind its sum. The families spell its eight parts in their own
ways; the file has llama.cpp's names for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..vocabularies.record import Vocabulary
from .huggingface import Config, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, linear, norm, part, table, vocabulary_of, whole_heads
from .sentences import check_case, sentence_settings

__all__ = [
    "BERT",
    "DISTILBERT",
    "EncoderNames",
    "embedding_rows",
    "encoder_metadata",
    "gated_layer_rows",
    "layer_rows",
    "prefix_of",
    "refuse_decoders",
    "text_side",
]


@dataclass(frozen=True)
class EncoderNames:
    """What a family calls things.

    Attributes
    ----------
    width, layers, heads, feed_forward, activation, epsilon : str
        Keys of the configuration; None as `activation`: nothing to choose.
    layer : str
        Where a layer's tensors are; ``{}`` stands for its number.
    parts : tuple of str
        A layer's tensors, in the order of `layer_rows` or `gated_layer_rows`.
    """

    width: str
    layers: str
    heads: str
    feed_forward: str
    activation: str | None
    layer: str
    parts: tuple[str, ...]
    epsilon: str = "layer_norm_eps"


BERT = EncoderNames(
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "encoder.layer.{}",
    (
        *(f"attention.self.{name}" for name in ("query", "key", "value")),
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    ),
)
DISTILBERT = EncoderNames(
    "dim",
    "n_layers",
    "n_heads",
    "hidden_dim",
    "activation",
    "transformer.layer.{}",
    (
        *(f"attention.{name}_lin" for name in ("q", "k", "v", "out")),
        "sa_layer_norm",
        "ffn.lin1",
        "ffn.lin2",
        "output_layer_norm",
    ),
)


def encoder_metadata(config: Config, names: EncoderNames, epsilon: float = 1e-12) -> dict[str, Any]:
    """The sizes of an encoder, under llama.cpp's keys; `epsilon` is what an absent key means."""
    width, num_heads = whole_heads(config, names.width, names.heads)
    metadata: dict[str, Any] = {
        "embedding_length": width,
        "block_count": config.count(names.layers),
        "feed_forward_length": config.count(names.feed_forward),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number(names.epsilon, epsilon),
        "attention.causal": False,
    }
    if names.activation is not None:
        metadata["activation"] = ACTIVATION_NAMES[config.expect(names.activation, *ACTIVATION_NAMES)]
    return metadata


def refuse_decoders(config: Config) -> None:
    """Settings of BERT that make a decoder of it, or place its rows in another way."""
    config.expect("position_embedding_type", "absolute", None)
    config.expect("is_decoder", False)
    config.expect("add_cross_attention", False)


def prefix_of(tensors: TensorPlan, *prefixes: str) -> str:
    """What the checkpoint puts before its names: nothing, or the base model's name where it has a head."""
    name = "embeddings.word_embeddings.weight"
    return tensors.first(name, *(f"{prefix}{name}" for prefix in prefixes)).removesuffix(name)


def text_side(
    source: Source,
    tensors: TensorPlan,
    metadata: dict[str, Any],
    vocab_size: int,
    num_types: int,
    num_positions: int,
) -> tuple[dict[str, Vocabulary], list[str]]:
    """The vocabulary, and what sentence-transformers' files add to `metadata` and `tensors`; with what is to be said to
    the user.
    """
    vocabularies = vocabulary_of(source, metadata, vocab_size)
    vocabulary = vocabularies["tokenizer.ggml."]
    vocabulary.counts["token_type_count"] = max(num_types, 1)  # llama.cpp asks for one
    notes = sentence_settings(source, tensors, metadata, num_positions)
    check_case(source, vocabulary)
    return vocabularies, notes


def embedding_rows(
    embeddings: str,
    width: int,
    vocab_size: int,
    num_types: int,
    positions: tuple[int, int, int] | None,
    norm_name: str = "",
    norm_width: int = 0,
) -> list[Row]:
    """Tables of the tokens, of their types and of the positions, and the norm of their sum.

    Parameters
    ----------
    embeddings : str
        Where they are in the checkpoint.
    num_types : int
        0: the model has no types.
    positions : tuple of int, optional
        How many the file will have, which row of the checkpoint's is the first of them, and how many it has.
    norm_name, norm_width : str, int
        The norm's, where it stands elsewhere or has other columns.
    """
    rows = [table("token_embd", f"{embeddings}.word_embeddings", vocab_size, width)]
    if num_types:
        rows.append(table("token_types", f"{embeddings}.token_type_embeddings", num_types, width))
    if positions is not None:
        count, first, stored = positions
        rows.append(part(table("position_embd", f"{embeddings}.position_embeddings", count, width), first, stored))
    return [*rows, norm("token_embd_norm", norm_name or f"{embeddings}.LayerNorm", norm_width or width)]


def layer_rows(target: str, source: str, parts: Sequence[str], width: int, hidden_width: int) -> list[Row]:
    """The tensors of a layer with its norms behind the sums, whose `parts` are query, key, value, output and norm of
    the attention; up, down and norm of the feed-forward.
    """
    query, key, value, output, output_norm, up, down, layer_norm = (f"{source}.{name}" for name in parts)
    return [
        linear(f"{target}.attn_q", query, width, width, Bias.NEEDED),
        linear(f"{target}.attn_k", key, width, width, Bias.NEEDED),
        linear(f"{target}.attn_v", value, width, width, Bias.NEEDED),
        linear(f"{target}.attn_output", output, width, width, Bias.NEEDED),
        norm(f"{target}.attn_output_norm", output_norm, width),
        linear(f"{target}.ffn_up", up, hidden_width, width, Bias.NEEDED),
        linear(f"{target}.ffn_down", down, width, hidden_width, Bias.NEEDED),
        norm(f"{target}.layer_output_norm", layer_norm, width),
    ]


def gated_layer_rows(
    target: str,
    source: str,
    parts: Sequence[str],
    width: int,
    hidden_width: int,
    attention_bias: Bias = Bias.NONE,
    down_bias: Bias = Bias.NONE,
) -> list[Row]:
    """The tensors of such a layer with a gate, whose `parts` are attention, its output and norm; gate, up, down and
    norm of the feed-forward.

    Attention is one tensor of queries, keys and values, or the place of three by the names of transformers. Where gate
    and up have one name, they are one tensor, up before gate.
    """
    attention, output, output_norm, gate, up, down, layer_norm = (f"{source}.{name}" for name in parts)
    if parts[0].endswith("self_attn"):
        queries = [linear(f"{target}.attn_{x}", f"{attention}.{x}_proj", width, width, attention_bias) for x in "qkv"]
    else:
        queries = [linear(f"{target}.attn_qkv", attention, 3 * width, width, attention_bias)]
    gates = [linear(f"{target}.ffn_{x}", name, hidden_width, width) for x, name in (("up", up), ("gate", gate))]
    if gate == up:
        gates = [part(row, number * hidden_width, 2 * hidden_width) for number, row in enumerate(gates)]
    return [
        *queries,
        linear(f"{target}.attn_output", output, width, width, attention_bias),
        norm(f"{target}.attn_output_norm", output_norm, width),
        *gates,
        linear(f"{target}.ffn_down", down, width, hidden_width, down_bias),
        norm(f"{target}.layer_output_norm", layer_norm, width),
    ]
