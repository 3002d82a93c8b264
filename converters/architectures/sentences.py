"""What the files of sentence-transformers beside a checkpoint say: pooling, normalization, length, prompts, case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ..vocabularies.record import Vocabulary
from ..vocabularies.tokenizer_json import steps_of
from .huggingface import Config, Source

__all__ = ["check_case", "sentence_settings"]

_POOLING_TYPES = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2}


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
