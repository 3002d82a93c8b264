"""BERT and the sentence-transformers around it: Hugging Face's `BertModel` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from typing import Any

from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, linear, norm, part, plan_rows, table, vocabulary_of, whole_heads
from .sentences import check_case, sentence_settings

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a BERT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads")
    config.expect("position_embedding_type", "absolute", None)
    config.expect("is_decoder", False)
    config.expect("add_cross_attention", False)
    metadata: dict[str, Any] = {
        "embedding_length": width,
        "block_count": config.count("num_hidden_layers"),
        "feed_forward_length": config.count("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-12),
        "attention.causal": False,
        "activation": ACTIVATION_NAMES[config.expect("hidden_act", *ACTIVATION_NAMES)],
    }
    num_positions = config.count("max_position_embeddings", 512)
    num_types, vocab_size = config.count("type_vocab_size", 2), config.count("vocab_size")
    vocabularies = vocabulary_of(source, metadata, vocab_size)
    vocabulary = vocabularies["tokenizer.ggml."]
    vocabulary.counts["token_type_count"] = num_types
    notes = sentence_settings(source, metadata, num_positions)
    check_case(source, vocabulary)
    prefix = "bert." if tensors.has("bert.embeddings.word_embeddings.weight") else ""
    plan_rows(tensors, rows(prefix, metadata, num_positions, num_types, vocab_size), metadata["block_count"])
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    left_out = tensors.ignore(f"{prefix}pooler.*", "cls.*")
    if left_out:
        notes.append(f"left out, for embeddings do not need them: {', '.join(left_out)}")
    config.finish(HARMLESS | {"tie_word_embeddings"})  # only a head would use it
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(prefix: str, metadata: dict[str, Any], num_positions: int, num_types: int, vocab_size: int) -> list[Row]:
    """Every tensor of the model."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    tables, block, layer = f"{prefix}embeddings", "blk.{}", f"{prefix}encoder.layer.{{}}"
    positions = table("position_embd", f"{tables}.position_embeddings", metadata["context_length"], width)
    return [
        table("token_embd", f"{tables}.word_embeddings", vocab_size, width),
        table("token_types", f"{tables}.token_type_embeddings", num_types, width),
        part(positions, 0, num_positions),
        norm("token_embd_norm", f"{tables}.LayerNorm", width),
        linear(f"{block}.attn_q", f"{layer}.attention.self.query", width, width, Bias.NEEDED),
        linear(f"{block}.attn_k", f"{layer}.attention.self.key", width, width, Bias.NEEDED),
        linear(f"{block}.attn_v", f"{layer}.attention.self.value", width, width, Bias.NEEDED),
        linear(f"{block}.attn_output", f"{layer}.attention.output.dense", width, width, Bias.NEEDED),
        norm(f"{block}.attn_output_norm", f"{layer}.attention.output.LayerNorm", width),
        linear(f"{block}.ffn_up", f"{layer}.intermediate.dense", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.output.dense", width, hidden_width, Bias.NEEDED),
        norm(f"{block}.layer_output_norm", f"{layer}.output.LayerNorm", width),
    ]
