"""BART and its kin (mBART, Marian, Pegasus, M2M-100 and NLLB): Hugging Face's names to the original encoder-decoder's.

They differ in where norms stand, in the positions, in the activation and in the scale of the embeddings.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...errors import ConversionError
from ...host.exact import power
from ..vocabularies.record import Vocabulary
from ..vocabularies.vocabulary import placeholder_vocabulary, read_marian_vocabularies
from .heads import Head, plan_task_head
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import (
    ACTIVATION_NAMES,
    Bias,
    Row,
    is_own_head,
    linear,
    norm,
    part,
    plan_rows,
    table,
    vocabulary_of,
    whole_heads,
)
from .sentences import CLASSES
from .sinusoids import sinusoidal_table

__all__ = ["plan"]

OFFSET = 2  # rows of a learned table before that of position 0


@dataclass(frozen=True)
class Kind:
    """What a `model_type` means where its configuration says nothing.

    Attributes
    ----------
    norm_first, embedding_norm, final_norm : bool
        LayerNorm before each sublayer and not after it; after the embeddings; after the last layer.
    positions : {"learned", "sinusoidal", "fairseq"}
        The last is sinusoidal too, with one frequency less, and begins after the padding token's id.
    start : int or None
        What the decoder is given first; None: `bos_token_id`.
    sentences : bool
        Such models translate single sentences.
    """

    norm_first: bool
    embedding_norm: bool
    final_norm: bool
    positions: str
    start: int | None
    activation: str = "gelu"
    scaled: bool = False
    sentences: bool = False


_KINDS = {
    "bart": Kind(False, True, False, "learned", 2),
    "mbart": Kind(True, True, True, "learned", None, sentences=True),
    "marian": Kind(False, False, False, "sinusoidal", 58100, sentences=True),
    "pegasus": Kind(True, False, True, "sinusoidal", 0),
    "m2m_100": Kind(True, False, True, "fairseq", 2, "relu", True, sentences=True),
}
_ACTIVATIONS = ACTIVATION_NAMES | {"silu": "silu", "swish": "silu"}
_SIDES = (("enc", "encoder", "block_count"), ("dec", "decoder", "decoder_block_count"))
_ATTENTIONS = {"enc": {"attn": "self_attn"}, "dec": {"attn": "self_attn", "cross_attn": "encoder_attn"}}
# Of training, of heads that are not there, and what old versions wrote and nothing has read.
_WITHOUT_EFFECT = frozenset(
    re.findall(
        r"\w+",
        """
    init_std use_cache encoder_layerdrop decoder_layerdrop classif_dropout extra_pos_embeddings save_step is_decoder
    _num_labels force_bos_token_to_be_generated
        """,
    )
)
# Classes of texts are told from the last row of the decoder, which reads the text after the encoder.
_CLASSES = Head("classification_head.out_proj", dense="classification_head.dense", pooling="lasttoken")


def plan(source: Source) -> Plan:
    """What a checkpoint of BART or its kin becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    kind = _KINDS[config.expect("model_type", "bart", *_KINDS)]
    metadata = read_metadata(config, kind)
    sizes = {"enc": config.count("vocab_size")}
    shared = config.get("share_encoder_decoder_embeddings", bool, True)
    sizes["dec"] = config.count("decoder_vocab_size", sizes["enc"])
    if shared and sizes["dec"] != sizes["enc"]:
        raise config.fail("decoder_vocab_size", f"one embedding for both sides, but vocab_size = {sizes['enc']}")
    vocabularies = read_vocabularies(source, metadata, sizes)
    plan_embeddings(tensors, config, kind, metadata, sizes, shared)
    width = metadata["embedding_length"]
    for side, stack, key in _SIDES:
        if kind.embedding_norm:
            plan_rows(tensors, [norm(f"{side}.token_embd_norm", f"model.{stack}.layernorm_embedding", width)])
        plan_rows(tensors, rows_of_layer(side, f"model.{stack}.layers.{{}}", metadata), metadata[key])
        if kind.final_norm:
            plan_rows(tensors, [norm(f"{side}.output_norm", f"model.{stack}.layer_norm", width)])
    notes = plan_task_head(source, tensors, metadata, {CLASSES: _CLASSES}) if source.task == CLASSES else []
    config.finish(HARMLESS | _WITHOUT_EFFECT)
    return Plan(metadata, tensors.finish(), vocabularies, notes, sentences=kind.sentences)


def read_metadata(config: Config, kind: Kind) -> dict[str, Any]:
    """The sizes and the settings, under the original encoder-decoder's keys."""
    width, num_heads = whole_heads(config, "d_model", "encoder_attention_heads")
    feed_forward, layers = config.count("encoder_ffn_dim"), config.count("encoder_layers")
    for key, wanted in (("decoder_attention_heads", num_heads), ("decoder_ffn_dim", feed_forward)):
        if config.count(key, wanted) != wanted:
            raise config.fail(key, f"not supported where the encoder has {wanted}")
    config.expect("num_hidden_layers", layers)
    # Old versions wrote what the class means anyway.
    config.expect("normalize_before", kind.norm_first)
    config.expect("normalize_embedding", kind.embedding_norm)
    config.expect("add_final_layer_norm", kind.final_norm)
    config.expect("static_position_embeddings", kind.positions != "learned")
    config.expect("add_bias_logits", False)
    scaled = config.get("scale_embedding", bool, kind.scaled)
    start = config.get("bos_token_id", int, -1) if kind.start is None else kind.start
    activation = config.get("activation_function", str, kind.activation)
    if activation not in _ACTIVATIONS:
        raise config.fail("activation_function", f"not supported; known are {', '.join(_ACTIVATIONS)}")
    return {
        "context_length": config.count("max_position_embeddings"),
        "embedding_length": width,
        "block_count": layers,
        "decoder_block_count": config.count("decoder_layers"),
        "feed_forward_length": feed_forward,
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": 1e-5,
        "norm_first": kind.norm_first,
        "activation": _ACTIVATIONS[activation],
        "embedding_scale": math.sqrt(width) if scaled else 1.0,
        "decoder_start_token_id": config.get("decoder_start_token_id", int, start),
    }


def plan_embeddings(
    tensors: TensorPlan, config: Config, kind: Kind, metadata: dict[str, Any], sizes: dict[str, int], shared: bool
) -> None:
    """Token tables, position tables, and the matrix and bias that give the logits."""
    width, names = metadata["embedding_length"], {side: f"model.{stack}.embed_tokens" for side, stack, _ in _SIDES}
    if shared:
        stored = tensors.first("model.shared.weight", *(f"{name}.weight" for name in names.values()))
        plan_rows(tensors, [table("token_embd", stored.removesuffix(".weight"), sizes["dec"], width)])
        for copy in tensors.ignore("model.shared.weight", *(f"{name}.weight" for name in names.values())):
            if copy != stored and not tensors.is_copy(copy, "token_embd.weight"):
                raise ConversionError(f"tensor {copy} differs from {stored}, and they are to be one")
    else:
        plan_rows(tensors, [table(f"{side}.token_embd", names[side], sizes[side], width) for side in names])
    plan_positions(tensors, config, kind, metadata["context_length"], width)
    target_table = "token_embd.weight" if shared else "dec.token_embd.weight"
    if is_own_head(tensors, config, "tie_word_embeddings", True, "lm_head.weight", target_table):
        plan_rows(tensors, [linear("output", "lm_head", sizes["dec"], width)])
    bias = (sizes["dec"],)
    tensors.take("output.bias", "final_logits_bias", bias, np.ravel, (1, *bias), optional=True)


def plan_positions(tensors: TensorPlan, config: Config, kind: Kind, length: int, width: int) -> None:
    """A table of positions for each side, or one that is computed."""
    offset = OFFSET if kind.positions == "learned" else 0
    names = {side: f"model.{stack}.embed_positions" for side, stack, _ in _SIDES}
    if kind.positions == "learned" or tensors.has(f"{names['enc']}.weight"):  # old checkpoints hold sinusoids, too
        rows = [table(f"{side}.position_embd", name, length, width) for side, name in names.items()]
        plan_rows(tensors, [part(row, offset, length + offset) for row in rows])
        return
    tensors.ignore("*.embed_positions.weights")  # computed, in old checkpoints
    steps = width // 2 - (1 if kind.positions == "fairseq" else 0)
    if width % 2 or steps == 0:
        raise config.fail("d_model", "an even number of columns, 4 at least, is needed for sinusoidal positions")
    first = config.get("pad_token_id", int, 1) + 1 if kind.positions == "fairseq" else 0
    if not 0 <= first < 1 << 22:
        raise config.fail("pad_token_id", "not a token")
    frequencies = np.array([power(10000, -pair, steps) for pair in range(width // 2)])
    compute = partial(sinusoidal_table, length, frequencies, first, interleaved=False)
    tensors.make("position_embd.weight", (length, width), compute)


def rows_of_layer(side: str, layer: str, metadata: dict[str, Any]) -> list[Row]:
    """The tensors of a layer of either stack."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    block, rows = f"{side}.blk.{{}}", []
    for target, name in _ATTENTIONS[side].items():
        projections = (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", "out_proj"))
        rows += [
            linear(f"{block}.{target}_{to}", f"{layer}.{name}.{of}", width, width, Bias.NEEDED)
            for to, of in projections
        ]
        rows.append(norm(f"{block}.{target}_norm", f"{layer}.{name}_layer_norm", width))
    return [
        *rows,
        linear(f"{block}.ffn_up", f"{layer}.fc1", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.fc2", width, hidden_width, Bias.NEEDED),
        norm(f"{block}.ffn_norm", f"{layer}.final_layer_norm", width),
    ]


def read_vocabularies(source: Source, metadata: dict[str, Any], sizes: dict[str, int]) -> dict[str, Vocabulary]:
    """The vocabularies by prefix of their keys: one of the folder for both sides, or one a side."""
    config = source.config
    if config.get("grapheme_chars", str, ""):  # spelling to sounds: characters by id, the special tokens' places first
        roles = {role: config.get(f"{role}_token_id", int) for role in ("pad", "bos", "eos")}
        characters = {"enc": config.get("grapheme_chars", str), "dec": config.get("phoneme_chars", str)}
        made = {side: placeholder_vocabulary(text, roles, config.path) for side, text in characters.items()}
        return {
            "tokenizer.ggml.": made["enc"].resized(sizes["enc"]),
            "tokenizer.target.": made["dec"].resized(sizes["dec"]),
        }
    pair = read_marian_vocabularies(source.folder, config.values)
    if pair is not None:
        return {
            "tokenizer.ggml.": pair[0].resized(sizes["enc"]),
            "tokenizer.target.": pair[1].resized(sizes["dec"]),
        }
    shared = vocabulary_of(source, metadata, sizes["enc"])
    if sizes["dec"] == sizes["enc"]:
        return shared
    if shared["tokenizer.ggml."].tokens:
        raise config.fail("decoder_vocab_size", "one tokenizer for two vocabularies of different size")
    return dict.fromkeys(("tokenizer.ggml.", "tokenizer.target."), shared["tokenizer.ggml."])
