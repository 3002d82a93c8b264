"""What the converters share: tables of tensors, heads, rotary positions, the head of a language model.

A converter declares its tensors in a table, a row for each with GGUF's name, the checkpoint's and the shape. A row with
``{}`` in its names stands for one tensor a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ..vocabularies.record import Vocabulary
from ..vocabularies.vocabulary import read_vocabulary
from .huggingface import REQUIRED, Config, Required, Source, TensorPlan
from .rotary import plan_rotary

__all__ = [
    "ACTIVATION_NAMES",
    "SILU",
    "Bias",
    "Row",
    "attention_output_row",
    "check_windows",
    "convolution",
    "decoder_metadata",
    "flattened",
    "gated_feed_forward_rows",
    "grouped_query_key_value",
    "is_own_head",
    "linear",
    "norm",
    "normed_heads_rows",
    "part",
    "plan_head",
    "plan_rotary",
    "plan_rows",
    "query_key_value_rows",
    "reordered",
    "rms_norm",
    "table",
    "transposed",
    "vocabulary_of",
    "whole_heads",
]

# The names of torch and transformers for the activations that kernels compute.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh"),
    "relu": "relu",
}

SILU = ("silu", "swish")  # two names of it

Float32 = NDArray[np.float32]
Transform = Callable[[Float32], Float32]


class Bias(Enum):
    """Whether a matrix or a norm has a bias in the checkpoint."""

    NONE = "none"
    NEEDED = "needed"
    OPTIONAL = "optional"
    OR_ZEROS = "or zeros"  # the file has one, of zeros where the checkpoint has none

    @staticmethod
    def given(flag: bool) -> Bias:
        """As a configuration says it."""
        return Bias.NEEDED if flag else Bias.NONE


@dataclass(frozen=True)
class Row:
    """A matrix or a norm, with its bias if it has one.

    Attributes
    ----------
    target, source : str
        Names in the file and in the checkpoint, without ``.weight``; ``{}`` stands for the layer.
    shape : tuple of int
        Of the weights in the file; a bias has the first of these.
    bias : Bias
    stored, stored_bias : tuple of int, optional
        Shapes in the checkpoint, where they are others.
    transform : callable, optional
        From the checkpoint's array to the file's, of the weights and of the bias.
    joint : str or None
        Between the source's name and ``weight``; None where the source's name is whole.
    together : int
        So many tensors of the checkpoint, numbered by ``{{}}`` in the source's name, become one of an axis more.
    """

    target: str
    source: str
    shape: tuple[int, ...]
    bias: Bias = Bias.NONE
    stored: tuple[int, ...] | None = None
    stored_bias: tuple[int, ...] | None = None
    transform: Transform | None = None
    joint: str | None = "."
    together: int = 0


def table(target: str, source: str, rows: int, columns: int) -> Row:
    """Rows picked by token, position or type."""
    return Row(target, source, (rows, columns))


def linear(target: str, source: str, rows: int, columns: int, bias: Bias = Bias.NONE) -> Row:
    """A matrix [outputs, inputs], as torch's `Linear` has it."""
    return Row(target, source, (rows, columns), bias)


def rms_norm(target: str, source: str, width: int) -> Row:
    """A scale alone."""
    return Row(target, source, (width,))


def norm(target: str, source: str, width: int, bias: Bias = Bias.NEEDED) -> Row:
    """A scale and a bias."""
    return Row(target, source, (width,), bias)


def transposed(row: Row) -> Row:
    """The row for a checkpoint that stores matrices as [inputs, outputs], as GPT-2's `Conv1D` does."""
    return replace(row, stored=row.shape[::-1], transform=lambda array: np.ascontiguousarray(array.T))


def flattened(row: Row, *stored: int) -> Row:
    """The row for a checkpoint's tensor of more axes, in the order of its numbers; biases stay as they are."""
    return replace(row, stored=stored, transform=lambda array: array.reshape(row.shape) if array.ndim > 1 else array)


def convolution(target: str, source: str, outputs: int, inputs: int, taps: int, bias: Bias = Bias.NEEDED) -> Row:
    """torch's [outputs, inputs, taps] as a matrix with columns in the order of `Graph.unfold`: tap by tap."""
    row = linear(target, source, outputs, taps * inputs, bias)

    def tap_by_tap(array: Float32) -> Float32:
        if array.ndim == 1:
            return array
        return np.ascontiguousarray(array.transpose(0, 2, 1)).reshape(row.shape)

    return replace(row, stored=(outputs, inputs, taps), transform=tap_by_tap)


def part(row: Row, first: int, stored_rows: int) -> Row:
    """The row for rows from `first` on of a checkpoint's larger tensor."""

    def cut(array: Float32) -> Float32:
        return np.ascontiguousarray(array[first : first + row.shape[0]])

    return replace(row, stored=(stored_rows, *row.shape[1:]), stored_bias=(stored_rows,), transform=cut)


def reordered(row: Row, transform: Transform) -> Row:
    """The row for weights, and a bias, whose shape stays and whose rows are put in another order."""
    return replace(row, transform=transform)


def grouped_query_key_value(row: Row, num_heads: int, num_kv_heads: int) -> Row:
    """The row for a checkpoint that fuses the projections group by group: the queries that share a key-value head, its
    key, its value. The file has all queries, then all keys, then all values.
    """

    def part_by_part(array: Float32) -> Float32:
        groups = array.reshape(num_kv_heads, num_heads // num_kv_heads + 2, -1, *array.shape[1:])
        parts = groups[:, :-2], groups[:, -2], groups[:, -1]
        return np.concatenate([part.reshape(-1, *array.shape[1:]) for part in parts])

    return reordered(row, part_by_part)


def plan_rows(tensors: TensorPlan, rows: Iterable[Row], layers: int | Sequence[int] = 0) -> None:
    """Plan a table. Rows that stand for a layer's tensors and follow each other are taken layer by layer.

    `layers` says how many layers there are, or which of them.

    Raises
    ------
    ConversionError
        A tensor is missing, or has another shape.
    """
    for in_layers, run in groupby(rows, lambda row: "{}" in row.target):
        together = list(run)
        for layer in (range(layers) if isinstance(layers, int) else layers) if in_layers else (0,):
            for row in together:
                _plan_row(tensors, row, row.target.format(layer), row.source.format(layer))


def _plan_row(tensors: TensorPlan, row: Row, target: str, source: str) -> None:
    name = source if row.joint is None else f"{source}{row.joint}weight"
    if row.together:
        tensors.take_together(f"{target}.weight", [name.format(number) for number in range(row.together)], row.shape)
        return
    name = tensors.first(name, f"{source}.gamma")  # old checkpoints have norms by TensorFlow's names
    tensors.take(f"{target}.weight", name, row.shape, row.transform, row.stored)
    if row.bias is Bias.NONE:
        return
    name = tensors.first(f"{source}{row.joint}bias", f"{source}.beta")
    if row.bias is Bias.OR_ZEROS and not tensors.has(name):
        tensors.make(f"{target}.bias", row.shape[:1], lambda: np.zeros(row.shape[0], np.float32))
        return
    optional = row.bias is Bias.OPTIONAL
    tensors.take(f"{target}.bias", name, row.shape[:1], row.transform, row.stored_bias, optional)


def whole_heads(
    config: Config, width_key: str, heads_key: str, width: int | Required = REQUIRED, heads: int | Required = REQUIRED
) -> tuple[int, int]:
    """Columns of a model, and its heads, which share them; `width` and `heads` are what absent keys mean."""
    width, heads = config.count(width_key, width), config.count(heads_key, heads)
    if width % heads:
        raise config.fail(heads_key, f"does not divide {width_key} = {width}")
    return width, heads


def decoder_metadata(
    config: Config, *, head_dim: int | None = None, epsilon: float = 1e-6, layer_norm: bool = False
) -> dict[str, Any]:
    """The sizes of a decoder with rotary positions and grouped heads whose configuration has Llama's names.

    `head_dim` and `epsilon` are what absent keys mean; without `head_dim`, the share of a head in the columns. The
    epsilon is that of RMSNorm, or of `layer_norm`.
    """
    hidden_size, num_heads = config.count("hidden_size"), config.count("num_attention_heads")
    num_kv_heads = config.count("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise config.fail("num_key_value_heads", f"does not divide the {num_heads} heads")
    columns = config.count("head_dim", head_dim or hidden_size // num_heads or 1)
    if columns % 2:
        raise ConversionError(f"{config.path}: heads of {columns} columns cannot be rotated in pairs")
    norm, epsilon_key = ("layer_norm", "layer_norm_eps") if layer_norm else ("layer_norm_rms", "rms_norm_eps")
    return {
        "context_length": config.count("max_position_embeddings"),
        "embedding_length": hidden_size,
        "block_count": config.count("num_hidden_layers"),
        "feed_forward_length": config.count("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.head_count_kv": num_kv_heads,
        f"attention.{norm}_epsilon": config.number(epsilon_key, epsilon),
        "attention.key_length": columns,
        "attention.value_length": columns,
        "rope.dimension_count": columns,
        "vocab_size": config.count("vocab_size"),
    }


def check_windows(config: Config, num_layers: int) -> None:
    """Every layer of a Qwen attends to all that is before; a window is without effect where it is switched off."""
    config.expect("use_sliding_window", False)
    config.get("sliding_window", int, 0)
    config.get("max_window_layers", int, 0)
    given = config.get("layer_types", list, [])
    if given not in ([], ["full_attention"] * min(num_layers, len(given) + 1)):  # no longer list than the one given
        raise config.fail("layer_types", f"not supported; each of the {num_layers} layers must be 'full_attention'")


def query_key_value_rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """The projections of a layer's attention in a checkpoint with Llama's names: queries, keys, values."""
    width, head_dim = metadata["embedding_length"], metadata["attention.key_length"]
    counts = zip("qkv", [metadata["attention.head_count"], *[metadata["attention.head_count_kv"]] * 2], strict=True)
    return [
        linear(f"blk.{{}}.attn_{part}", f"model.layers.{{}}.self_attn.{part}_proj", heads * head_dim, width, bias)
        for part, heads in counts
    ]


def attention_output_row(metadata: dict[str, Any], bias: Bias) -> Row:
    """The product after a layer's attention in a checkpoint with Llama's names."""
    queries = metadata["attention.head_count"] * metadata["attention.value_length"]
    source = "model.layers.{}.self_attn.o_proj"
    return linear("blk.{}.attn_output", source, metadata["embedding_length"], queries, bias)


def normed_heads_rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """A Qwen3 layer's attention, whose heads are normalized, and the norms before it and before the feed-forward."""
    width, head_dim = metadata["embedding_length"], metadata["attention.key_length"]
    bias = Bias.given(config.get("attention_bias", bool, False))
    return [
        rms_norm("blk.{}.attn_norm", "model.layers.{}.input_layernorm", width),
        *query_key_value_rows(metadata, bias),
        rms_norm("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm", head_dim),
        rms_norm("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm", head_dim),
        attention_output_row(metadata, bias),
        rms_norm("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm", width),
    ]


def gated_feed_forward_rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """A layer's gated feed-forward in a checkpoint with Llama's names: gate, up, down."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    shapes = {"gate": (hidden_width, width), "up": (hidden_width, width), "down": (width, hidden_width)}
    return [
        linear(f"blk.{{}}.ffn_{part}", f"model.layers.{{}}.mlp.{part}_proj", *shape, bias)
        for part, shape in shapes.items()
    ]


def vocabulary_of(source: Source, metadata: dict[str, Any], vocab_size: int) -> dict[str, Vocabulary]:
    """The folder's vocabulary, with a token for every row of the embeddings, under GGUF's prefix.

    Where the folder has none, `metadata` says the number of rows: llama.cpp refuses a file that does not.
    """
    vocabulary = read_vocabulary(source.folder, source.config.values).resized(vocab_size)
    if not vocabulary.tokens:
        metadata["vocab_size"] = vocab_size
    return {"tokenizer.ggml.": vocabulary}


def plan_head(
    tensors: TensorPlan, config: Config, *, tied: bool, bias: Bias = Bias.NONE, name: str = "lm_head"
) -> None:
    """The output matrix `name`, if it is not the token embeddings', and its bias. `tied` is what an absent key means.

    It has the embeddings' shape; call it when they are planned.
    """
    rows, columns = next(tensor.shape for tensor in tensors.tensors if tensor.name == "token_embd.weight")
    if is_own_head(tensors, config, "tie_word_embeddings", tied, f"{name}.weight", "token_embd.weight"):
        plan_rows(tensors, [linear("output", name, rows, columns, bias)])
    elif bias is Bias.NEEDED:
        tensors.take("output.bias", f"{name}.bias", (rows,))


def is_own_head(tensors: TensorPlan, config: Config, key: str, tied: bool, stored: str, embedding: str) -> bool:
    """Whether an output matrix is to be taken from the checkpoint's `stored`, though `key` may say that it is the
    `embedding`. One that is tied and has other numbers is kept, as transformers does.
    """
    if not config.get(key, bool, tied):
        return True
    if not tensors.has(stored) or tensors.is_copy(stored, embedding):
        tensors.ignore(stored)  # some files store the tied matrix twice
        return False
    config.notes.append(f"{key} is true, and {stored} differs from the embeddings: it is kept")
    return True
