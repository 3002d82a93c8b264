"""A small valid GGUF file of each architecture as dictionaries, for tests that change a value and write the file.

Three are written out here, for tests that must know every number. Of all others the golden checkpoint gives the keys
and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from edgeformer.converters.architectures.huggingface import Config, Source
from edgeformer.converters.architectures.registry import architecture_of, planner_of
from edgeformer.converters.sources.checkpoint import open_checkpoint
from edgeformer.files.gguf.reader import GGUFWriter
from edgeformer.quants import by_name
from golden import cases

WIDTH, HEADS, FEED_FORWARD, CONTEXT, VOCABULARY = 32, 2, 64, 32, 48


@dataclass(frozen=True)
class SmallModel:
    """What the file will hold. `kinds` are GGUF's kinds of the values where the default is not right."""

    architecture: str
    metadata: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str] = field(default_factory=dict)

    def with_metadata(self, **changes: Any) -> SmallModel:
        """Keys with `__` for the dots; None takes a key away."""
        changed = {**self.metadata, **{key.replace("__", "."): value for key, value in changes.items()}}
        return replace(self, metadata={key: value for key, value in changed.items() if value is not None})

    def with_shape(self, name: str, shape: tuple[int, ...] | None) -> SmallModel:
        """None takes the tensor away."""
        changed = {**self.shapes, name: shape}
        return replace(self, shapes={key: value for key, value in changed.items() if value is not None})

    def with_type(self, name: str, type: str) -> SmallModel:
        return replace(self, types={**self.types, name: type})

    def write(self, path: Path) -> Path:
        """Weights from a fixed seed."""
        generator = np.random.default_rng(0)
        with GGUFWriter(path, self.architecture) as writer:
            for key, value in self.metadata.items():
                writer.add(key, value)
            kinds = {name: by_name(self.types.get(name, "f32")) for name in self.shapes}
            for name, shape in self.shapes.items():
                writer.declare(name, shape, kinds[name].id)
            for name, shape in self.shapes.items():
                weights = np.ones(shape) if name.endswith("norm.weight") else generator.normal(0, 0.3, shape)
                writer.write(name, kinds[name].quantize(weights.astype(np.float32)))
        return path


def vocabulary(size: int = VOCABULARY) -> dict[str, Any]:
    """SentencePiece BPE with byte pieces."""
    tokens = ["<unk>", "<s>", "</s>", "<0x41>", *(chr(ord("a") + i) for i in range(26))]
    tokens += [f"\u2581{i}" for i in range(size - len(tokens))]
    types = [2, 3, 3, 6, *[1] * (size - 4)]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(i) for i in range(size)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def _block(prefix: str, attentions: tuple[str, ...], vectors: tuple[str, ...], bias: bool) -> dict[str, Any]:
    """Square projections of each attention, the feed-forward, and the norms."""
    parts = [f"{attention}_{part}" for attention in attentions for part in ("q", "k", "v", "output")]
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}.{part}.weight": (WIDTH, WIDTH) for part in parts}
    shapes |= {f"{prefix}.ffn_up.weight": (FEED_FORWARD, WIDTH), f"{prefix}.ffn_down.weight": (WIDTH, FEED_FORWARD)}
    shapes |= {f"{prefix}.{name}.weight": (WIDTH,) for name in vectors}
    if bias:
        shapes |= {f"{prefix}.{name}.bias": (WIDTH,) for name in (*parts, "ffn_down", *vectors)}
        shapes[f"{prefix}.ffn_up.bias"] = (FEED_FORWARD,)
    return shapes


def llama() -> SmallModel:
    sizes = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": 2,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.key_length": WIDTH // HEADS,
        "attention.value_length": WIDTH // HEADS,
        "rope.dimension_count": WIDTH // HEADS,
        "rope.freq_base": 10000.0,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 2.0,
        "expert_count": 0,
        "vocab_size": VOCABULARY,
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(2):
        shapes |= _block(f"blk.{layer}", ("attn",), ("attn_norm", "ffn_norm"), bias=False)
        shapes[f"blk.{layer}.ffn_gate.weight"] = (FEED_FORWARD, WIDTH)
    metadata = {**{f"llama.{key}": value for key, value in sizes.items()}, **vocabulary()}
    return SmallModel("llama", metadata, shapes)


def bert() -> SmallModel:
    sizes = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": 1,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
        "pooling_type": 1,
        "activation": "gelu",
        "normalize_embeddings": True,
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "token_types.weight": (2, WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        "token_embd_norm.weight": (WIDTH,),
        "token_embd_norm.bias": (WIDTH,),
        **_block("blk.0", ("attn",), ("attn_output_norm", "layer_output_norm"), bias=True),
    }
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"\u2581{chr(ord('a') + i)}" for i in range(26))]
    tokens += [f"\u2581{i}" for i in range(VOCABULARY - len(tokens))]
    words = {
        "model": "bert",
        "tokens": tokens,
        "token_type": [3, 3, 3, 3, *[1] * (VOCABULARY - 4)],
        "unknown_token_id": 1,
        "cls_token_id": 2,
        "seperator_token_id": 3,
        "padding_token_id": 0,
    }
    metadata = {f"bert.{key}": value for key, value in sizes.items()}
    return SmallModel("bert", {**metadata, **{f"tokenizer.ggml.{key}": value for key, value in words.items()}}, shapes)


def transformer() -> SmallModel:
    sizes = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": 1,
        "decoder_block_count": 1,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.layer_norm_epsilon": 1e-5,
        "norm_first": True,
        "activation": "relu",
        "embedding_scale": 5.0,
        "decoder_start_token_id": 1,
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        **_block("enc.blk.0", ("attn",), ("attn_norm", "ffn_norm"), bias=True),
        **_block("dec.blk.0", ("attn", "cross_attn"), ("attn_norm", "cross_attn_norm", "ffn_norm"), bias=True),
    }
    return SmallModel("transformer", {**{f"transformer.{k}": v for k, v in sizes.items()}, **vocabulary()}, shapes)


def from_golden(name: str) -> SmallModel:
    """The keys and shapes of the file that a golden checkpoint becomes, with a vocabulary."""
    with open_checkpoint(cases.FOLDER / name) as checkpoint:
        source = Source(Path(checkpoint.folder), Config(checkpoint.config or {}, name), checkpoint)
        architecture = architecture_of(source.config)
        plan = planner_of(architecture)(source)
    shapes = {tensor.name: tensor.shape for tensor in plan.tensors}
    tables = [shape[0] for name, shape in shapes.items() if name.endswith("token_embd.weight")]
    words = vocabulary(min(tables)) if tables else {}
    metadata = {f"{architecture.name}.{key}": value for key, value in plan.metadata.items()}
    for prefix in plan.vocabularies:
        metadata |= {key.replace("tokenizer.ggml.", prefix): value for key, value in words.items()}
    return SmallModel(architecture.name, metadata, shapes)


MODELS = {architecture: partial(from_golden, name) for architecture, name in cases.architectures().items()}
MODELS |= {"llama": llama, "bert": bert, "transformer": transformer}
