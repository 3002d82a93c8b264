"""Small synthetic checkpoints, written byte by byte with nothing of the project; golden ones as dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from golden import cases

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

TRANSFORMER: dict[str, Any] = {
    "model_type": "transformer",
    "d_model": 32,
    "nhead": 4,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "dim_feedforward": 64,
    "activation": "gelu",
    "norm_first": False,
    "positional_encoding": {
        "type": "sinusoidal",
        "layout": "interleaved",
        "log_timescale": "log(10000)/(d_model/2)",
    },
    "src_vocab_size": 11,
    "tgt_vocab_size": 13,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_length": 16,
}

BERT: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "vocab_size": 30,
    "position_embedding_type": "absolute",
}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A safetensors file of float32 arrays, or of bytes: the header's length, the header, the arrays."""
    header, offset = {}, 0
    for name, array in tensors.items():
        place = {"shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        header[name] = {"dtype": "U8" if array.dtype == np.uint8 else "F32", **place}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in tensors.values())]
    path.write_bytes(b"".join(parts))


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """A Hugging Face folder without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A golden checkpoint's configuration and tensors."""
    from edgeformer.converters.sources.checkpoint import open_checkpoint

    folder = cases.FOLDER / name
    with open_checkpoint(folder) as checkpoint:
        return json.loads((folder / "config.json").read_text()), {n: checkpoint.read(n) for n in checkpoint.names()}


def same_file(folder: Path, *sides: tuple[Mapping[str, Any], Mapping[str, np.ndarray]]) -> bool:
    """Whether all these checkpoints, of configuration and tensors, become the same bytes."""
    from edgeformer.converters import convert

    files = [
        convert(write_folder(folder / str(i) / "tiny", *side), folder / f"{i}.gguf", type="f32").path
        for i, side in enumerate(sides)
    ]
    return len({Path(file).read_bytes() for file in files}) == 1


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def llama_tensors(config: Mapping[str, Any], bias: bool = False) -> dict[str, np.ndarray]:
    """Weights with Hugging Face's names, of the sizes in `config`."""
    width, hidden, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head = config.get("head_dim", width // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width), "model.norm.weight": (width,)}
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        shapes[f"{name}.input_layernorm.weight"] = shapes[f"{name}.post_attention_layernorm.weight"] = (width,)
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            shapes[f"{name}.self_attn.{part}_proj.weight"] = (rows, width)
            if bias:
                shapes[f"{name}.self_attn.{part}_proj.bias"] = (rows,)
        shapes[f"{name}.self_attn.o_proj.weight"] = (width, queries)
        if bias:
            shapes[f"{name}.self_attn.o_proj.bias"] = (width,)
        shapes[f"{name}.mlp.gate_proj.weight"] = shapes[f"{name}.mlp.up_proj.weight"] = (hidden, width)
        shapes[f"{name}.mlp.down_proj.weight"] = (width, hidden)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, width)
    return random_tensors(shapes)


def transformer_tensors(config: Mapping[str, Any], bias: bool = True) -> dict[str, np.ndarray]:
    """Weights with torch.nn.Transformer's names, of the sizes in `config`."""
    width, hidden = config["d_model"], config["dim_feedforward"]
    shapes: dict[str, tuple[int, ...]] = {
        "src_embed.weight": (config["src_vocab_size"], width),
        "tgt_embed.weight": (config["tgt_vocab_size"], width),
        "generator.weight": (config["tgt_vocab_size"], width),
        "generator.bias": (config["tgt_vocab_size"],),
    }
    for stack, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "multihead_attn"])):
        for layer in range(config[f"num_{stack}_layers"]):
            name = f"transformer.{stack}.layers.{layer}"
            for attention in attentions:
                shapes[f"{name}.{attention}.in_proj_weight"] = (3 * width, width)
                shapes[f"{name}.{attention}.in_proj_bias"] = (3 * width,)
                shapes[f"{name}.{attention}.out_proj.weight"] = (width, width)
                shapes[f"{name}.{attention}.out_proj.bias"] = (width,)
            shapes[f"{name}.linear1.weight"], shapes[f"{name}.linear1.bias"] = (hidden, width), (hidden,)
            shapes[f"{name}.linear2.weight"], shapes[f"{name}.linear2.bias"] = (width, hidden), (width,)
            for number in range(1, len(attentions) + 2):
                shapes[f"{name}.norm{number}.weight"] = shapes[f"{name}.norm{number}.bias"] = (width,)
        shapes[f"transformer.{stack}.norm.weight"] = shapes[f"transformer.{stack}.norm.bias"] = (width,)
    wanted = {name: shape for name, shape in shapes.items() if bias or "bias" not in name}
    return random_tensors(wanted)


def bert_tensors(prefix: str = "") -> dict[str, np.ndarray]:
    """Random tensors for `BERT`."""
    pairs = {"embeddings.LayerNorm": (32,), "pooler.dense": (32, 32)}
    for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        pairs[f"encoder.layer.0.{name}"] = (32, 32)
    pairs |= {"encoder.layer.0.attention.output.LayerNorm": (32,), "encoder.layer.0.output.LayerNorm": (32,)}
    pairs |= {"encoder.layer.0.intermediate.dense": (64, 32), "encoder.layer.0.output.dense": (32, 64)}
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (30, 32),
        "embeddings.position_embeddings.weight": (24, 32),
        "embeddings.token_type_embeddings.weight": (2, 32),
        "embeddings.position_ids": (1, 24),
    }
    for name, shape in pairs.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return random_tensors({prefix + name: shape for name, shape in shapes.items()})
