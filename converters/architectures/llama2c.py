"""Llama as llama2.c trains it: its state dicts and its binary files, with its `ModelArgs` as the configuration.

Its rotary positions pair neighbouring columns, as the file has them.
"""

from __future__ import annotations

from typing import Any

from ..vocabularies.llama2c import read_llama2c_vocabulary
from ..vocabularies.record import Vocabulary
from .bare import plain_vocabulary, shares_embeddings
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import Bias, Row, is_own_head, linear, plan_rows, rms_norm, table, whole_heads

__all__ = ["plan"]


def plan(source: Source) -> Plan:
    """What a checkpoint of llama2.c becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "dim", "n_heads")
    num_kv_heads = config.count("n_kv_heads", num_heads)
    if num_heads % num_kv_heads:
        raise config.fail("n_kv_heads", f"does not divide the {num_heads} heads")
    metadata: dict[str, Any] = {
        "context_length": config.count("max_seq_len", 2048),
        "embedding_length": width,
        "block_count": config.count("n_layers"),
        "feed_forward_length": hidden_width(config, width),
        "attention.head_count": num_heads,
        "attention.head_count_kv": num_kv_heads,
        "attention.layer_norm_rms_epsilon": config.number("norm_eps", 1e-5),
        "rope.dimension_count": width // num_heads,
        "rope.freq_base": config.number("rope_theta", 10000.0),
        "vocab_size": config.count("vocab_size"),
    }
    vocabularies = vocabularies_of(source, metadata)
    plan_rows(tensors, rows(metadata), metadata["block_count"])
    stored = "output.weight"
    if is_own_head(
        tensors, config, "tie_word_embeddings", shares_embeddings(tensors, stored), stored, "token_embd.weight"
    ):
        plan_rows(tensors, [linear("output", "output", metadata["vocab_size"], width)])
    tensors.ignore("freqs_cos", "freqs_sin", "rope.freqs")  # rotary angles, which follow from the sizes
    config.finish(HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies)


def vocabularies_of(source: Source, metadata: dict[str, Any]) -> dict[str, Vocabulary]:
    """What `plain_vocabulary` finds, and else llama2.c's own form of one, `tokenizer.bin`."""
    vocabularies = plain_vocabulary(source, metadata, metadata["vocab_size"])
    path = source.folder / "tokenizer.bin"
    if vocabularies["tokenizer.ggml."].tokens or not path.is_file():
        return vocabularies
    return {"tokenizer.ggml.": read_llama2c_vocabulary(path).resized(metadata["vocab_size"])}


def hidden_width(config: Config, width: int) -> int:
    """Columns of the feed-forward: as given, or two thirds of four times the width, up to a multiple."""
    multiple = config.count("multiple_of", 256)
    return config.count("hidden_dim", -(-(8 * width // 3) // multiple) * multiple)


def rows(metadata: dict[str, Any]) -> list[Row]:
    """Every tensor but the head's."""
    width, hidden = metadata["embedding_length"], metadata["feed_forward_length"]
    keys = width // metadata["attention.head_count"] * metadata["attention.head_count_kv"]
    block, layer = "blk.{}", "layers.{}"
    return [
        table("token_embd", "tok_embeddings", metadata["vocab_size"], width),
        rms_norm(f"{block}.attn_norm", f"{layer}.attention_norm", width),
        linear(f"{block}.attn_q", f"{layer}.attention.wq", width, width, Bias.NONE),
        linear(f"{block}.attn_k", f"{layer}.attention.wk", keys, width, Bias.NONE),
        linear(f"{block}.attn_v", f"{layer}.attention.wv", keys, width, Bias.NONE),
        linear(f"{block}.attn_output", f"{layer}.attention.wo", width, width, Bias.NONE),
        rms_norm(f"{block}.ffn_norm", f"{layer}.ffn_norm", width),
        linear(f"{block}.ffn_gate", f"{layer}.feed_forward.w1", hidden, width, Bias.NONE),
        linear(f"{block}.ffn_down", f"{layer}.feed_forward.w2", width, hidden, Bias.NONE),
        linear(f"{block}.ffn_up", f"{layer}.feed_forward.w3", hidden, width, Bias.NONE),
        rms_norm("output_norm", "norm", width),
    ]
