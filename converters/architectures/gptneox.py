"""GPT-NeoX and Pythia: Hugging Face's `GPTNeoXForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import OLDER_DECODER_HEADS, plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    ACTIVATION_NAMES,
    Bias,
    Row,
    grouped_query_key_value,
    linear,
    norm,
    plan_rotary,
    plan_rows,
    table,
    vocabulary_of,
    whole_heads,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a GPT-NeoX checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "gpt_neox.")
    config.rename(rotary_pct="partial_rotary_factor", rotary_emb_base="rope_theta")
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads", 6144, 64)
    activation = ACTIVATION_NAMES[config.expect("hidden_act", *ACTIVATION_NAMES)]
    metadata: dict[str, Any] = {
        "context_length": config.count("max_position_embeddings", 2048),
        "embedding_length": width,
        "feed_forward_length": config.count("intermediate_size", 24576),
        "block_count": config.count("num_hidden_layers", 44),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5),
        "use_parallel_residual": config.get("use_parallel_residual", bool, True),
        "rope.dimension_count": width // num_heads,
        "vocab_size": config.count("vocab_size", 50432),
    }
    if activation != "gelu":
        metadata["activation"] = activation
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, partial=0.25)
    bias = Bias.given(config.get("attention_bias", bool, True))
    plan_rows(tensors, rows(metadata, bias), metadata["block_count"])
    heads = OLDER_DECODER_HEADS
    notes = plan_decoder_head(source, tensors, metadata, tied=False, heads=heads, name="embed_out")
    tensors.ignore("*.attention.bias", "*.attention.masked_bias")  # the causal mask
    config.finish(HARMLESS | {"is_decoder"})
    return Plan(metadata, tensors.finish(), vocabularies, [*notes, *refusals(tensors, metadata, bias)])


def rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the head's; `bias` is that of attention's projections."""
    width, hidden_width, num_heads = (
        metadata[key] for key in ("embedding_length", "feed_forward_length", "attention.head_count")
    )
    block, layer = "blk.{}", "gpt_neox.layers.{}"
    fused = linear(f"{block}.attn_qkv", f"{layer}.attention.query_key_value", 3 * width, width, bias)
    return [
        table("token_embd", "gpt_neox.embed_in", metadata["vocab_size"], width),
        norm(f"{block}.attn_norm", f"{layer}.input_layernorm", width),
        grouped_query_key_value(fused, num_heads, num_heads),
        linear(f"{block}.attn_output", f"{layer}.attention.dense", width, width, bias),
        norm(f"{block}.ffn_norm", f"{layer}.post_attention_layernorm", width),
        linear(f"{block}.ffn_up", f"{layer}.mlp.dense_h_to_4h", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.mlp.dense_4h_to_h", width, hidden_width, Bias.NEEDED),
        norm("output_norm", "gpt_neox.final_layer_norm", width),
    ]


def refusals(tensors: TensorPlan, metadata: dict[str, Any], bias: Bias) -> list[str]:
    """What llama.cpp does otherwise."""
    has_head = any(tensor.name == "output.weight" for tensor in tensors.tensors)
    if bias is Bias.NONE or not has_head:
        return ["llama.cpp refuses GPT-NeoX without biases in its attention, or without a head of its own"]
    return ["llama.cpp runs GPT-NeoX with GELU alone"] if metadata.get("activation") == "relu" else []
