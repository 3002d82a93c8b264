"""BERT and the sentence-transformers around it: Hugging Face's `BertModel` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ..vocabularies.record import Vocabulary
from ..vocabularies.tokenizer_json import steps_of
from ..vocabularies.vocabulary import read_vocabulary
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan

__all__ = ["plan"]

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_POOLING_TYPES = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2}


def plan(source: Source) -> Plan:
    """What a BERT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config = source.config
    width, num_heads = config.count("hidden_size"), config.count("num_attention_heads")
    if width % num_heads:
        raise config.fail("num_attention_heads", f"does not divide hidden_size = {width}")
    config.expect("position_embedding_type", "absolute", None)
    config.expect("is_decoder", False)
    config.expect("add_cross_attention", False)
    metadata: dict[str, Any] = {
        "embedding_length": width,
        "block_count": config.count("num_hidden_layers"),
        "feed_forward_length": config.count("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.layer_norm_epsilon": config.number("layer_norm_eps", 1e-12),
        "attention.causal": False,
        "activation": _ACTIVATIONS[config.expect("hidden_act", *_ACTIVATIONS)],
    }
    num_positions = config.count("max_position_embeddings", 512)
    num_types, vocab_size = config.count("type_vocab_size", 2), config.count("vocab_size")
    vocabulary = read_vocabulary(source.folder, config.values)
    notes = sentence_settings(source, metadata, num_positions)
    check_case(source, vocabulary)
    tensors = TensorPlan(source.checkpoint)
    notes += plan_tensors(tensors, metadata, num_positions, num_types, vocab_size)
    config.finish(HARMLESS | {"tie_word_embeddings"})  # only a head would use it
    vocabulary.counts["token_type_count"] = num_types
    return Plan(metadata, tensors.finish(), {"tokenizer.ggml.": vocabulary.resized(vocab_size)}, notes)


def plan_tensors(
    tensors: TensorPlan, metadata: dict[str, Any], num_positions: int, num_types: int, vocab_size: int
) -> list[str]:
    """Every tensor of the model, by name; returns notes on those left out."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    prefix = "bert." if tensors.has("bert.embeddings.word_embeddings.weight") else ""

    def pair(target: str, name: str, *shape: int) -> None:
        """The weight of a linear layer or norm, and its bias."""
        tensors.take(f"{target}.weight", f"{prefix}{name}.weight", shape)
        tensors.take(f"{target}.bias", f"{prefix}{name}.bias", shape[:1])

    tables = f"{prefix}embeddings"
    length = metadata["context_length"]
    tensors.take("token_embd.weight", f"{tables}.word_embeddings.weight", (vocab_size, width))
    tensors.take("token_types.weight", f"{tables}.token_type_embeddings.weight", (num_types, width))
    tensors.take(
        "position_embd.weight",
        f"{tables}.position_embeddings.weight",
        (length, width),
        lambda table: table[:length],
        source_shape=(num_positions, width),
    )
    pair("token_embd_norm", "embeddings.LayerNorm", width)
    for layer in range(metadata["block_count"]):
        block, name = f"blk.{layer}", f"encoder.layer.{layer}"
        pair(f"{block}.attn_q", f"{name}.attention.self.query", width, width)
        pair(f"{block}.attn_k", f"{name}.attention.self.key", width, width)
        pair(f"{block}.attn_v", f"{name}.attention.self.value", width, width)
        pair(f"{block}.attn_output", f"{name}.attention.output.dense", width, width)
        pair(f"{block}.attn_output_norm", f"{name}.attention.output.LayerNorm", width)
        pair(f"{block}.ffn_up", f"{name}.intermediate.dense", hidden_width, width)
        pair(f"{block}.ffn_down", f"{name}.output.dense", width, hidden_width)
        pair(f"{block}.layer_output_norm", f"{name}.output.LayerNorm", width)
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    left_out = tensors.ignore(f"{prefix}pooler.*", "cls.*")
    return [f"left out, for embeddings do not need them: {', '.join(left_out)}"] if left_out else []


def sentence_settings(source: Source, metadata: dict[str, Any], num_positions: int) -> list[str]:
    """Read the modules of sentence-transformers into `metadata`: pooling, normalization, length, prompts."""
    modules = source.json("modules.json")
    length = min(num_positions, source.config_of("sentence_bert_config.json").count("max_seq_length", num_positions))
    pooling_type, normalize = 1, False
    notes = [] if modules else ["no modules.json: embeddings are the mean over the tokens, not normalized"]
    for entry in modules if isinstance(modules, list) else [modules] if modules else []:
        module = Config(entry if isinstance(entry, dict) else {"type": entry}, "modules.json")
        kind = module.get("type", str).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling_type = read_pooling(source, module.get("path", str))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise module.fail("type", "this module is not supported")
    metadata |= {"context_length": length, "pooling_type": pooling_type, "normalize_embeddings": normalize}
    if length < num_positions:
        notes.append(f"max_seq_length {length}: positions {length} to {num_positions - 1} are left out")
    return notes


def check_case(source: Source, vocabulary: Vocabulary) -> None:
    """Refuse texts in lower case before a tokenizer that knows both cases; all others give the same ids either way."""
    settings = source.config_of("sentence_bert_config.json")
    normalizer = (vocabulary.description or {}).get("normalizer")
    lowers = any(step.get("lowercase") or step.get("type") == "Lowercase" for step in steps_of(normalizer))
    if settings.get("do_lower_case", bool, False) and not lowers:
        raise settings.fail("do_lower_case", "not supported for a tokenizer that keeps upper case")


def read_pooling(source: Source, folder: str) -> int:
    """GGUF's pooling type from a sentence-transformers pooling module.

    Raises
    ------
    ConversionError
        It pools in a way that is not known, or in several.
    """
    if Path(folder).name != folder:
        raise ConversionError(f"modules.json: {quote(folder)} is not a folder beside it")
    settings = source.config_of(f"{folder}/config.json")
    chosen = [key for key, value in settings.values.items() if key.startswith("pooling_mode_") and value]
    mode = settings.get("pooling_mode", str, "")  # the newer spelling
    if mode:
        chosen = [f"pooling_mode_{mode}_token{'' if mode == 'cls' else 's'}"]
    if len(chosen) != 1 or chosen[0] not in _POOLING_TYPES:
        known = ", ".join(_POOLING_TYPES)
        raise ConversionError(f"{settings.path}: pooling by {quote(chosen)} is not supported; known are {known}")
    return _POOLING_TYPES[chosen[0]]
