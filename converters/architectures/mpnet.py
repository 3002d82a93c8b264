"""MPNet: Hugging Face's `MPNetModel` to llama.cpp's names for BERT, and T5's for the bias by distance."""

from __future__ import annotations

from dataclasses import replace

from .encoder_parts import BERT, embedding_rows, encoder_metadata, layer_rows, prefix_of, text_side
from .heads import plan_task_head, roberta_heads
from .huggingface import HARMLESS, Plan, Source, TensorPlan
from .parts import Row, plan_rows

__all__ = ["plan"]

MPNET = replace(BERT, parts=(*(f"attention.attn.{name}" for name in "qkvo"), "attention.LayerNorm", *BERT.parts[5:]))
FIRST = 2  # rows of the table of positions before that of the first; fixed in the published code
BUCKETS = 32


def plan(source: Source) -> Plan:
    """What an MPNet checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    metadata = encoder_metadata(config, MPNET)
    config.expect("relative_attention_num_buckets", BUCKETS)
    vocab_size, stored = config.count("vocab_size"), config.count("max_position_embeddings", 512)
    if stored <= FIRST:
        raise config.fail("max_position_embeddings", f"leaves no position behind the first {FIRST} rows")
    vocabularies, notes = text_side(source, tensors, metadata, vocab_size, 0, stored - FIRST)
    prefix = prefix_of(tensors, "mpnet.")
    width, num_heads = metadata["embedding_length"], metadata["attention.head_count"]
    positions = (metadata["context_length"], FIRST, stored)
    plan_rows(tensors, embedding_rows(f"{prefix}embeddings", width, vocab_size, 0, positions))
    plan_rows(tensors, [Row("attn_rel_b", f"{prefix}encoder.relative_attention_bias", (BUCKETS, num_heads))])
    layers = layer_rows("blk.{}", f"{prefix}{MPNET.layer}", MPNET.parts, width, metadata["feed_forward_length"])
    plan_rows(tensors, layers, metadata["block_count"])
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    notes += plan_task_head(source, tensors, metadata, roberta_heads(), f"{prefix}pooler.*")
    config.finish(HARMLESS | {"tie_word_embeddings"})
    return Plan(metadata, tensors.finish(), vocabularies, notes)
