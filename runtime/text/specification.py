"""Tokenizers that exist only as GGUF's arrays, as llama.cpp's converter writes them.

Each kind becomes a description in the form of `tokenizer.json`, so that one path checks, seals and runs all of them.
The rules (space prefix, score-driven merges, byte pieces, the pre-tokenizer patterns by name) are those of
llama.cpp's `llama-vocab.cpp`, of which the arrays are the interface.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..errors import ModelFormatError, UnsupportedModelError, quote
from .checks import PIECE_LIMIT
from .pre_tokenizers import PRE_TOKENIZERS, WHOLE_WORDS

__all__ = [
    "END_PIECES",
    "PHANTOM_SPACE",
    "TokenType",
    "VocabularyArrays",
    "description_of",
    "sentencepiece_bpe",
]

PHANTOM_SPACE = "\u2581"  # stands for a space inside a piece


class TokenType:
    """Values of `tokenizer.ggml.token_type`."""

    UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(7)


# Control tokens that end a turn in the published chat models; llama.cpp knows them by their text as well.
END_PIECES = frozenset(
    ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "</s>")
)
_BOS_BY_DEFAULT = ("llama-bpe", "llama-v3", "llama3", "tekken")
_SEPARATED = ("roberta-bpe",)


@dataclass
class VocabularyArrays:
    """The keys under ``tokenizer.ggml.`` (or another prefix), checked against each other."""

    metadata: Mapping[str, Any]
    prefix: str
    path: str

    def __post_init__(self) -> None:
        self.model = self.get("model", str, "")
        self.pre = self.get("pre", str, "default")
        self.tokens = self.checked_tokens()
        self.types = self.checked_types()
        # Some files say that these are ordinary; llama.cpp overrules them as well.
        for token in [token for token, piece in enumerate(self.tokens) if piece in END_PIECES]:
            self.types[token] = TokenType.CONTROL

    def fail(self, key: str, what: str) -> NoReturn:
        raise ModelFormatError(self.path, None, self.prefix + key, what)

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self.metadata.get(self.prefix + key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, f"{quote(value)} is not of type {kind.__name__}")
        return value

    def token_id(self, key: str, default: int | None = None) -> int | None:
        """The id under `key`, None where absent."""
        value = self.get(key, int, None)
        if value is None:
            return default if default is not None and default < len(self.tokens) else None
        if not 0 <= value < len(self.tokens):
            self.fail(key, f"token id {value} is outside the vocabulary of {len(self.tokens)}")
        return int(value)

    def sequence(self, key: str) -> Any:
        value = self.metadata.get(self.prefix + key)
        if value is not None and not isinstance(value, (list, tuple, np.ndarray)):
            self.fail(key, f"{quote(value)} is not an array")
        return value

    def checked_tokens(self) -> list[str]:
        tokens = self.sequence("tokens")
        if tokens is None or not 0 < len(tokens) <= PIECE_LIMIT:
            self.fail("tokens", f"not an array of 1 to {PIECE_LIMIT} pieces")
        if {*map(type, tokens)} != {str}:
            self.fail("tokens", "a piece is not a string")
        named = [token or f"[EMPTY_{index}]" for index, token in enumerate(tokens)]
        if len(set(named)) != len(named):
            seen: dict[str, int] = {}
            for index, token in enumerate(named):
                if seen.setdefault(token, index) != index:
                    self.fail("tokens", f"{quote(token)} is token {seen[token]} and token {index}")
        return named

    def numbers(self, key: str, kinds: type | tuple[type, ...]) -> list[Any] | None:
        """An array as long as the tokens, of numbers of one of `kinds`."""
        values = self.sequence(key)
        if values is None:
            return None
        if len(values) != len(self.tokens):
            self.fail(key, f"{len(values)} entries for {len(self.tokens)} tokens")
        listed: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
        if not all(issubclass(kind, kinds) for kind in {*map(type, listed)}) or not np.isfinite(values).all():
            self.fail(key, "an entry is not a finite number")
        return listed

    def checked_types(self) -> list[int]:
        types = self.numbers("token_type", int)
        if types is None:
            return self.guessed_types()
        for token, kind in [entry for entry in zip(self.tokens, types, strict=True) if entry[1] != TokenType.NORMAL]:
            if not TokenType.UNDEFINED <= kind <= TokenType.BYTE:
                self.fail("token_type", f"{kind} of {quote(token)} is not a type")
            if kind == TokenType.BYTE and not re.fullmatch("<0x[0-9A-Fa-f]{2}>", token):
                self.fail("tokens", f"{quote(token)} is marked as a byte and is not one of <0x00> to <0xFF>")
        return types

    def guessed_types(self) -> list[int]:
        """Types where the file has none: the tokens with a role are control tokens, unless they are one character."""
        types = [TokenType.NORMAL] * len(self.tokens)
        for key in ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"):
            token = self.token_id(f"{key}_token_id")
            if token is not None and len(self.tokens[token]) > 1:
                types[token] = TokenType.CONTROL
        if self.model in ("llama", "t5"):
            for token, piece in enumerate(self.tokens):
                if re.fullmatch("<0x[0-9A-F]{2}>", piece):
                    types[token] = TokenType.BYTE
        return types

    def scores(self) -> list[float]:
        scores = self.numbers("scores", (int, float))
        if scores is None:
            self.fail("scores", f"missing; a {quote(self.model)} tokenizer needs them")
        return scores


def description_of(arrays: VocabularyArrays) -> dict[str, Any]:
    """The arrays as a description in the form of `tokenizer.json`.

    Raises
    ------
    ModelFormatError
        Where an array is missing or contradicts the tokens.
    UnsupportedModelError
        For a model or pre-tokenizer name that is not known.
    """
    builders = {"llama": sentencepiece_bpe, "gpt2": _byte_level, "t5": _unigram, "bert": _wordpiece}
    if arrays.model not in builders:
        raise UnsupportedModelError(
            f"{arrays.path}: {arrays.prefix}model: {quote(arrays.model)} is not one of {', '.join(sorted(builders))}"
        )
    description = {"version": "1.0", "added_tokens": _added_tokens(arrays), **builders[arrays.model](arrays)}
    description["post_processor"] = _post_processor(arrays)
    return description


def _added_tokens(arrays: VocabularyArrays) -> list[dict[str, Any]]:
    special = {TokenType.CONTROL: True, TokenType.UNKNOWN: True, TokenType.USER_DEFINED: False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": token, "content": arrays.tokens[token], "special": special[kind], **flags}
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
    ends = [
        ("before", before if arrays.get("add_bos_token", bool, bos_default) else None),
        ("after", after if add_eos else between if add_separator else None),
    ]
    present = {name: token for name, token in ends if token is not None}
    if not present:
        return None
    tokens = {name: {"id": name, "ids": [token], "tokens": [arrays.tokens[token]]} for name, token in present.items()}
    start, end = ([name] if name in present else [] for name in ("before", "after"))
    between = end * 2 if start and not wordpiece else end  # RoBERTa's pairs have two tokens between
    single, rest = _template([*start, "A", *end], 0), _template(["B", *end], int(wordpiece))
    pair = [*_template([*start, "A", *between], 0), *rest]
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
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": PHANTOM_SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
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


def _byte_level(arrays: VocabularyArrays) -> dict[str, Any]:
    """Byte-level BPE with the merges of the file and the patterns that `tokenizer.ggml.pre` names."""
    if arrays.pre not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"{arrays.path}: {arrays.prefix}pre: the pre-tokenizer {quote(arrays.pre)} is not known; "
            f"known are {', '.join(sorted(PRE_TOKENIZERS))}"
        )
    merges = arrays.sequence("merges")
    if merges is None or not {*map(type, merges)} <= {str}:
        arrays.fail("merges", "not an array of strings")
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in PRE_TOKENIZERS[arrays.pre]
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    prefix = arrays.get("add_space_prefix", bool, False)
    return {
        "model": {
            "type": "BPE",
            "vocab": {piece: token for token, piece in enumerate(arrays.tokens)},
            "merges": [(merge[:1] + left, right) for merge in merges for left, _, right in [merge[1:].partition(" ")]],
            "ignore_merges": arrays.pre in WHOLE_WORDS,
        },
        "normalizer": {"type": "Prepend", "prepend": " "} if prefix else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "decoder": {**byte_level, "use_regex": True},
    }


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
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _escaped_spaces(prefix: bool) -> list[dict[str, Any]]:
    """The mark for spaces, also before the text where the model asks for a `prefix`."""
    escape = {"type": "Replace", "pattern": {"String": " "}, "content": PHANTOM_SPACE}
    return [*([{"type": "Prepend", "prepend": PHANTOM_SPACE}] if prefix else []), escape]


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
