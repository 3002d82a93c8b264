"""A Hugging Face `tokenizer.json` as llama.cpp's arrays."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...text.arrays import TokenType
from ...text.checks import Spec
from ...text.pre_tokenizers import PRE_TOKENIZERS, WHOLE_WORDS
from ...text.specification import PHANTOM_SPACE
from .record import Vocabulary
from .sentencepiece_model import SentencePieceModel, read_sentencepiece_model

__all__ = ["describe_wordpiece", "from_description", "steps_of"]


def from_description(description: Any, path: Path) -> Vocabulary:
    """From a parsed `tokenizer.json`; exact scores from the `tokenizer.model` beside it if it names the same pieces.

    Raises
    ------
    ModelFormatError, UnsupportedModelError, CheckpointFormatError
        From the checks of either file.
    """
    spec = Spec.checked(description, str(path), "tokenizer.json")
    tokens = [piece if piece else f"[UNUSED{token}]" for token, piece in enumerate(spec.pieces)]
    types = [TokenType.NORMAL if piece else TokenType.UNUSED for piece in spec.pieces]
    for added in spec.description["added_tokens"]:
        types[added["id"]] = TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED
    vocabulary = Vocabulary("huggingface", tokens, types, description=description)
    model = spec.description["model"]
    steps = steps_of(spec.description["normalizer"]) + steps_of(spec.description["pre_tokenizer"])
    if model["type"] == "WordPiece":
        describe_wordpiece(vocabulary, model)
    elif model["type"] == "Unigram":
        _describe_unigram(vocabulary, model, steps)
    elif model["type"] == "BPE" and any(step.get("type") == "ByteLevel" for step in steps):
        _describe_byte_level(vocabulary, model, spec.description["pre_tokenizer"])
        if spec.description["normalizer"] is not None:
            what = "llama.cpp does not normalize texts for this tokenizer"
            vocabulary.notes.append(f"{what}; its ids may differ")
    elif model["type"] == "BPE" and model.get("byte_fallback"):
        _describe_sentencepiece(vocabulary, model, steps, path.with_name("tokenizer.model"))
    else:
        if model["type"] == "WordLevel" and model["unk_token"] in tokens:
            vocabulary.roles["unknown"] = tokens.index(model["unk_token"])
        vocabulary.notes.append(f"only edgeformer can run this {model['type']} tokenizer, other readers of GGUF cannot")
    return vocabulary


def steps_of(component: Any) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, sequences dissolved."""
    if not isinstance(component, dict):
        return []
    for key in ("normalizers", "pretokenizers"):
        if isinstance(component.get(key), list):
            return [step for item in component[key] for step in steps_of(item)]
    return [component]


def describe_wordpiece(vocabulary: Vocabulary, model: Mapping[str, Any]) -> None:
    """Mark word starts, as llama.cpp does, in place of continuations."""
    mark = model.get("continuing_subword_prefix", "##")
    vocabulary.model = "bert"
    for token, piece in enumerate(vocabulary.tokens):
        if vocabulary.types[token] == TokenType.NORMAL and not re.fullmatch(r"\[.+\]", piece):
            starts_word = not piece.startswith(mark) or piece == mark
            vocabulary.tokens[token] = PHANTOM_SPACE + piece if starts_word else piece[len(mark) :]


def _describe_unigram(vocabulary: Vocabulary, model: Mapping[str, Any], steps: list[dict[str, Any]]) -> None:
    vocabulary.model = "t5"
    vocabulary.scores = [float(score) for _, score in model["vocab"]]
    vocabulary.scores += [0.0] * (len(vocabulary.tokens) - len(vocabulary.scores))
    if model.get("unk_id") is not None:
        vocabulary.roles["unknown"] = model["unk_id"]
        vocabulary.types[model["unk_id"]] = TokenType.UNKNOWN
    kinds = {step.get("type"): step for step in steps}
    if isinstance(kinds.get("Precompiled", {}).get("precompiled_charsmap"), str):
        vocabulary.charsmap = base64.b64decode(kinds["Precompiled"]["precompiled_charsmap"])
    vocabulary.flags["add_space_prefix"] = kinds.get("Metaspace", {}).get("prepend_scheme", "always") != "never"
    squeezes = any(step.get("type") == "Replace" and "{2,}" in str(step.get("pattern")) for step in steps)
    vocabulary.flags["remove_extra_whitespaces"] = "WhitespaceSplit" in kinds or squeezes


def _describe_byte_level(vocabulary: Vocabulary, model: Mapping[str, Any], pre_tokenizer: Any) -> None:
    vocabulary.model = "gpt2"
    vocabulary.merges = _merges_of(model)
    patterns = tuple(pattern for step in steps_of(pre_tokenizer) for pattern in _split_pattern(step))
    whole_words = bool(model.get("ignore_merges"))
    patterns = _WITHOUT_DIGITS.get(patterns, patterns)
    names = [name for name, known in PRE_TOKENIZERS.items() if known == patterns]
    names.sort(key=lambda name: (name in WHOLE_WORDS) != whole_words)
    vocabulary.pre = names[0] if names else "unknown"
    if not names or (names[0] in WHOLE_WORDS) != whole_words:
        vocabulary.notes.append("llama.cpp has no name for this pre-tokenizer; its ids may differ from edgeformer's")


# Falcon's file sets numbers apart from the space before them, which llama.cpp leaves to the merges.
_PUNCTUATION, *_WORDS, _HUNDREDS = PRE_TOKENIZERS["falcon"]
_WITHOUT_DIGITS = {(_PUNCTUATION, *_WORDS, r"\p{N}+", _HUNDREDS): PRE_TOKENIZERS["falcon"]}

# The same in the patterns of published files and of llama.cpp.
_SPELLINGS = (
    ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"),
    ("\r", r"\r"),
    ("\n", r"\n"),
    (r"[^(\s|[.,", r"[^(\s|.,"),
    ("])]+", ")]+"),
)


def _split_pattern(step: Mapping[str, Any]) -> list[str]:
    """The patterns of one pre-tokenizer step, spelled as llama.cpp does."""
    if step.get("type") == "Digits":
        return [r"\p{N}" if step.get("individual_digits") else r"\p{N}+"]
    if step.get("type") == "Punctuation" and step.get("behavior") == "Contiguous":
        return [_PUNCTUATION]
    if step.get("type") == "ByteLevel":
        return [*PRE_TOKENIZERS["gpt-2"]] if step.get("use_regex", True) else []
    pattern = step.get("pattern", {}).get("Regex", "") if step.get("type") == "Split" else ""
    for spelling, of_llama_cpp in _SPELLINGS:
        pattern = pattern.replace(spelling, of_llama_cpp)
    return [pattern]


def _merges_of(model: Mapping[str, Any]) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _describe_sentencepiece(
    vocabulary: Vocabulary, model: Mapping[str, Any], steps: list[dict[str, Any]], beside: Path
) -> None:
    """SentencePiece BPE. Without the original scores, a token's score is minus the rank of the first merge into it."""
    vocabulary.model = "llama"
    original = read_sentencepiece_model(beside) if beside.is_file() else SentencePieceModel()
    for token, piece in enumerate(vocabulary.tokens):
        if vocabulary.types[token] == TokenType.NORMAL and re.fullmatch("<0x[0-9A-F]{2}>", piece):
            vocabulary.types[token] = TokenType.BYTE
    unknown = model.get("unk_token") or "<unk>"
    if unknown in vocabulary.tokens:
        vocabulary.roles["unknown"] = vocabulary.tokens.index(unknown)
        vocabulary.types[vocabulary.roles["unknown"]] = TokenType.UNKNOWN
    if original.pieces and original.pieces == vocabulary.tokens[: len(original.pieces)]:
        vocabulary.scores = original.scores + [0.0] * (len(vocabulary.tokens) - len(original.pieces))
    else:
        ranks: dict[str, int] = {}
        for rank, merge in enumerate(_merges_of(model)):
            ranks.setdefault(merge.replace(" ", "", 1), rank)
        vocabulary.scores = [float(-ranks.get(piece, len(ranks))) for piece in vocabulary.tokens]
    prepends = any(step.get("type") == "Prepend" for step in steps)
    metaspace = next((step for step in steps if step.get("type") == "Metaspace"), None)
    vocabulary.flags["add_space_prefix"] = prepends or (
        metaspace is not None and metaspace.get("prepend_scheme", "always") != "never"
    )
    if vocabulary.flags["add_space_prefix"] and not prepends:
        what = "llama.cpp puts a mark before a text that begins with a space, too"
        vocabulary.notes.append(f"{what}; its ids of such texts differ")
