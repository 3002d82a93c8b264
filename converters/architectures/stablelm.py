"""StableLM: Hugging Face's `StableLmForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    SILU,
    Bias,
    Row,
    attention_output_row,
    decoder_metadata,
    gated_feed_forward_rows,
    norm,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a StableLM checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", *SILU)
    metadata = decoder_metadata(config, epsilon=1e-5, layer_norm=True)
    metadata["use_parallel_residual"] = config.get("use_parallel_residual", bool, False)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, partial=0.25)
    plan_rows(tensors, rows(config, metadata), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False)
    config.finish(HARMLESS)
    if all(tensor.name != "output.weight" for tensor in tensors.tensors):
        notes.append("llama.cpp refuses StableLM without an output matrix of its own")
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(config: Config, metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, layer = metadata["embedding_length"], "model.layers.{}"
    second = [] if metadata["use_parallel_residual"] else [("ffn_norm", "post_attention_layernorm")]
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        norm("blk.{}.attn_norm", f"{layer}.input_layernorm", width),
        *query_key_value_rows(metadata, Bias.given(config.get("use_qkv_bias", bool, False))),
        *(head_norms(metadata) if config.get("qk_layernorm", bool, False) else []),
        attention_output_row(metadata, Bias.NONE),
        *(norm(f"blk.{{}}.{target}", f"{layer}.{source}", width) for target, source in second),
        *gated_feed_forward_rows(metadata, Bias.NONE),
        norm("output_norm", "model.norm", width),
    ]


def head_norms(metadata: dict[str, Any]) -> list[Row]:
    """The norms of queries and keys: a weight for each head, below one another."""
    counts = {"q": metadata["attention.head_count"], "k": metadata["attention.head_count_kv"]}
    return [
        Row(
            f"blk.{{}}.attn_{part}_norm",
            f"model.layers.{{}}.self_attn.{part}_layernorm.norms.{{{{}}}}",
            (metadata["attention.key_length"],),
            together=count,
        )
        for part, count in counts.items()
    ]
