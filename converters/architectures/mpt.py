"""MPT: Hugging Face's `MptForCausalLM`, and `MPTForCausalLM` of its makers, to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import OLDER_DECODER_HEADS, plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import Bias, Row, linear, norm, plan_rows, table, vocabulary_of, whole_heads

__all__ = ["plan"]

# Of training, and learned positions, which ALiBi takes the place of.
OF_TRAINING = frozenset(
    {"embedding_fraction", "init_config", "init_device", "learned_pos_emb", "tokenizer_name", "verbose"}
)
OF_ATTENTION = frozenset({"attn_impl", "attn_uses_sequence_id"})  # how it is computed, and of several texts in one


def plan(source: Source) -> Plan:
    """What an MPT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "transformer.")
    width, num_heads = whole_heads(config, "d_model", "n_heads", 2048, 16)
    config.expect("norm_type", "low_precision_layernorm", "layernorm")
    config.expect("logit_scale", None)
    metadata: dict[str, Any] = {
        "context_length": config.count("max_seq_len", 2048),
        "embedding_length": width,
        "feed_forward_length": config.count("expansion_ratio", 4) * width,
        "block_count": config.count("n_layers", 24),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
        "vocab_size": config.count("vocab_size", 50368),
    }
    attention = config.section("attn_config") or Config({}, f"{config.path}: attn_config")
    read_attention(attention, metadata)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    bias = Bias.given(not config.get("no_bias", bool, True))
    plan_rows(tensors, rows(metadata, bias), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=True, heads=OLDER_DECODER_HEADS)
    config.finish(HARMLESS | OF_TRAINING)
    return Plan(metadata, tensors.finish(), vocabularies, [*attention.notes, *notes])


def read_attention(config: Config, metadata: dict[str, Any]) -> None:
    """Read the settings of attention into `metadata`."""
    config.expect("attn_type", "multihead_attention")
    config.expect("alibi", True)
    config.expect("prefix_lm", False)
    limit = config.number("clip_qkv", 0.0)
    if limit < 0:
        raise config.fail("clip_qkv", "must be above 0, or null")
    if limit:
        metadata["attention.clamp_kqv"] = limit
    config.expect("qk_ln", False)
    metadata["attention.max_alibi_bias"] = config.number("alibi_bias_max", 8.0)
    if config.values.get("softmax_scale") is not None:
        metadata["attention.scale"] = config.number("softmax_scale")
        config.notes.append("llama.cpp scales attention by the root of a head's columns, not by softmax_scale")
    config.finish(HARMLESS | OF_ATTENTION)


def rows(metadata: dict[str, Any], bias: Bias) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, layer = "blk.{}", "transformer.blocks.{}"
    return [
        table("token_embd", "transformer.wte", metadata["vocab_size"], width),
        norm(f"{block}.attn_norm", f"{layer}.norm_1", width, bias),
        linear(f"{block}.attn_qkv", f"{layer}.attn.Wqkv", 3 * width, width, bias),
        linear(f"{block}.attn_output", f"{layer}.attn.out_proj", width, width, bias),
        norm(f"{block}.ffn_norm", f"{layer}.norm_2", width, bias),
        linear(f"{block}.ffn_up", f"{layer}.ffn.up_proj", hidden_width, width, bias),
        linear(f"{block}.ffn_down", f"{layer}.ffn.down_proj", width, hidden_width, bias),
        norm("output_norm", "transformer.norm_f", width, bias),
    ]
