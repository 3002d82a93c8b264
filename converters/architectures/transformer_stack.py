"""State dicts around `torch.nn.TransformerEncoder`, read in both directions or causal, and around a
`torch.nn.TransformerDecoder` that has no source; with torch's own argument names in config.json.

Torch names what is inside the layers. What stands around them has the names of its script: the usual ones are found,
others are said under ``names``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError, quote
from .bare import plain_vocabulary, shares_embeddings
from .heads import RANK
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, is_own_head, linear, norm, plan_rows, table, whole_heads
from .sentences import POOLING_TYPES
from .sinusoids import sinusoidal_table
from .torch_rows import rows_of_layer, sinusoids

__all__ = ["plan"]

Float32 = NDArray[np.float32]

# Where scripts keep what stands around the layers, the likeliest first.
NAMES = {
    "layers": ("encoder", "transformer_encoder", "transformer", "decoder", "transformer_decoder", "model"),
    "embedding": ("embedding", "embed", "token_embedding", "tok_emb", "item_embedding", "src_embed", "emb", "encoder"),
    "positions": ("pos_embedding", "pos_embed", "position_embedding", "pos_emb", "pos_encoder", "positional_encoding"),
    "embedding_norm": ("embedding_norm", "embed_norm"),
    "norm": ("norm", "ln_f", "final_norm"),
    "dense": ("dense", "pre_classifier"),
    "head": ("classifier", "head", "fc", "output", "lm_head", "generator", "fc_out", "linear", "decoder"),
}
POOLINGS = {"mean": "mean", "first": "cls", "last": "lasttoken"}
HEADS = ("classes", "token_classes", "words", None)
CROSS = "multihead_attn"


def plan(source: Source) -> Plan:
    """What such a checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "d_model", "nhead", 512, 8)
    causal = config.expect("model_type", "transformer_encoder", "transformer_decoder") == "transformer_decoder"
    metadata: dict[str, Any] = {
        "context_length": config.count("max_length"),
        "embedding_length": width,
        "block_count": config.count("num_layers"),
        "feed_forward_length": config.count("dim_feedforward", 2048),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5),
        "attention.causal": causal,
        "norm_first": config.get("norm_first", bool, False),
        "activation": ACTIVATION_NAMES[config.expect("activation", "relu", "gelu")],
        "embedding_scale": math.sqrt(width) if config.get("scale_embedding", bool, False) else 1.0,
    }
    vocab_size = config.count("vocab_size")
    vocabularies = plain_vocabulary(source, metadata, vocab_size)
    find = names_of(config, tensors)
    plan_rows(tensors, [table("token_embd", find("embedding"), vocab_size, width)])
    plan_positions(tensors, config, metadata, find("positions"))
    if tensors.has(f"{find('embedding_norm')}.weight"):
        plan_rows(tensors, [norm("token_embd_norm", find("embedding_norm"), width, Bias.OR_ZEROS)])
    plan_layers(tensors, config, metadata, find)
    if causal:
        config.expect("head", "words", None)
        plan_words(tensors, config, find("head"), vocab_size, width)
    else:
        plan_head(tensors, config, metadata, find, vocab_size)
    config.finish(HARMLESS | {"batch_first", "tokenizer"})
    return Plan(metadata, tensors.finish(), vocabularies)


def names_of(config: Config, tensors: TensorPlan) -> Callable[[str], str]:
    """A function that says where the checkpoint keeps one of `NAMES`: as ``names`` has it, else by the usual names."""
    given = config.section("names") or Config({}, config.path)
    said = {role: given.get(role, str, "") for role in NAMES}
    given.finish()

    def find(role: str) -> str:
        usual = NAMES[role]
        if role == "layers":
            usual = tuple(f"{name}.layers.{{}}" for name in usual)
            there = [name for name in usual if tensors.has(f"{name.format(0)}.linear1.weight")]
        elif role == "norm":  # torch keeps it beside the layers
            usual = (find("layers").removesuffix("layers.{}") + "norm", *usual)
            there = [name for name in usual if tensors.has(f"{name}.weight")]
        else:
            there = [name for name in usual if any(tensors.has(f"{name}{end}") for end in (".weight", ".pe", ""))]
        return said[role] or (there or usual)[0]

    return find


def plan_positions(tensors: TensorPlan, config: Config, metadata: dict[str, Any], name: str) -> None:
    """The table of positions: computed, the checkpoint's, or zero."""
    encoding = config.section("positional_encoding")
    if encoding is None:
        raise ConversionError(f"{config.path}: positional_encoding is missing: sinusoidal, learned or none?")
    length, width = shape = metadata["context_length"], metadata["embedding_length"]
    kind = encoding.expect("type", "sinusoidal", "learned", "none")
    stored = tensors.first(f"{name}.weight", f"{name}.pe", name)
    if kind == "sinusoidal":
        compute = partial(sinusoidal_table, length, *sinusoids(encoding, width))
        tensors.make("position_embd.weight", shape, compute)
        tensors.ignore(stored)  # a buffer with the same numbers
    elif kind == "none":
        tensors.make("position_embd.weight", shape, lambda: np.zeros(shape, np.float32))
    else:
        found = tensors.checkpoint.info(stored).shape if tensors.has(stored) else shape
        if math.prod(found) < length * width or found[-1] != width or max(found[:-1]) != math.prod(found[:-1]):
            raise config.fail("max_length", f"the positions {quote(stored)} have the shape {tuple(found)}")
        tensors.take("position_embd.weight", stored, shape, lambda a: a.reshape(-1, width)[:length].copy(), found)
    encoding.finish()


def plan_layers(tensors: TensorPlan, config: Config, metadata: dict[str, Any], find: Callable[[str], str]) -> None:
    """The layers and the norm behind them; those of a decoder without what they attend to."""
    layer, width = find("layers"), metadata["embedding_length"]
    has_cross = tensors.has(f"{layer.format(0)}.{CROSS}.in_proj_weight")
    if has_cross and config.expect("memory", None, "zeros") is None:
        what = f'the layers attend to a memory ({CROSS}); of zeros? then say "memory": "zeros"'
        raise ConversionError(f"{config.path}: {what}; a model that reads a source is a torch.nn.Transformer")
    rows = rows_of_layer("dec" if has_cross else "enc", layer, metadata)
    rows = [replace(row, target=row.target.split(".", 1)[1]) for row in rows if f".{CROSS}." not in row.source]
    if has_cross:  # what attending to zeros gives is the same for every row: it goes into the bias before
        first = metadata["norm_first"]
        changed, dropped = ("attn_output", "cross_attn_norm") if first else ("attn_norm", "")
        rows = [row for row in rows if not row.target.endswith(f".{dropped}") or not dropped]
        rows = [replace(row, bias=Bias.NONE) if row.target == f"blk.{{}}.{changed}" else row for row in rows]
    plan_rows(tensors, rows, metadata["block_count"])
    for index in range(metadata["block_count"]) if has_cross else ():
        here = layer.format(index)
        bias = f"{here}.self_attn.out_proj.bias" if first else f"{here}.norm1.bias"
        tensors.take(f"blk.{index}.{changed}.bias", bias, (width,), partial(plus_constant, tensors, here))
        tensors.ignore(f"{here}.{CROSS}.*", *([f"{here}.norm2.*"] if first else []))
    if tensors.has(f"{find('norm')}.weight"):
        plan_rows(tensors, [norm("output_norm", find("norm"), width, Bias.OR_ZEROS)])
    check_bias = config.get("bias", bool, True)
    if tensors.has(f"{layer.format(0)}.linear1.bias") != check_bias:
        raise config.fail("bias", f"the tensor {layer.format(0)}.linear1.bias says otherwise")


def plus_constant(tensors: TensorPlan, layer: str, bias: Float32) -> Float32:
    """A bias plus what a decoder's layer makes of a memory of zeros: the values are the bias of their projection."""
    read, name = tensors.checkpoint.read, f"{layer}.{CROSS}"
    values = read(f"{name}.in_proj_bias")[2 * len(bias) :].astype(np.float64)
    constant = read(f"{name}.out_proj.weight").astype(np.float64) @ values + read(f"{name}.out_proj.bias")
    return (bias + constant).astype(np.float32)


def plan_words(tensors: TensorPlan, config: Config, name: str, vocab_size: int, width: int) -> None:
    """The matrix of the logits of tokens, if it is not the embeddings'."""
    stored = f"{name}.weight"
    if is_own_head(tensors, config, "tie_head", shares_embeddings(tensors, stored), stored, "token_embd.weight"):
        plan_rows(tensors, [linear("output", name, vocab_size, width)])
    tensors.take("output.bias", f"{name}.bias", (vocab_size,), optional=True)


def plan_head(
    tensors: TensorPlan, config: Config, metadata: dict[str, Any], find: Callable[[str], str], vocab_size: int
) -> None:
    """What stands on the rows of a stack that reads both ways: classes, masked words, or nothing but a pooling."""
    head, width = config.expect("head", *HEADS), metadata["embedding_length"]
    pooling = config.expect("pooling", None, *POOLINGS)
    if head in ("classes", None) and pooling is None:
        raise ConversionError(f"{config.path}: pooling is missing: {', '.join(POOLINGS)}?")
    number = POOLING_TYPES[POOLINGS[pooling]] if pooling else 0
    if head is None:
        metadata["pooling_type"] = number
        return
    metadata["head"] = head
    if tensors.has(f"{find('dense')}.weight"):
        metadata["head.activation"] = config.expect("head_activation", "tanh", "relu", "gelu")
        hidden = int(tensors.checkpoint.info(f"{find('dense')}.weight").shape[0])
        plan_rows(tensors, [linear("cls", find("dense"), hidden, width, Bias.OPTIONAL)])
        width = hidden
    if head == "words":
        plan_words(tensors, config, find("head"), vocab_size, width)
        return
    labels = [str(label) for label in config.get("labels", list, [])]
    count = len(labels) or config.count("num_classes")
    config.expect("num_classes", count, None)
    plan_rows(tensors, [linear("cls.output", find("head"), count, width, Bias.OPTIONAL)])
    metadata["classifier.output_labels"] = labels or [f"LABEL_{number}" for number in range(count)]
    metadata["classifier.scores"] = config.expect("scores", "softmax", "sigmoid", "none")
    if head == "classes":
        metadata["pooling_type"] = RANK
        metadata["classifier.pooling_type"] = number
