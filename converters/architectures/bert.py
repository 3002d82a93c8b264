"""BERT and the sentence-transformers around it: Hugging Face's `BertModel` to llama.cpp's keys and tensor names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ..vocabularies.record import Vocabulary
from ..vocabularies.tokenizer_json import steps_of
from .huggingface import HARMLESS, Config, Plan, Source, TensorPlan
from .parts import ACTIVATION_NAMES, Bias, Row, linear, norm, part, plan_rows, table, vocabulary_of, whole_heads

__all__ = ["plan"]

_POOLING_TYPES = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2}


def plan(source: Source) -> Plan:
    """What a BERT checkpoint becomes.

    Raises
    ------
    ConversionError
        The configuration asks for something that edgeformer does not run, or the tensors do not fit it.
    """
    config, tensors = source.config, TensorPlan(source.checkpoint)
    width, num_heads = whole_heads(config, "hidden_size", "num_attention_heads")
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
        "activation": ACTIVATION_NAMES[config.expect("hidden_act", *ACTIVATION_NAMES)],
    }
    num_positions = config.count("max_position_embeddings", 512)
    num_types, vocab_size = config.count("type_vocab_size", 2), config.count("vocab_size")
    vocabularies = vocabulary_of(source, metadata, vocab_size)
    vocabulary = vocabularies["tokenizer.ggml."]
    vocabulary.counts["token_type_count"] = num_types
    notes = sentence_settings(source, metadata, num_positions)
    check_case(source, vocabulary)
    prefix = "bert." if tensors.has("bert.embeddings.word_embeddings.weight") else ""
    plan_rows(tensors, rows(prefix, metadata, num_positions, num_types, vocab_size), metadata["block_count"])
    tensors.ignore(f"{prefix}embeddings.position_ids")  # the numbers 0, 1, 2, ...
    left_out = tensors.ignore(f"{prefix}pooler.*", "cls.*")
    if left_out:
        notes.append(f"left out, for embeddings do not need them: {', '.join(left_out)}")
    config.finish(HARMLESS | {"tie_word_embeddings"})  # only a head would use it
    return Plan(metadata, tensors.finish(), vocabularies, notes)


def rows(prefix: str, metadata: dict[str, Any], num_positions: int, num_types: int, vocab_size: int) -> list[Row]:
    """Every tensor of the model."""
    width, hidden_width = metadata["embedding_length"], metadata["feed_forward_length"]
    tables, block, layer = f"{prefix}embeddings", "blk.{}", f"{prefix}encoder.layer.{{}}"
    positions = table("position_embd", f"{tables}.position_embeddings", metadata["context_length"], width)
    return [
        table("token_embd", f"{tables}.word_embeddings", vocab_size, width),
        table("token_types", f"{tables}.token_type_embeddings", num_types, width),
        part(positions, 0, num_positions),
        norm("token_embd_norm", f"{tables}.LayerNorm", width),
        linear(f"{block}.attn_q", f"{layer}.attention.self.query", width, width, Bias.NEEDED),
        linear(f"{block}.attn_k", f"{layer}.attention.self.key", width, width, Bias.NEEDED),
        linear(f"{block}.attn_v", f"{layer}.attention.self.value", width, width, Bias.NEEDED),
        linear(f"{block}.attn_output", f"{layer}.attention.output.dense", width, width, Bias.NEEDED),
        norm(f"{block}.attn_output_norm", f"{layer}.attention.output.LayerNorm", width),
        linear(f"{block}.ffn_up", f"{layer}.intermediate.dense", hidden_width, width, Bias.NEEDED),
        linear(f"{block}.ffn_down", f"{layer}.output.dense", width, hidden_width, Bias.NEEDED),
        norm(f"{block}.layer_output_norm", f"{layer}.output.LayerNorm", width),
    ]


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
    modes = [key for key in settings.values if key.startswith("pooling_mode_")]
    chosen = [key for key in modes if settings.values[key]]
    settings.expect("include_prompt", True)  # without it, the mean is that of the text behind the prompt
    mode = settings.get("pooling_mode", str, "")  # the newer spelling
    if mode:
        chosen = [f"pooling_mode_{mode}_token{'' if mode == 'cls' else 's'}"]
    if len(chosen) != 1 or chosen[0] not in _POOLING_TYPES:
        known = ", ".join(_POOLING_TYPES)
        raise ConversionError(f"{settings.path}: pooling by {quote(chosen)} is not supported; known are {known}")
    settings.finish({"word_embedding_dimension", "embedding_dimension", *modes})
    return _POOLING_TYPES[chosen[0]]
