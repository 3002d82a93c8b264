"""Write a GGUF of a known architecture's shape with random weights: speed does not depend on their values.

usage: python bench/random_models.py SHAPE TYPE OUT.gguf   SHAPE: llama-15m | llama-135m | llama-1b   TYPE: q4_0 | q8_0

Every matrix, the embedding too, has the type asked for, and llama.cpp reads the file, so both run the same bytes. The
blocks are drawn from a pool that was quantized once: writing 1.2 billion weights takes seconds and little memory.
"""
from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edgeformer import quants
from edgeformer.gguf import GGUFWriter

POOL_BLOCKS = 1 << 14
CONTEXT_LENGTH = 8192
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}  # llama.cpp's `general.file_type`


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a Llama; the output matrix is tied to the embedding."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    rope_theta: float

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names in GGUF's style with shapes, rows (outputs) first."""
        width, ffn = self.hidden_size, self.intermediate_size
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        yield "token_embd.weight", (self.vocab_size, width)
        yield "output_norm.weight", (width,)
        block = {"attn_norm": (width,), "attn_q": (query, width), "attn_k": (key, width), "attn_v": (key, width),
                 "attn_output": (width, query), "ffn_norm": (width,), "ffn_gate": (ffn, width), "ffn_up": (ffn, width),
                 "ffn_down": (width, ffn)}
        for layer in range(self.num_layers):
            for name, shape in block.items():
                yield f"blk.{layer}.{name}.weight", shape

    def metadata(self) -> Iterator[tuple[str, int | float | str]]:
        """llama.cpp's keys."""
        yield "llama.context_length", CONTEXT_LENGTH
        yield "llama.embedding_length", self.hidden_size
        yield "llama.block_count", self.num_layers
        yield "llama.feed_forward_length", self.intermediate_size
        yield "llama.attention.head_count", self.num_heads
        yield "llama.attention.head_count_kv", self.num_kv_heads
        yield "llama.attention.key_length", self.head_dim
        yield "llama.attention.value_length", self.head_dim
        yield "llama.attention.layer_norm_rms_epsilon", 1e-5
        yield "llama.rope.dimension_count", self.head_dim
        yield "llama.rope.freq_base", self.rope_theta
        yield "llama.vocab_size", self.vocab_size
        yield "tokenizer.ggml.model", "no_vocab"


SHAPES = {
    "llama-15m": LlamaShape(288, 768, 6, 6, 6, 48, 32000, 1e4),  # stories15M
    "llama-135m": LlamaShape(576, 1536, 30, 9, 3, 64, 49152, 1e5),  # SmolLM-135M
    "llama-1b": LlamaShape(2048, 8192, 16, 32, 8, 64, 128256, 5e5),  # Llama-3.2-1B
}


class RandomBlocks:
    """Rows of a quantization type, their blocks drawn from a pool of weights with a standard deviation of 0.02."""

    def __init__(self, type_name: str, seed: int = 0) -> None:
        self.type = quants.by_name(type_name)
        self.generator = np.random.default_rng(seed)
        weights = self.generator.standard_normal((POOL_BLOCKS, self.type.block_size), dtype=np.float32) * 0.02
        self.pool = self.type.quantize(weights)

    def rows(self, num_rows: int, num_columns: int) -> np.ndarray:
        """uint8 [num_rows, row bytes]."""
        blocks = num_rows * num_columns // self.type.block_size
        drawn = self.pool[self.generator.integers(0, POOL_BLOCKS, blocks, dtype=np.uint16)]
        return drawn.reshape(num_rows, -1)


def write_model(shape_name: str, type_name: str, path: Path) -> None:
    """Write the model; nothing stays at `path` when it fails."""
    shape, blocks = SHAPES[shape_name], RandomBlocks(type_name)
    float_type = quants.by_name("f32")
    with GGUFWriter(path, "llama") as writer:
        writer.add("general.name", f"{shape_name}-random")
        writer.add("general.file_type", FILE_TYPES[type_name])
        writer.add("general.quantization_version", 2)
        for key, value in shape.metadata():
            writer.add(key, value)
        for name, dimensions in shape.tensors():
            writer.declare(name, dimensions, float_type.id if len(dimensions) == 1 else blocks.type.id)
        for name, dimensions in shape.tensors():
            if len(dimensions) == 1:
                writer.write(name, float_type.quantize(np.ones(dimensions, np.float32)))
            else:
                writer.write(name, blocks.rows(*dimensions))


def main(arguments: list[str]) -> None:
    if len(arguments) != 3 or arguments[0] not in SHAPES or arguments[1] not in FILE_TYPES:
        sys.exit(__doc__)
    write_model(arguments[0], arguments[1], Path(arguments[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
