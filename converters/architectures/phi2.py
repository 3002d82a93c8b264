"""Phi-1, Phi-1.5 and Phi-2: Hugging Face's `PhiForCausalLM` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .heads import plan_decoder_head
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import (
    Bias,
    Row,
    decoder_metadata,
    linear,
    norm,
    plan_rotary,
    plan_rows,
    query_key_value_rows,
    table,
    vocabulary_of,
)

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a Phi-2 checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint, "model.", "transformer.")
    config.expect("hidden_act", "gelu_new", "gelu_pytorch_tanh")
    metadata = decoder_metadata(config, epsilon=1e-5, layer_norm=True)
    vocabularies = vocabulary_of(source, metadata, metadata["vocab_size"])
    plan_rotary(tensors, config, metadata, partial=0.5)
    has_norms = config.get("qk_layernorm", bool, False)
    plan_rows(tensors, rows(metadata, has_norms), metadata["block_count"])
    notes = plan_decoder_head(source, tensors, metadata, tied=False, bias=Bias.NEEDED)
    config.finish(HARMLESS)
    if has_norms:
        notes.append("llama.cpp refuses Phi-2 with norms of queries and keys")
    if all(tensor.name != "output.weight" for tensor in tensors.tensors):
        notes.append("llama.cpp refuses Phi-2 without an output matrix of its own")
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(metadata: dict[str, Any], has_norms: bool) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    queries = metadata["attention.head_count"] * metadata["attention.value_length"]
    layer = "model.layers.{}"
    return [
        table("token_embd", "model.embed_tokens", metadata["vocab_size"], width),
        norm("blk.{}.attn_norm", f"{layer}.input_layernorm", width),
        *query_key_value_rows(metadata, Bias.NEEDED),
        *(
            norm(f"blk.{{}}.attn_{part}_norm", f"{layer}.self_attn.{part}_layernorm", metadata["attention.key_length"])
            for part in ("qk" if has_norms else "")
        ),
        linear("blk.{}.attn_output", f"{layer}.self_attn.dense", width, queries, Bias.NEEDED),
        linear("blk.{}.ffn_up", f"{layer}.mlp.fc1", hidden_width, width, Bias.NEEDED),
        linear("blk.{}.ffn_down", f"{layer}.mlp.fc2", width, hidden_width, Bias.NEEDED),
        norm("output_norm", "model.final_layernorm", width),
    ]
