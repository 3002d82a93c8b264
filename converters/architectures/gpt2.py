"""GPT-2: Hugging Face's `GPT2LMHeadModel` to llama.cpp's keys and tensor names.

Its matrices are stored as [inputs, outputs].
"""

from __future__ import annotations

from typing import Any

from .heads import OLDER_DECODER_HEADS, plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, linear, norm, plan_rows, table, transposed, vocabulary_of, whole_heads

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a GPT-2 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "n_embd", "n_head", 768, 12)
    config.expect("add_cross_attention", False)
    metadata: dict[str, Any] = {
        "context_length": config.count("n_positions", 1024),
        "embedding_length": width,
        "feed_forward_length": config.count("n_inner", 4 * width),
        "block_count": config.count("n_layer", 12),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "vocab_size": config.count("vocab_size", 50257),
    }
    other = plan_variant(config, metadata)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    prefix = "transformer." if tensors.has("transformer.wte.weight") else ""
    plan_rows(tensors, rows(prefix, metadata), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=True, heads=OLDER_DECODER_HEADS)
    tensors.ignore(f"{prefix}h.*.attn.bias", f"{prefix}h.*.attn.masked_bias")  # the causal mask
    config.finish(HARMLESS | {"n_ctx", "reorder_and_upcast_attn"})  # the same length again; for training in float16
    return Plan(metadata, tensors.finish(), vocabularies, [*other, *notes])


def plan_variant(config: Config, metadata: dict[str, Any]) -> list[str]:
    """Read activation and scale of scores into `metadata`, where they are not GPT-2's own; what to say of them."""
    notes = []
    activation = ACTIVATION_NAMES[config.expect("activation_function", "gelu_new", *ACTIVATION_NAMES)]
    if activation != "gelu_tanh":
        metadata["activation"] = activation
    if activation == "relu":
        notes.append("llama.cpp runs GPT-2 with GELU alone")
    if not config.get("scale_attn_weights", bool, True):
        metadata["attention.scale"] = 1.0
        notes.append("llama.cpp always scales GPT-2's scores by the root of a head's columns")
    if config.get("scale_attn_by_inverse_layer_idx", bool, False):
        metadata["attention.scale_by_layer"] = True
        notes.append("llama.cpp does not divide GPT-2's scores by the number of the layer")
    return notes


def rows(prefix: str, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, layer = "blk.{}", f"{prefix}h.{{}}"
    return [
        table("token_embd", f"{prefix}wte", metadata["vocab_size"], width),
        table("position_embd", f"{prefix}wpe", metadata["context_length"], width),
        norm(f"{block}.attn_norm", f"{layer}.ln_1", width),
        transposed(linear(f"{block}.attn_qkv", f"{layer}.attn.c_attn", 3 * width, width, Bias.NEEDED)),
        transposed(linear(f"{block}.attn_output", f"{layer}.attn.c_proj", width, width, Bias.NEEDED)),
        norm(f"{block}.ffn_norm", f"{layer}.ln_2", width),
        transposed(linear(f"{block}.ffn_up", f"{layer}.mlp.c_fc", hidden_width, width, Bias.NEEDED)),
        transposed(linear(f"{block}.ffn_down", f"{layer}.mlp.c_proj", width, hidden_width, Bias.NEEDED)),
        norm("output_norm", f"{prefix}ln_f", width),
    ]
