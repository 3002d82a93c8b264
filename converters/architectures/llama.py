"""Llama and its kin: Hugging Face's `LlamaForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ..vocabularies.vocabulary import read_vocabulary
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan

__all__ = ["plan"]

Float32 = NDArray[np.float32]


def plan(source: Source) -> Plan:
    """What a Llama checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config = source.config
    hidden_size = config.count("hidden_size")
    num_heads = config.count("num_attention_heads")
    num_kv_heads = config.count("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise config.fail("num_key_value_heads", f"does not divide the {num_heads} heads")
    head_dim = config.count("head_dim", hidden_size // num_heads or 1)
    if head_dim % 2:
        raise ConversionError(f"{config.path}: heads of {head_dim} columns cannot be rotated in pairs")
    context_length = config.count("max_position_embeddings")
    config.expect("hidden_act", "silu")
    config.expect("sliding_window", None)  # Mistral's
    config.expect("partial_rotary_factor", 1.0, 1)
    metadata: dict[str, Any] = {
        "context_length": context_length,
        "embedding_length": hidden_size,
        "block_count": config.count("num_hidden_layers"),
        "feed_forward_length": config.count("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.head_count_kv": num_kv_heads,
        "attention.layer_norm_rms_epsilon": config.number("rms_norm_eps", 1e-6),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "vocab_size": config.count("vocab_size"),
    }
    vocabulary = read_vocabulary(source.folder, config.values)
    tensors = TensorPlan(source.checkpoint)
    scaling = rotary(config, metadata, head_dim)
    if scaling is not None:
        tensors.make("rope_freqs.weight", scaling)
    plan_tensors(tensors, config, metadata)
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), {"tokenizer.ggml.": vocabulary.resized(metadata["vocab_size"])})


def plan_tensors(tensors: TensorPlan, config: Config, metadata: dict[str, Any]) -> None:
    """Every tensor of the model, by name."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    num_heads, num_kv_heads = metadata["attention.head_count"], metadata["attention.head_count_kv"]
    head_dim, vocab_size = metadata["attention.key_length"], metadata["vocab_size"]
    attention_bias, mlp_bias = config.get("attention_bias", bool, False), config.get("mlp_bias", bool, False)

    def linear(target: str, name: str, num_rows: int, num_columns: int, bias: bool, heads: int = 0) -> None:
        def transform(array: Float32) -> Float32:
            return pair_neighbours(array, heads) if heads else array

        tensors.take(f"{target}.weight", f"{name}.weight", (num_rows, num_columns), transform)
        if bias:
            tensors.take(f"{target}.bias", f"{name}.bias", (num_rows,), transform)

    tensors.take("token_embd.weight", "model.embed_tokens.weight", (vocab_size, width))
    for layer in range(metadata["block_count"]):
        block, name = f"blk.{layer}", f"model.layers.{layer}"
        tensors.take(f"{block}.attn_norm.weight", f"{name}.input_layernorm.weight", (width,))
        for part, heads, paired in (("q", num_heads, True), ("k", num_kv_heads, True), ("v", num_kv_heads, False)):
            target, projection = f"{block}.attn_{part}", f"{name}.self_attn.{part}_proj"
            linear(target, projection, heads * head_dim, width, attention_bias, heads if paired else 0)
        linear(f"{block}.attn_output", f"{name}.self_attn.o_proj", width, num_heads * head_dim, attention_bias)
        tensors.take(f"{block}.ffn_norm.weight", f"{name}.post_attention_layernorm.weight", (width,))
        linear(f"{block}.ffn_gate", f"{name}.mlp.gate_proj", hidden_width, width, mlp_bias)
        linear(f"{block}.ffn_up", f"{name}.mlp.up_proj", hidden_width, width, mlp_bias)
        linear(f"{block}.ffn_down", f"{name}.mlp.down_proj", width, hidden_width, mlp_bias)
    tensors.take("output_norm.weight", "model.norm.weight", (width,))
    if config.get("tie_word_embeddings", bool, False):
        tensors.ignore("lm_head.weight")  # some files store the tied matrix twice
    else:
        linear("output", "lm_head", vocab_size, width, bias=False)
    tensors.ignore("*.rotary_emb.inv_freq")  # computed from rope_theta


def pair_neighbours(array: Float32, num_heads: int) -> Float32:
    """Reorder the rows of each head from Hugging Face's pairs (i, i + d/2) to llama.cpp's pairs (2i, 2i + 1)."""
    halves = array.reshape(num_heads, 2, -1, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def rotary(config: Config, metadata: dict[str, Any], head_dim: int) -> Float32 | None:
    """Read the rotary settings, of either style, into `metadata`; returns divisors of the frequencies, if any."""
    settings = config.section("rope_parameters") or config.section("rope_scaling") or Config({}, config.path)
    theta = settings.number("rope_theta", config.number("rope_theta", 10000.0))
    if theta <= 0:
        raise ConversionError(f"{config.path}: rope_theta = {theta} is not positive")
    metadata["rope.freq_base"] = theta
    kind = settings.get("rope_type", str, settings.get("type", str, "default"))
    divisors = None
    if kind == "linear":
        metadata["rope.scaling.type"] = "linear"
        metadata["rope.scaling.factor"] = settings.number("factor")
    elif kind == "llama3":
        divisors = llama3_divisors(settings, theta, head_dim)
    elif kind != "default":
        raise ConversionError(
            f"{settings.path}: rope_type {kind!r} is not supported; known are default, linear, llama3"
        )
    settings.expect("partial_rotary_factor", 1.0, 1)
    settings.finish()
    return divisors


def llama3_divisors(settings: Config, theta: float, head_dim: int) -> Float32:
    """Llama 3.1's scaling: long wavelengths are divided by `factor`, short ones kept, those between interpolated.

    Source: `_compute_llama3_parameters` in transformers, of which this is the ratio to the unscaled frequencies.
    """
    factor = settings.number("factor")
    low, high = settings.number("low_freq_factor"), settings.number("high_freq_factor")
    trained_length = settings.number("original_max_position_embeddings")
    if not (0 < factor < 1e6 and 0 < low < high and trained_length > 0):
        raise ConversionError(f"{settings.path}: the factors of the llama3 scaling are out of range or order")
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    smooth = np.clip((trained_length / wavelengths - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / factor + smooth)).astype(np.float32)
