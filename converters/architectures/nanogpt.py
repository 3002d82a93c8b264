"""GPT-2 as nanoGPT trains it: state dicts in its names, its `GPTConfig` as the configuration.

Its matrices are torch's `Linear`, its GELU is the exact one, and with ``bias`` false there are none.
"""

from __future__ import annotations

from typing import Any

from .bare import plain_vocabulary
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, is_own_head, linear, norm, plan_rows, table, whole_heads

__all__ = ["plan"]

NOTE = "the GELU of this model is the exact one, and that of llama.cpp goes by a tanh: its numbers differ a little"


def plan(source: Source) -> Plan:
    """What a checkpoint of nanoGPT becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "n_embd", "n_head", 768, 12)
    metadata: dict[str, Any] = {
        "context_length": config.count("block_size", 1024),
        "embedding_length": width,
        "feed_forward_length": 4 * width,
        "block_count": config.count("n_layer", 12),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": 1e-5,
        "activation": ACTIVATION_NAMES[config.expect("activation", *ACTIVATION_NAMES)],
        "vocab_size": config.count("vocab_size", 50304),
    }
    vocabularies = plain_vocabulary(source, metadata, metadata["vocab_size"])
    bias = Bias.NEEDED if config.get("bias", bool, True) else Bias.OR_ZEROS
    plan_rows(tensors, rows(metadata, bias), metadata["block_count"])
    if is_own_head(tensors, config, "tie_word_embeddings", True, "lm_head.weight", "token_embd.weight"):
        plan_rows(tensors, [linear("output", "lm_head", metadata["vocab_size"], width)])
    tensors.ignore("transformer.h.*.attn.bias")  # the causal mask
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies, [NOTE] if metadata["activation"] != "gelu_tanh" else [])


def rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden = metadata["embedding_length"], metadata["feed_forward_length"]
    block, layer = "blk.{}", "transformer.h.{}"
    return [
        table("token_embd", "transformer.wte", metadata["vocab_size"], width),
        table("position_embd", "transformer.wpe", metadata["context_length"], width),
        norm(f"{block}.attn_norm", f"{layer}.ln_1", width, bias),
        linear(f"{block}.attn_qkv", f"{layer}.attn.c_attn", 3 * width, width, bias),
        linear(f"{block}.attn_output", f"{layer}.attn.c_proj", width, width, bias),
        norm(f"{block}.ffn_norm", f"{layer}.ln_2", width, bias),
        linear(f"{block}.ffn_up", f"{layer}.mlp.c_fc", hidden, width, bias),
        linear(f"{block}.ffn_down", f"{layer}.mlp.c_proj", width, hidden, bias),
        norm("output_norm", "transformer.ln_f", width, bias),
    ]
