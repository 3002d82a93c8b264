"""GPT-J and CodeGen: Hugging Face's `GPTJForCausalLM` and `CodeGenForCausalLM` to keys and tensor names in llama.cpp's
style.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    ACTIVATION_NAMES,
    Bias,
    Row,
    linear,
    norm,
    plan_rows,
    reordered,
    table,
    vocabulary_of,
    whole_heads,
)

__all__ = ["plan"]

Float32 = NDArray[np.float32]
CODEGEN_PARTS = 4  # its heads are stored in so many parts, of the machines that trained it


def plan(source: Source) -> Plan:
    """What a GPT-J or a CodeGen checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "transformer.")
    width, num_heads = whole_heads(config, "n_embd", "n_head", 4096, 16)
    is_fused = tensors.has("transformer.h.0.attn.qkv_proj.weight")
    if is_fused and num_heads % CODEGEN_PARTS:
        raise config.fail("n_head", f"CodeGen stores its heads in {CODEGEN_PARTS} parts, which do not divide them")
    metadata: dict[str, Any] = {
        "context_length": config.count("n_positions", 2048),
        "embedding_length": width,
        "feed_forward_length": config.count("n_inner", 4 * width),
        "block_count": config.count("n_layer", 28),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "rope.dimension_count": rotated_columns(config, width // num_heads),
        "activation": ACTIVATION_NAMES[config.expect("activation_function", "gelu_new", *ACTIVATION_NAMES)],
        "vocab_size": config.count("vocab_size", 50400),
    }
    config.expect("scale_attn_weights", True)
    config.expect("rotary", True)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rows(tensors, rows(metadata, is_fused), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False, bias=Bias.NEEDED)
    tensors.ignore("*.attn.bias", "*.attn.masked_bias", "*.attn.causal_mask")  # what a row may not see
    config.finish(HARMLESS | {"n_ctx"})
    return Plan(metadata, tensors.finish(), vocabularies, [*notes, "llama.cpp refuses GPT-J"])


def rotated_columns(config: Config, columns: int) -> int:
    """How many columns of a head are rotated, from the first on."""
    if config.values.get("rotary_dim", 64) is None:
        raise config.fail("rotary_dim", f"not supported; at most the {columns} columns of a head")
    rotated = config.count("rotary_dim", 64)
    if rotated > columns or rotated % 2:
        raise config.fail("rotary_dim", f"not an even number of the {columns} columns of a head")
    return rotated


def rows(metadata: dict[str, Any], is_fused: bool) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, layer = "blk.{}", "transformer.h.{}"
    fused = linear(f"{block}.attn_qkv", f"{layer}.attn.qkv_proj", 3 * width, width)
    apart = [linear(f"{block}.attn_{x}", f"{layer}.attn.{x}_proj", width, width) for x in "qkv"]
    return [
        table("token_embd", "transformer.wte", metadata["vocab_size"], width),
        norm(f"{block}.attn_norm", f"{layer}.ln_1", width),
        *([reordered(fused, query_key_value)] if is_fused else apart),
        linear(f"{block}.attn_output", f"{layer}.attn.out_proj", width, width),
        linear(f"{block}.ffn_up", f"{layer}.mlp.fc_in", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.mlp.fc_out", width, hidden_width, Bias.NEEDED),
        norm("output_norm", "transformer.ln_f", width),
    ]


def query_key_value(array: Float32) -> Float32:
    """From CodeGen's order, in which each part has queries, values, keys, to queries, keys, values of all parts."""
    parts = array.reshape(CODEGEN_PARTS, 3, -1, array.shape[1])
    return np.concatenate([parts[:, place].reshape(-1, array.shape[1]) for place in (0, 2, 1)])
