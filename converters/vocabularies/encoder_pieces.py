"""Vocabularies of encoders whose folder has no `tokenizer.json`: what their classes do around the files of pieces.

XLM-RoBERTa and CamemBERT put tokens before the pieces, each in its own way; ALBERT writes texts in lower case without
accents; masks of DeBERTa-v2 stand behind the pieces; RoBERTa and the first DeBERTa are GPT-2's pieces with ends around
a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ...text.arrays import TokenType, VocabularyArrays
from ...text.specification import description_of
from .record import Vocabulary
from .sentencepiece_model import SentencePieceModel, read_sentencepiece_model

__all__ = [
    "BYTE_LEVEL",
    "CLASSES",
    "FRONTS",
    "MPNET_TOKENS",
    "albert_vocabulary",
    "byte_level_vocabulary",
    "deberta_vocabulary",
    "framed",
    "named_roles",
    "xlm_roberta_vocabulary",
]

CLASSES = {  # of tokenizers, by model type, for folders that name none
    "albert": "Albert",
    "camembert": "Camembert",
    "deberta": "Deberta",
    "deberta-v2": "DebertaV2",
    "mpnet": "MPNet",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}
# What stands before the pieces, and the first of the model's own pieces behind it.
FRONTS = {
    "XLMRoberta": (("<s>", "<pad>", "</s>", "<unk>"), 3),
    "Camembert": (("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"), 1),
}
MPNET_TOKENS = {  # where its settings name none
    **{"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"},
    **{"unk_token": "[UNK]", "pad_token": "<pad>", "mask_token": "<mask>"},
}
BERT = {"bos": "[CLS]", "cls": "[CLS]", "eos": "[SEP]", "seperator": "[SEP]", "mask": "[MASK]", "padding": "[PAD]"}
BERT |= {"unknown": "[UNK]"}
ROBERTA = {"bos": "<s>", "cls": "<s>", "eos": "</s>", "seperator": "</s>", "mask": "<mask>", "padding": "<pad>"}
ROBERTA |= {"unknown": "<unk>"}
BYTE_LEVEL = {  # what the tokens are called, what stands around texts, and the pattern's name
    "Bart": (ROBERTA, "RobertaProcessing", "roberta-bpe"),
    "Deberta": (BERT, "BertProcessing", "gpt-2"),
    "Roberta": (ROBERTA, "RobertaProcessing", "roberta-bpe"),
}
QUOTES = ("``", "''")  # which ALBERT reads as one character


def xlm_roberta_vocabulary(path: Path, kind: str) -> Vocabulary:
    """XLM-RoBERTa's and CamemBERT's, from `sentencepiece.bpe.model`; `kind` is a key of `FRONTS`.

    Raises
    ------
    CheckpointFormatError, ConversionError
        The file is damaged, or no Unigram model.
    """
    front, first = FRONTS[kind]
    source = unigram(path)
    tokens = [*front, *source.pieces[first:], "<mask>"]
    types = [TokenType.CONTROL] * len(front) + [*source.types[first:], TokenType.CONTROL]
    types[front.index("<unk>")] = TokenType.UNKNOWN
    scores = [0.0] * len(front) + [*source.scores[first:], 0.0]
    roles = named_roles(tokens, path, ROBERTA)
    vocabulary = with_arrays(source, tokens, types, scores, roles)
    vocabulary.description = described(vocabulary, path)
    absorb_space(vocabulary, "<mask>")
    return vocabulary


def albert_vocabulary(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """ALBERT's, from `spiece.model`, as `do_lower_case` and `keep_accents` say.

    Raises
    ------
    CheckpointFormatError, ConversionError
        The file is damaged, or no Unigram model, or it lacks a token.
    """
    source = unigram(path)
    types = [
        TokenType.CONTROL if piece in ("[CLS]", "[SEP]", "[MASK]", "<pad>") else kind
        for piece, kind in zip(source.pieces, source.types, strict=True)
    ]
    roles = named_roles(source.pieces, path, BERT | {"padding": "<pad>", "unknown": "<unk>"})
    vocabulary = with_arrays(source, source.pieces, types, source.scores, roles)
    vocabulary.description = framed(described(vocabulary, path), roles, "BertProcessing")
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": q}, "content": '"'} for q in QUOTES]
    if not settings.get("keep_accents", False):
        steps += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if settings.get("do_lower_case", True):
        steps.append({"type": "Lowercase"})
    vocabulary.description["normalizer"]["normalizers"][:0] = steps
    absorb_space(vocabulary, "[MASK]")
    return vocabulary


def deberta_vocabulary(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """DeBERTa-v2's and v3's, from `spm.model`, to which a token for masks is added.

    Raises
    ------
    CheckpointFormatError, ConversionError
        The file is damaged, or no Unigram model, or it lacks a token; or words are to be split at punctuation.
    """
    if settings.get("split_by_punct", False):
        raise ConversionError(f"{path}: split_by_punct is true: save a tokenizer.json with this tokenizer")
    source = unigram(path)
    tokens, types, scores = [*source.pieces], [*source.types], [*source.scores]
    if "[MASK]" not in tokens:
        tokens, types, scores = [*tokens, "[MASK]"], [*types, TokenType.CONTROL], [*scores, 0.0]
    roles = named_roles(tokens, path, BERT)
    vocabulary = with_arrays(source, tokens, types, scores, roles)
    vocabulary.description = framed(described(vocabulary, path), roles, "BertProcessing")
    if settings.get("do_lower_case", False):
        vocabulary.description["normalizer"]["normalizers"].insert(0, {"type": "Lowercase"})
    return vocabulary


def byte_level_vocabulary(
    kind: str, tokens: list[str], merges: list[str], settings: Mapping[str, Any], path: Path
) -> Vocabulary:
    """RoBERTa's, BART's and the first DeBERTa's, from the contents of `vocab.json` and `merges.txt`.

    `kind` is a key of `BYTE_LEVEL`.

    Raises
    ------
    ConversionError
        It lacks a token, or a space is to be put before every text.
    """
    if settings.get("add_prefix_space", False):
        raise ConversionError(f"{path}: add_prefix_space is true: save a tokenizer.json with this tokenizer")
    texts, processor, pre = BYTE_LEVEL[kind]
    roles = named_roles(tokens, path, texts)
    types = [TokenType.CONTROL if token in roles.values() else TokenType.NORMAL for token in range(len(tokens))]
    vocabulary = Vocabulary("gpt2", tokens, types, pre, merges=merges, roles=roles)
    vocabulary.flags = {"add_bos_token": True, "add_sep_token": True}
    vocabulary.description = framed(described(vocabulary, path), roles, processor)
    absorb_space(vocabulary, texts["mask"])
    return vocabulary


def unigram(path: Path) -> SentencePieceModel:
    """The model in a file of SentencePiece, which must be a Unigram one."""
    source = read_sentencepiece_model(path)
    if source.model != "t5":
        raise ConversionError(f"{path}: a SentencePiece model of BPE, where this tokenizer has a Unigram one")
    return source


def with_arrays(
    source: SentencePieceModel, tokens: list[str], types: list[int], scores: list[float], roles: dict[str, int]
) -> Vocabulary:
    """A Unigram vocabulary of these tokens, with an end on either side of a text."""
    vocabulary = Vocabulary("t5", tokens, types, scores=scores, roles=roles, charsmap=source.charsmap)
    vocabulary.flags = {
        "add_space_prefix": source.add_space_prefix,
        "remove_extra_whitespaces": source.remove_extra_whitespaces,
        "add_bos_token": True,
        "add_eos_token": True,
    }
    return vocabulary


def described(vocabulary: Vocabulary, path: Path) -> dict[str, Any]:
    """The arrays in the form of a `tokenizer.json`."""
    return description_of(VocabularyArrays(vocabulary.metadata(""), "", str(path)))


def named_roles(tokens: list[str], path: Path, texts: Mapping[str, str]) -> dict[str, int]:
    """The ids of special tokens by their texts."""
    missing = [text for text in texts.values() if text not in tokens]
    if missing:
        raise ConversionError(f"{path}: the token {quote(missing[0])} is not in the vocabulary")
    return {role: tokens.index(text) for role, text in texts.items()}


def framed(description: dict[str, Any], roles: Mapping[str, int], kind: str) -> dict[str, Any]:
    """With the tokens around texts and pairs of BERT ("BertProcessing") or of RoBERTa ("RobertaProcessing")."""
    processor: dict[str, Any] = {"type": kind, "cls": ["cls", roles["cls"]], "sep": ["sep", roles["seperator"]]}
    if kind == "RobertaProcessing":
        processor |= {"trim_offsets": True, "add_prefix_space": False}
    return {**description, "post_processor": processor}


def absorb_space(vocabulary: Vocabulary, mask: str) -> None:
    """Let the token of masks take in the space before it, as transformers has it."""
    for token in (vocabulary.description or {}).get("added_tokens", []):
        if token["content"] == mask:
            token["lstrip"] = True
