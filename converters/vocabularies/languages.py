"""The languages that a vocabulary has tokens for, and where a family of models puts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ConversionError, quote
from ...text.arrays import TokenType, VocabularyArrays
from ...text.specification import description_of
from .record import Vocabulary

__all__ = ["name_languages"]

# Names of the tokenizers' classes: how a language's token is spelled, where the source's stands, where the target's.
_FAMILIES = {
    "MBart": (re.compile(r"([a-z]{2,3}_[A-Z]{2})"), "after", "start", "en_XX"),
    "MBart50": (re.compile(r"([a-z]{2,3}_[A-Z]{2})"), "before", "forced", "en_XX"),
    "Nllb": (re.compile(r"([a-z]{3}_[A-Z][a-z]{3})"), "before", "forced", "eng_Latn"),
    "M2M100": (re.compile(r"__([a-z]{2,3})__"), "before", "forced", "en"),
    "Marian": (re.compile(r">>([^<>]+)<<"), "none", "source", None),
}


def name_languages(vocabulary: Vocabulary, name: str, settings: Mapping[str, Any], *, described: bool) -> None:
    """Record a multilingual model's languages in `vocabulary`; nothing where the tokenizer's class has none.

    `described`: a `tokenizer.json` says already what stands around a text.

    Raises
    ------
    ConversionError
        The language that sources have unless told is not in the vocabulary.
    """
    if name not in _FAMILIES:
        return
    spelling, source, target, default = _FAMILIES[name]
    special = (TokenType.CONTROL, TokenType.USER_DEFINED)
    found = ((spelling.fullmatch(piece), token) for token, piece in enumerate(vocabulary.tokens))
    ids = {match[1]: token for match, token in found if match and vocabulary.types[token] in special}
    if not ids or "eos" not in vocabulary.roles:
        return
    if name == "Nllb" and settings.get("legacy_behaviour"):
        source = "after"
    vocabulary.languages = {"ids": ids, "source": source, "target": target}
    code = settings.get("src_lang") or default
    if code is not None and code not in ids:
        raise ConversionError(f"tokenizer_config.json: src_lang = {quote(code)} is not a language of the vocabulary")
    if code is not None and not described:
        _put_around(vocabulary, ids[code], source)


def _put_around(vocabulary: Vocabulary, language: int, place: str) -> None:
    """Let the tokenizer put a language where sources have it unless told, and the end token."""
    end = vocabulary.roles["eos"]
    if vocabulary.flags.get("ids_by_piece"):
        vocabulary.roles["bos"] = language
        vocabulary.flags["add_bos_token"] = True
        return
    before, after = ([language], [end]) if place == "before" else ([], [end, language])
    arrays = VocabularyArrays(vocabulary.metadata(""), "", "tokenizer")
    description = vocabulary.description or description_of(arrays)
    names = {token: vocabulary.tokens[token] for token in (*before, *after)}
    around = {token: {"SpecialToken": {"id": name, "type_id": 0}} for token, name in names.items()}
    text, other = ({"Sequence": {"id": which, "type_id": 0}} for which in "AB")
    ends = [around[token] for token in after]
    vocabulary.description = description | {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*(around[token] for token in before), text, *ends],
            "pair": [*(around[token] for token in before), text, other, *ends],
            "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]} for token, name in names.items()},
        }
    }
