"""Tokenizers that exist only as GGUF's arrays, as llama.cpp's converter writes them.

Each kind becomes a description in the form of `tokenizer.json`, so that one path checks, seals and runs all of them.
The rules (space prefix, score-driven merges, byte pieces, the pre-tokenizer patterns by name) are those of
llama.cpp's `llama-vocab.cpp`, of which the arrays are the interface.
"""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError, quote
from .arrays import TokenType, VocabularyArrays
from .pre_tokenizers import LLAMA3_NAMES, PRE_TOKENIZERS, WHOLE_WORDS

__all__ = [
    "PHANTOM_SPACE",
    "SYMBOLS_IN_TEXT",
    "description_of",
    "sentencepiece_bpe",
]

PHANTOM_SPACE = "\u2581"  # stands for a space inside a piece
# A key of ours in a description. Added tokens that are "normalized" are then found in the normalized text as they stand
# there, as SentencePiece finds its user-defined symbols; the library would normalize them, too, and cut the text first.
SYMBOLS_IN_TEXT = "edgeformer_symbols_in_text"


_BOS_BY_DEFAULT = (*LLAMA3_NAMES, "tekken")
_SEPARATED = ("roberta-bpe", "jina-v1-en", "jina-v2-code")


def description_of(arrays: VocabularyArrays) -> dict[str, Any]:
    """The arrays as a description in the form of `tokenizer.json`.

    Raises
    ------
    ModelFormatError
        Where an array is missing or contradicts the tokens.
    UnsupportedModelError
        For a model or pre-tokenizer name that is not known.
    """
    builders = {
        "llama": sentencepiece_bpe,
        "gemma4": _merged_sentencepiece,
        "gpt2": _byte_level,
        "t5": _unigram,
        "bert": _wordpiece,
    }
    if arrays.model not in builders:
        raise UnsupportedModelError(
            f"{arrays.path}: {arrays.prefix}model: {quote(arrays.model)} is not one of {', '.join(sorted(builders))}"
        )
    description = {"version": "1.0", "added_tokens": _added_tokens(arrays), **builders[arrays.model](arrays)}
    description["post_processor"] = _post_processor(arrays)
    if arrays.get("symbols_in_text", bool, False):
        description[SYMBOLS_IN_TEXT] = True
    return description


def _added_tokens(arrays: VocabularyArrays) -> list[dict[str, Any]]:
    special = {TokenType.CONTROL: True, TokenType.UNKNOWN: True, TokenType.USER_DEFINED: False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    in_text = arrays.get("symbols_in_text", bool, False)
    return [
        {
            "id": token,
            "content": arrays.tokens[token],
            "special": special[kind],
            "normalized": in_text and kind == TokenType.USER_DEFINED,
            **flags,
        }
        for token, kind in enumerate(arrays.types)
        if kind in special
    ]


def _post_processor(arrays: VocabularyArrays) -> dict[str, Any] | None:
    """The tokens put before and after a text."""
    wordpiece = arrays.model == "bert"
    bos_default = wordpiece or arrays.model == "llama" or (arrays.model == "gpt2" and arrays.pre in _BOS_BY_DEFAULT)
    separator = wordpiece or (arrays.model == "gpt2" and arrays.pre in _SEPARATED)
    add_eos = arrays.get("add_eos_token", bool, arrays.model == "t5")
    add_separator = arrays.get("add_sep_token", bool, separator) and not add_eos
    cls = arrays.token_id("cls_token_id", 101 if wordpiece else None)
    before = arrays.token_id("bos_token_id", 1 if arrays.model == "llama" else cls)
    after = arrays.token_id("eos_token_id", 2 if arrays.model == "llama" else 1 if arrays.model == "t5" else None)
    between = arrays.token_id("seperator_token_id", 102 if wordpiece else after)
    add_bos = arrays.get("add_bos_token", bool, bos_default) or arrays.model == "gemma4"  # whatever the file says
    ends = [
        ("before", before if add_bos else None),
        ("after", after if add_eos else between if add_separator else None),
    ]
    present = {name: token for name, token in ends if token is not None}
    if not present:
        return None
    tokens = {name: {"id": name, "ids": [token], "tokens": [arrays.tokens[token]]} for name, token in present.items()}
    start, end = ([name] if name in present else [] for name in ("before", "after"))
    doubled = bool(start) and (arrays.model == "t5" or arrays.pre in _SEPARATED)
    middle = end * 2 if doubled else end  # pairs of RoBERTa and XLM-RoBERTa have two tokens between
    single, rest = _template([*start, "A", *end], 0), _template(["B", *end], int(wordpiece))
    pair = [*_template([*start, "A", *middle], 0), *rest]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


def _template(parts: list[str], token_type: int) -> list[dict[str, Any]]:
    """Texts (A, B) and tokens by name, as `TemplateProcessing` has them."""
    return [{"Sequence" if p in "AB" else "SpecialToken": {"id": p, "type_id": token_type}} for p in parts]


def sentencepiece_bpe(arrays: VocabularyArrays, normalized: bool = False) -> dict[str, Any]:
    """SentencePiece BPE: the two neighbours whose joined piece has the highest score are joined first.

    `normalized`: with SentencePiece's normalization, which llama.cpp leaves out for this model.
    """
    scores = arrays.scores()
    usable = {
        piece: token
        for token, piece in enumerate(arrays.tokens)
        if arrays.types[token] in (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED, TokenType.UNDEFINED)
    }
    merges = [
        (-scores[token], token, piece[:cut], piece[cut:])
        for piece, token in usable.items()
        for cut in range(1, len(piece))
        if piece[:cut] in usable and piece[cut:] in usable
    ]
    merges.sort(key=lambda merge: merge[:2])
    unknown = arrays.token_id("unknown_token_id", 0)
    prefix = arrays.get("add_space_prefix", bool, True)
    normalizers = _normalizers(arrays) if normalized else []
    normalizers += _escaped_spaces(prefix)
    decoders = _spaces_from_marks()
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "model": {
            "type": "BPE",
            "vocab": {piece: token for token, piece in enumerate(arrays.tokens)},
            "merges": [(left, right) for _, _, left, right in merges],
            "unk_token": None if unknown is None else arrays.tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": True,
        },
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "decoder": {"type": "Sequence", "decoders": decoders},
    }


def _merged_sentencepiece(arrays: VocabularyArrays) -> dict[str, Any]:
    """SentencePiece's pieces with merges in place of scores: bytes are pieces, runs of line ends stand alone."""
    return {
        "model": {
            "type": "BPE",
            "vocab": {piece: token for token, piece in enumerate(arrays.tokens)},
            "merges": _merges(arrays),
            "byte_fallback": True,
        },
        "normalizer": {"type": "Sequence", "normalizers": _escaped_spaces(False)},
        "pre_tokenizer": _splits(r"[^\n]+|\n+")[0],
        "decoder": {"type": "Sequence", "decoders": _spaces_from_marks()},
    }


def _byte_level(arrays: VocabularyArrays) -> dict[str, Any]:
    """Byte-level BPE with the merges of the file and the patterns that `tokenizer.ggml.pre` names."""
    if arrays.pre not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"{arrays.path}: {arrays.prefix}pre: the pre-tokenizer {quote(arrays.pre)} is not known; "
            f"known are {', '.join(sorted(PRE_TOKENIZERS))}"
        )
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    prefix = arrays.get("add_space_prefix", bool, False)
    return {
        "model": {
            "type": "BPE",
            "vocab": {piece: token for token, piece in enumerate(arrays.tokens)},
            "merges": _merges(arrays),
            "ignore_merges": arrays.pre in WHOLE_WORDS,
        },
        "normalizer": {"type": "Prepend", "prepend": " "} if prefix else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_splits(*PRE_TOKENIZERS[arrays.pre]), byte_level]},
        "decoder": {**byte_level, "use_regex": True},
    }


def _merges(arrays: VocabularyArrays) -> list[tuple[str, str]]:
    """Pairs from strings with a space between two pieces, of which the first may begin with one."""
    merges = arrays.sequence("merges")
    if merges is None or not {*map(type, merges)} <= {str}:
        arrays.fail("merges", "not an array of strings")
    return [(merge[:1] + left, right) for merge in merges for left, _, right in [merge[1:].partition(" ")]]


def _splits(*patterns: str) -> list[dict[str, Any]]:
    """Cuts before and after everything that a pattern finds, pattern by pattern."""
    isolated = {"type": "Split", "behavior": "Isolated", "invert": False}
    return [{**isolated, "pattern": {"Regex": pattern}} for pattern in patterns]


def _unigram(arrays: VocabularyArrays) -> dict[str, Any]:
    """SentencePiece's unigram model: the segmentation with the highest sum of scores."""
    unknown = arrays.token_id("unknown_token_id", 2)
    scores = [
        0.0 if kind == TokenType.USER_DEFINED else score
        for score, kind in zip(arrays.scores(), arrays.types, strict=True)
    ]
    prefix = arrays.get("add_space_prefix", bool, True)
    metaspace = {"type": "Metaspace", "replacement": PHANTOM_SPACE, "split": True}
    splits: list[dict[str, Any]] = [{**metaspace, "prepend_scheme": "never"}]
    if TokenType.BYTE in arrays.types:
        splits.append(_byte_spelling(arrays))
    decoder = {**metaspace, "prepend_scheme": "always" if prefix else "never"}
    return {
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [[piece, score] for piece, score in zip(arrays.tokens, scores, strict=True)],
            "byte_fallback": TokenType.BYTE in arrays.types,
        },
        # Metaspace itself puts no mark before a text that begins with a space; SentencePiece does.
        "normalizer": {"type": "Sequence", "normalizers": [*_normalizers(arrays), *_escaped_spaces(prefix)]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, decoder]},
    }


def _byte_spelling(arrays: VocabularyArrays) -> dict[str, Any]:
    """A cut through every text such as ``<0x0A>``, so that it is spelled out and is not the byte token: where the
    fewest pieces would be cut in two.
    """
    digit = "[0-9A-Fa-f]"
    parts = ("<", "0", "x", digit, digit, ">")
    plain = [p for p, kind in zip(arrays.tokens, arrays.types, strict=True) if kind == TokenType.NORMAL]

    def pieces_across(cut: int) -> int:
        return sum(re.search(parts[cut - 1] + parts[cut], piece) is not None for piece in plain)

    cut = min(range(1, 6), key=pieces_across)
    pattern = f"(?<={''.join(parts[:cut])})(?={''.join(parts[cut:])})"
    return _splits(pattern)[0]


def _escaped_spaces(prefix: bool) -> list[dict[str, Any]]:
    """The mark for spaces, also before the text where the model asks for a `prefix`."""
    escape = {"type": "Replace", "pattern": {"String": " "}, "content": PHANTOM_SPACE}
    return [*([{"type": "Prepend", "prepend": PHANTOM_SPACE}] if prefix else []), escape]


def _spaces_from_marks() -> list[dict[str, Any]]:
    """The decoders of pieces with marks for spaces, and of pieces that are bytes."""
    replace = {"type": "Replace", "pattern": {"String": PHANTOM_SPACE}, "content": " "}
    return [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]


def _normalizers(arrays: VocabularyArrays) -> list[dict[str, Any]]:
    """SentencePiece's normalization: its compiled table, then no spaces at the ends and no two in a row."""
    steps: list[dict[str, Any]] = []
    charsmap = arrays.sequence("precompiled_charsmap")
    if charsmap is not None and len(charsmap):
        table = np.asarray(charsmap)
        if table.dtype.kind not in "iu":
            arrays.fail("precompiled_charsmap", "not an array of bytes")
        blob = table.astype(np.uint8).tobytes()
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode("ascii")})
    if arrays.get("remove_extra_whitespaces", bool, False):
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A | \z"}, "content": ""})
    return steps


def _wordpiece(arrays: VocabularyArrays) -> dict[str, Any]:
    """WordPiece: longest match first. llama.cpp marks word starts, the original marks continuations with ``##``."""
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    marked = any(piece.startswith(PHANTOM_SPACE) for piece in arrays.tokens)
    vocabulary: dict[str, int] = {}
    for token, piece in enumerate(arrays.tokens):
        if marked and arrays.types[token] not in special and not re.fullmatch(r"\[.+\]", piece):
            starts = piece.startswith(PHANTOM_SPACE) and len(piece) > 1
            piece = piece[1:] if starts else "##" + piece
        if vocabulary.setdefault(piece, token) != token:
            arrays.fail("tokens", f"{quote(piece)} is token {vocabulary[piece]} and token {token}")
    unknown = arrays.token_id("unknown_token_id", 100)
    if unknown is None:
        arrays.fail("unknown_token_id", "missing; a WordPiece tokenizer needs one")
    return {
        "model": {
            "type": "WordPiece",
            "vocab": vocabulary,
            "unk_token": arrays.tokens[unknown],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }
