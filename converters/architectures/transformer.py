"""The original encoder-decoder: state dicts around `torch.nn.Transformer`, with its own argument names in config.json.

Besides `torch.nn.Transformer`'s arguments the configuration names what such models put around it: the embeddings'
scale, the positional encoding, the vocabularies.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ...errors import ConversionError
from ...text.defaults import GENERATION_KEYS
from ..vocabularies.record import Vocabulary
from ..vocabularies.vocabulary import character_vocabulary, read_vocabulary
from .huggingface import Config, Plan, Source, TensorPlan
from .parts import Bias, is_own_head, norm, plan_rows, whole_heads
from .sinusoids import sinusoidal_table
from .torch_rows import rows_of_layer, sinusoids

__all__ = ["plan"]

_ROLES = {"bos": "bos", "eos": "eos", "unknown": "unk"}  # name of a token's role in GGUF: in the config
_HARMLESS = GENERATION_KEYS | {"architectures", "model_type", "dropout", "batch_first", "torch_dtype"}
_SIDES = (("enc", "src", "encoder"), ("dec", "tgt", "decoder"))


def plan(source: Source) -> Plan:
    """What a `torch.nn.Transformer` checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config = source.config
    width, num_heads = whole_heads(config, "d_model", "nhead", 512, 8)
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
        what = "decoder_start_token_id, or else bos_token_id, which a target begins with, is missing or outside"
        raise ConversionError(f"{config.path}: {what} the target vocabulary of {sizes['dec']} tokens")
    vocabularies = read_vocabularies(source, sizes)
    tensors = TensorPlan(source.checkpoint)
    plan_embeddings(tensors, config, metadata, sizes)
    prefix = "transformer." if tensors.has("transformer.encoder.layers.0.linear1.weight") else ""
    for (side, _, stack), key in zip(_SIDES, ("block_count", "decoder_block_count"), strict=True):
        plan_rows(tensors, rows_of_layer(side, f"{prefix}{stack}.layers.{{}}", metadata), metadata[key])
        if tensors.has(f"{prefix}{stack}.norm.weight"):
            plan_rows(tensors, [norm(f"{side}.output_norm", f"{prefix}{stack}.norm", width, Bias.OR_ZEROS)])
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
    target_table = "token_embd.weight" if tensors.has("embed.weight") else "dec.token_embd.weight"
    if is_own_head(tensors, config, "tie_generator", False, "generator.weight", target_table):
        tensors.take("output.weight", "generator.weight", (sizes["dec"], width))
    tensors.take("output.bias", "generator.bias", (sizes["dec"],), optional=True)


def plan_positions(tensors: TensorPlan, config: Config, length: int, width: int) -> None:
    """The table of positions: computed, learned, or zero."""
    encoding = config.section("positional_encoding")
    if encoding is None:
        raise ConversionError(f"{config.path}: positional_encoding is missing: sinusoidal, learned or none?")
    kind = encoding.expect("type", "sinusoidal", "learned", "none")
    if kind == "sinusoidal":
        tensors.make(
            "position_embd.weight", (length, width), partial(sinusoidal_table, length, *sinusoids(encoding, width))
        )
    elif kind == "none":
        tensors.make("position_embd.weight", (length, width), lambda: np.zeros((length, width), np.float32))
    elif tensors.has("pos_embed.weight"):
        tensors.take("position_embd.weight", "pos_embed.weight", (length, width))
    else:
        for side, name, _ in _SIDES:
            tensors.take(f"{side}.position_embd.weight", f"{name}_pos_embed.weight", (length, width))
    encoding.finish()


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
