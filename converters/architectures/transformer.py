"""The original encoder-decoder: state dicts around `torch.nn.Transformer`, with its own argument names in config.json.

Besides `torch.nn.Transformer`'s arguments the configuration names what such models put around it: the embeddings'
scale, the positional encoding, the vocabularies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ..vocabularies.record import Vocabulary
from ..vocabularies.vocabulary import character_vocabulary, read_vocabulary
from .huggingface import Config, Plan, Source, TensorPlan

__all__ = ["plan"]

Float32 = NDArray[np.float32]

_ROLES = {"bos": "bos", "eos": "eos", "unknown": "unk"}  # name of a token's role in GGUF: in the config
_HARMLESS = ("architectures", "model_type", "dropout", "batch_first", "pad_token_id", "torch_dtype")
_SIDES = (("enc", "src", "encoder"), ("dec", "tgt", "decoder"))
_NORMS = {"enc": ("attn_norm", "ffn_norm"), "dec": ("attn_norm", "cross_attn_norm", "ffn_norm")}


def plan(source: Source) -> Plan:
    """What a `torch.nn.Transformer` checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config = source.config
    width, num_heads = config.count("d_model", 512), config.count("nhead", 8)
    if width % num_heads:
        raise config.fail("nhead", f"does not divide d_model = {width}")
    metadata: dict[str, Any] = {
        "context_length": config.count("max_length"),
        "embedding_length": width,
        "block_count": config.count("num_encoder_layers", 6),
        "decoder_block_count": config.count("num_decoder_layers", 6),
        "feed_forward_length": config.count("dim_feedforward", 2048),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-5),
        "norm_first": config.get("norm_first", bool, False),
        "activation": config.expect("activation", "relu", "gelu"),
        "embedding_scale": math.sqrt(width) if config.get("scale_embedding", bool, False) else 1.0,
        "decoder_start_token_id": config.get("decoder_start_token_id", int, config.get("bos_token_id", int, -1)),
    }
    sizes = {"enc": config.count("src_vocab_size"), "dec": config.count("tgt_vocab_size")}
    if not 0 <= metadata["decoder_start_token_id"] < sizes["dec"]:
        raise ConversionError(f"{config.path}: the decoder's start token is outside the target vocabulary")
    vocabularies = read_vocabularies(source, sizes)
    tensors = TensorPlan(source.checkpoint)
    plan_embeddings(tensors, config, metadata, sizes)
    prefix = "transformer." if tensors.has("transformer.encoder.layers.0.linear1.weight") else ""
    for side, _, stack in _SIDES:
        for layer in range(metadata["block_count" if side == "enc" else "decoder_block_count"]):
            plan_layer(tensors, f"{side}.blk.{layer}", f"{prefix}{stack}.layers.{layer}", metadata)
        plan_norm(tensors, f"{side}.output_norm", f"{prefix}{stack}.norm", width, optional=True)
    check_biases(config, tensors)
    config.finish(_HARMLESS)
    return Plan(metadata, tensors.finish(), vocabularies)


def check_biases(config: Config, tensors: TensorPlan) -> None:
    """The argument `bias`, where it is given, must be what the tensors of the layers are: all have one, or none."""
    planned = {tensor.name for tensor in tensors.tensors if ".blk." in tensor.name and "norm" not in tensor.name}
    biases = {name for name in planned if name.endswith(".bias")}
    wanted = config.get("bias", bool, bool(biases))
    expected = {name.replace(".weight", ".bias") for name in planned if wanted}
    if biases != expected:
        wrong = ", ".join(sorted(biases ^ expected)[:3])
        raise config.fail("bias", f"the tensors say otherwise ({wrong})")


def plan_embeddings(tensors: TensorPlan, config: Config, metadata: dict[str, Any], sizes: dict[str, int]) -> None:
    """Token tables, position tables, and the matrix that gives the logits."""
    width = metadata["embedding_length"]
    if tensors.has("embed.weight"):
        if sizes["enc"] != sizes["dec"]:
            raise config.fail("src_vocab_size", "one embedding for both sides, but tgt_vocab_size is another")
        tensors.take("token_embd.weight", "embed.weight", (sizes["dec"], width))
    else:
        for side, name, _ in _SIDES:
            table = tensors.first(
                f"{name}_embed.weight", f"{name}_embedding.weight", f"{name}_tok_emb.embedding.weight"
            )
            tensors.take(f"{side}.token_embd.weight", table, (sizes[side], width))
    plan_positions(tensors, config, metadata["context_length"], width)
    if config.get("tie_generator", bool, False):
        tensors.ignore("generator.weight")
    else:
        tensors.take("output.weight", "generator.weight", (sizes["dec"], width))
    tensors.take("output.bias", "generator.bias", (sizes["dec"],), optional=True)


def plan_positions(tensors: TensorPlan, config: Config, length: int, width: int) -> None:
    """The table of positions: computed, learned, or zero."""
    encoding = config.section("positional_encoding")
    if encoding is None:
        raise ConversionError(f"{config.path}: positional_encoding is missing: sinusoidal, learned or none?")
    kind = encoding.expect("type", "sinusoidal", "learned", "none")
    if kind == "sinusoidal":
        tensors.make("position_embd.weight", sinusoidal_table(encoding, length, width))
    elif kind == "none":
        tensors.make("position_embd.weight", np.zeros((length, width), np.float32))
    elif tensors.has("pos_embed.weight"):
        tensors.take("position_embd.weight", "pos_embed.weight", (length, width))
    else:
        for side, name, _ in _SIDES:
            tensors.take(f"{side}.position_embd.weight", f"{name}_pos_embed.weight", (length, width))
    encoding.finish()


def sinusoidal_table(encoding: Config, length: int, width: int) -> Float32:
    """Sines and cosines of the positions, computed in float64 ("Attention Is All You Need", section 3.5).

    Parameters
    ----------
    encoding : Config
        ``layout``: "interleaved" (sine and cosine in turns) or "concatenated" (all sines, then all cosines);
        ``first_position``: the position of the first row; ``log_timescale``: the logarithm of the ratio between
        neighbouring frequencies, a number or one of the two spellings in use.

    Returns
    -------
    float32 [length, width]
    """
    if width % 2:
        raise ConversionError(f"{encoding.path}: an odd d_model = {width} has no sinusoidal positions")
    spellings = {"log(10000)/(d_model/2)": width / 2, "log(10000)/(d_model/2-1)": width / 2 - 1}
    steps = spellings[encoding.expect("log_timescale", *spellings)]
    if steps == 0:
        raise ConversionError(f"{encoding.path}: d_model = {width} is too small for this log_timescale")
    frequencies = np.exp(np.arange(width // 2) * -(math.log(10000.0) / steps))
    positions = np.arange(length) + encoding.get("first_position", int, 0)
    angles = positions[:, None] * frequencies[None, :]
    parts = np.stack([np.sin(angles), np.cos(angles)])  # [2, length, width / 2]
    interleaved = encoding.expect("layout", "interleaved", "concatenated") == "interleaved"
    order = (1, 2, 0) if interleaved else (1, 0, 2)
    return np.ascontiguousarray(parts.transpose(order)).reshape(length, width).astype(np.float32)


def plan_layer(tensors: TensorPlan, block: str, name: str, metadata: dict[str, Any]) -> None:
    """One layer of either stack."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    side = block.split(".")[0]
    plan_attention(tensors, f"{block}.attn", f"{name}.self_attn", width)
    if side == "dec":
        plan_attention(tensors, f"{block}.cross_attn", f"{name}.multihead_attn", width)
    for number, norm in enumerate(_NORMS[side], start=1):
        plan_norm(tensors, f"{block}.{norm}", f"{name}.norm{number}", width)
    plan_linear(tensors, f"{block}.ffn_up", f"{name}.linear1", hidden_width, width)
    plan_linear(tensors, f"{block}.ffn_down", f"{name}.linear2", width, hidden_width)


def plan_attention(tensors: TensorPlan, target: str, name: str, width: int) -> None:
    """Torch stacks the query, key and value projections in one matrix."""
    for index, part in enumerate("qkv"):
        rows = slice(index * width, (index + 1) * width)

        def cut(array: Float32, rows: slice = rows) -> Float32:
            return np.ascontiguousarray(array[rows])

        weight, bias = f"{name}.in_proj_weight", f"{name}.in_proj_bias"
        tensors.take(f"{target}_{part}.weight", weight, (width, width), cut, source_shape=(3 * width, width))
        tensors.take(f"{target}_{part}.bias", bias, (width,), cut, source_shape=(3 * width,), optional=True)
    plan_linear(tensors, f"{target}_output", f"{name}.out_proj", width, width)


def plan_linear(tensors: TensorPlan, target: str, name: str, num_rows: int, num_columns: int) -> None:
    tensors.take(f"{target}.weight", f"{name}.weight", (num_rows, num_columns))
    tensors.take(f"{target}.bias", f"{name}.bias", (num_rows,), optional=True)


def plan_norm(tensors: TensorPlan, target: str, name: str, width: int, optional: bool = False) -> None:
    """A layer norm; one without bias (`bias=False`) gets a bias of zeros."""
    if optional and not tensors.has(f"{name}.weight"):
        return
    tensors.take(f"{target}.weight", f"{name}.weight", (width,))
    if tensors.has(f"{name}.bias"):
        tensors.take(f"{target}.bias", f"{name}.bias", (width,))
    else:
        tensors.make(f"{target}.bias", np.zeros(width, np.float32))


def read_vocabularies(source: Source, sizes: dict[str, int]) -> dict[str, Vocabulary]:
    """The source's and the target's vocabulary, by prefix of their keys."""
    config = source.config
    roles = {role: config.get(f"{key}_token_id", int, -1) for role, key in _ROLES.items()}
    roles = {role: token for role, token in roles.items() if token >= 0}
    if config.expect("tokenizer", None, "characters") is None:
        shared = read_vocabulary(source.folder, config.values)
        if shared.tokens and sizes["enc"] != sizes["dec"]:
            raise config.fail("tgt_vocab_size", "one tokenizer for two vocabularies of different size")
        shared.resized(sizes["dec"])
        return (
            {"tokenizer.ggml.": shared, "tokenizer.target.": shared}
            if not shared.tokens
            else {"tokenizer.ggml.": shared}
        )
    files = {key: source.folder / config.get(f"{key}_vocabulary", str) for key in ("source", "target")}
    for path in files.values():
        if path.parent != source.folder:
            raise ConversionError(f"{config.path}: the vocabulary {str(path)!r} is outside the model's folder")
    target = character_vocabulary(files["target"], roles).resized(sizes["dec"])
    return {
        "tokenizer.ggml.": character_vocabulary(files["source"], roles).resized(sizes["enc"]),
        "tokenizer.target.": target,
    }
