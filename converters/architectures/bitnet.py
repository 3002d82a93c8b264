"""BitNet: Hugging Face's `BitNetForCausalLM`, packed or with its master weights, to llama.cpp's keys and names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError, quote
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    SILU,
    Bias,
    Row,
    attention_output_row,
    decoder_metadata,
    gated_feed_forward_rows,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]

Float32 = NDArray[np.float32]
FOURTH = 4  # rows that share a byte
LEAST_MEAN = 1e-5  # of the master weights' magnitudes
ROUNDED = "transformers rounds the inputs of ternary products to eight bits a row; here they keep what the type keeps"


def plan(source: Source) -> Plan:
    """What a BitNet checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    metadata = decoder_metadata(config, epsilon=1e-5)
    if config.expect("hidden_act", "relu2", *SILU) == "relu2":
        metadata["activation"] = "relu_squared"
        config.notes.append("llama.cpp takes SiLU where this model has the square of ReLU")
    config.expect("attention_bias", False)
    width, num_layers = metadata["embedding_length"], metadata["block_count"]
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, theta=500000.0)
    plan_rows(tensors, [table("token_embd", "model.embed_tokens", metadata["vocab_size"], width)])
    plan_rows(tensors, norm_rows(metadata), num_layers)
    plan_matrices(tensors, config, metadata)
    config.notes += plan_decoder_head(source, tensors, metadata, tied=False)
    if tensors.tensors[-1].name == "output.weight":
        config.notes.append("llama.cpp refuses BitNet with an output matrix of its own")
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies)


def norm_rows(metadata: dict[str, Any]) -> list[Row]:
    """The norms."""
    width, layer = metadata["embedding_length"], "model.layers.{}"
    heads = metadata["attention.head_count"] * metadata["attention.value_length"]
    return [
        rms_norm("blk.{}.attn_norm", f"{layer}.input_layernorm", width),
        rms_norm("blk.{}.attn_sub_norm", f"{layer}.self_attn.attn_sub_norm", heads),
        rms_norm("blk.{}.ffn_norm", f"{layer}.post_attention_layernorm", width),
        rms_norm("blk.{}.ffn_sub_norm", f"{layer}.mlp.ffn_sub_norm", metadata["feed_forward_length"]),
        rms_norm("output_norm", "model.norm", width),
    ]


def plan_matrices(tensors: TensorPlan, config: Config, metadata: dict[str, Any]) -> None:
    """The matrices of all layers: ternary ones where the configuration says so, else as they are.

    `integrations/bitnet.py` of transformers: with a scale beside them, they are packed and multiplied by it, or divided
    where `linear_class` is "bitlinear"; without, they are rounded now by the mean of their magnitudes ("online").
    """
    rows = [
        *query_key_value_rows(metadata, Bias.NONE),
        attention_output_row(metadata, Bias.NONE),
        *gated_feed_forward_rows(metadata, Bias.NONE),
    ]
    settings = config.section("quantization_config")
    if settings is None:
        plan_rows(tensors, rows, metadata["block_count"])
        return
    settings.expect("quant_method", "bitnet")
    settings.expect("use_rms_norm", False)
    kept = settings.get("modules_to_not_convert", list, [])
    if any(name != "lm_head" for name in kept):
        raise settings.fail("modules_to_not_convert", "only lm_head may be left as it is")
    divides = settings.expect("linear_class", "bitlinear", "autobitlinear") == "bitlinear"
    online = settings.expect("quantization_mode", "offline", "online") == "online" and not divides
    settings.finish({"rms_norm_eps"})
    config.notes.append(ROUNDED)
    for layer in range(metadata["block_count"]):
        for row in rows:
            target, source = f"{row.target}.weight".format(layer), f"{row.source}.weight".format(layer)
            if online:
                tensors.take(target, source, row.shape, rounded)
            else:
                _take_packed(tensors, target, source, row.shape, divides)


def _take_packed(tensors: TensorPlan, target: str, source: str, shape: tuple[int, ...], divides: bool) -> None:
    name, num_rows = f"{source}_scale", shape[0]
    if num_rows % FOURTH:
        raise ConversionError(f"tensor {quote(source)}: {num_rows} rows cannot be packed by {FOURTH}")
    if not tensors.has(name):
        raise ConversionError(f"the checkpoint has no tensor {quote(name)}, the scale of {target}")
    if tensors.shape(name) not in ((), (1,)):
        raise ConversionError(f"tensor {quote(name)} is not one number")
    tensors.ignore(name)
    scale: Callable[[], float] = partial(_scale, tensors, name, divides)
    if tensors.has(source) and tensors.dtype(source) != "uint8":  # -1, 0 and 1 as floats
        tensors.take(target, source, shape, lambda array: array * np.float32(scale()))
    else:
        packed = (num_rows // FOURTH, *shape[1:])
        tensors.take(target, source, shape, lambda array: unpacked(array) * np.float32(scale()), packed)


def _scale(tensors: TensorPlan, name: str, divides: bool) -> float:
    number = float(tensors.read(name).reshape(-1)[0])
    if not (np.isfinite(number) and number > 0):
        raise ConversionError(f"tensor {quote(name)} is {number}; a scale is above 0 and finite")
    return 1.0 / number if divides else number


def unpacked(packed: NDArray[Any]) -> Float32:
    """-1, 0 and 1 from bytes of four rows: bits 2 i and 2 i + 1 of row r are row r + i * rows, plus 1."""
    return np.concatenate([(packed >> 2 * i & 3).astype(np.float32) - 1 for i in range(FOURTH)])


def rounded(weights: Float32) -> Float32:
    """The nearest of -1, 0 and 1 times the mean magnitude of the matrix."""
    mean = np.float32(max(np.abs(weights).mean(dtype=np.float64), LEAST_MEAN))
    return np.clip(np.rint(weights / mean), -1, 1) * mean
