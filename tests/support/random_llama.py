"""Writes a Llama of random weights: small, with a context long enough that a prompt takes a while."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from edgeformer.files.gguf.reader import GGUFWriter
from edgeformer.quants import by_name

VOCABULARY, WIDTH, HEADS, FEED_FORWARD = 96, 64, 4, 128


def write_random_llama(
    path: Path, *, context: int = 16384, layers: int = 2, vocabulary: int = VOCABULARY, seed: int = 0
) -> Path:
    """A model without a tokenizer and without an end token: it always goes on to the end of its context."""
    generator = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(layers):
        block = {
            "attn_norm": (WIDTH,),
            "ffn_norm": (WIDTH,),
            **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH)),
            **dict.fromkeys(("ffn_gate", "ffn_up"), (FEED_FORWARD, WIDTH)),
            "ffn_down": (WIDTH, FEED_FORWARD),
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    with GGUFWriter(path, "llama") as writer:
        for key, value in {
            "context_length": context,
            "embedding_length": WIDTH,
            "block_count": layers,
            "feed_forward_length": FEED_FORWARD,
            "attention.head_count": HEADS,
            "attention.head_count_kv": HEADS,
            "rope.dimension_count": WIDTH // HEADS,
            "vocab_size": vocabulary,
        }.items():
            writer.add(f"llama.{key}", value, "uint32")
        writer.add("llama.attention.layer_norm_rms_epsilon", 1e-5, "float32")
        for name, shape in shapes.items():
            writer.declare(name, shape, by_name("f32").id)
        for name, shape in shapes.items():
            values = np.ones(shape) if len(shape) == 1 else generator.normal(0, 0.3, shape)
            writer.write(name, values.astype("<f4"))
    return path
