"""gpt-oss: Hugging Face's `GptOssForCausalLM`, with experts in MXFP4 or in floats, to llama.cpp's keys and names."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ...quants import by_name
from .experts import ROUTER_TRAINING, read_experts
from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    SILU,
    Bias,
    Row,
    attention_output_row,
    decoder_metadata,
    linear,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    rms_norm,
    table,
    vocabulary_of,
)

__all__ = ["plan"]

BLOCK, BLOCK_BYTES = 32, 16  # weights of a block of MXFP4, and the bytes that they take
GATE, UP = slice(0, None, 2), slice(1, None, 2)  # rows of the two, which the checkpoint has in turns


def plan(source: Source) -> Plan:
    """What a gpt-oss checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    config.expect("swiglu_limit", 7.0, 7)
    config.expect("swiglu_alpha", 1.702)
    config.expect("tie_word_embeddings", False)
    config.rename(num_experts="num_local_experts", experts_per_token="num_experts_per_tok")
    if not (config.values.get("rope_parameters") or config.values.get("rope_scaling")):
        raise ConversionError(f"{config.path}: rope_parameters is missing")  # its default is a scaling
    metadata = decoder_metadata(config, head_dim=64, epsilon=1e-5)
    read_experts(config, metadata, "num_local_experts")
    metadata["expert_feed_forward_length"] = metadata["feed_forward_length"]
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, theta=150000.0)
    plan_rows(tensors, rows(config, metadata), metadata["block_count"])
    plan_windows(config, metadata)
    for layer in range(metadata["block_count"]):
        plan_experts(tensors, metadata, f"blk.{layer}", f"model.layers.{layer}.mlp.experts")
    config.notes += plan_decoder_head(source, tensors, metadata, tied=False)
    quantization = config.section("quantization_config")
    if quantization is not None:
        quantization.expect("quant_method", "mxfp4")
        quantization.finish({"modules_to_not_convert", "dequantize"})
    config.finish(HARMLESS | ROUTER_TRAINING | {"initial_context_length"})  # which the rotary settings say, too
    return Plan(metadata, tensors.finish(), vocabularies)


def plan_windows(config: Config, metadata: dict[str, Any]) -> None:
    """The layers with a window, every other one from the first on unless `layer_types` says otherwise."""
    kinds = ("sliding_attention", "full_attention")
    usual = [kinds[layer % 2] for layer in range(metadata["block_count"])]
    given = config.get("layer_types", list, usual)
    if len(given) != len(usual) or any(kind not in kinds for kind in given):
        raise config.fail("layer_types", f"not one of {', '.join(kinds)} for each of the {len(usual)} layers")
    metadata["attention.sliding_window"] = config.count("sliding_window", 128)
    if given != usual:
        metadata["attention.sliding_window_pattern"] = [kind == kinds[0] for kind in given]


def rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the experts' and the head's."""
    width, bias = metadata["embedding_length"], Bias.given(config.get("attention_bias", bool, True))
    layer = "model.layers.{}"
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        rms_norm("blk.{}.attn_norm", f"{layer}.input_layernorm", width),
        *query_key_value_rows(metadata, bias),
        attention_output_row(metadata, bias),
        Row("blk.{}.attn_sinks", f"{layer}.self_attn.sinks", (metadata["attention.head_count"],), joint=None),
        rms_norm("blk.{}.post_attention_norm", f"{layer}.post_attention_layernorm", width),
        linear("blk.{}.ffn_gate_inp", f"{layer}.mlp.router", metadata["expert_count"], width, Bias.NEEDED),
        rms_norm("output_norm", "model.norm", width),
    ]


def plan_experts(tensors: TensorPlan, metadata: dict[str, Any], block: str, source: str) -> None:
    """The three stacks of a layer's experts with their biases."""
    count, width, hidden_width = (
        metadata[key] for key in ("expert_count", "embedding_length", "expert_feed_forward_length")
    )
    joined, every = (f"{source}.gate_up_proj", 2 * hidden_width), slice(None)
    parts = (("gate", joined, GATE, hidden_width, width), ("up", joined, UP, hidden_width, width),
             ("down", (f"{source}.down_proj", width), every, width, hidden_width))  # fmt: skip
    for part, (name, stored_rows), mine, outputs, inputs in parts:
        target, shape = f"{block}.ffn_{part}_exps", (count, outputs, inputs)
        if tensors.has(f"{name}_blocks"):
            take_mxfp4(tensors, f"{target}.weight", name, shape, stored_rows, mine)
        else:
            chosen = partial(_chosen_columns, mine=mine)
            tensors.take(f"{target}.weight", name, shape, chosen, (count, inputs, stored_rows))
        rows_of = partial(_chosen_rows, mine=mine)
        tensors.take(f"{target}.bias", f"{name}_bias", (count, outputs), rows_of, (count, stored_rows))


def take_mxfp4(
    tensors: TensorPlan, target: str, name: str, shape: tuple[int, int, int], stored_rows: int, mine: slice
) -> None:
    """A stack of matrices that the checkpoint has in MXFP4: rows `mine` of each, with nothing lost.

    OCP's Microscaling Formats 1.0: blocks of 32 with an E8M0 exponent. The checkpoint's byte j has weight 2j in its low
    half and 2j + 1 in its high one; ggml's has weights j and j + 16.
    """
    count, outputs, inputs = shape
    if inputs % BLOCK:
        raise ConversionError(
            f"tensor {name}_blocks has rows of {inputs} weights, which are no whole blocks of {BLOCK}"
        )
    blocks, scales = f"{name}_blocks", f"{name}_scales"
    stored = {blocks: (count, stored_rows, inputs // BLOCK, BLOCK_BYTES), scales: (count, stored_rows, inputs // BLOCK)}

    def read_bytes() -> NDArray[np.uint8]:
        pairs = tensors.read(blocks)[:, mine]
        result = np.empty((*pairs.shape[:-1], 1 + BLOCK_BYTES), np.uint8)
        result[..., 0] = tensors.read(scales)[:, mine]
        low, high = pairs[..., : BLOCK_BYTES // 2], pairs[..., BLOCK_BYTES // 2 :]
        result[..., 1::2] = (low & 15) | (high & 15) << 4
        result[..., 2::2] = low >> 4 | high & 0xF0
        return result.reshape(count * outputs, -1)

    tensors.take_stored(target, stored, shape, by_name("mxfp4"), read_bytes)


def _chosen_rows(array: NDArray[np.float32], mine: slice) -> NDArray[np.float32]:
    return np.ascontiguousarray(array[:, mine])


def _chosen_columns(array: NDArray[np.float32], mine: slice) -> NDArray[np.float32]:
    return np.ascontiguousarray(array[..., mine].swapaxes(1, 2))
