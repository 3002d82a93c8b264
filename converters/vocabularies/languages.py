"""The languages that a vocabulary has tokens for, and where a family of models puts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ConversionError, quote
from ...text.arrays import TokenType, VocabularyArrays
from ...text.specification import description_of
from .record import Vocabulary

__all__ = ["language_tokens", "name_languages"]

_MBART50 = re.findall(
    r"\w+",
    """
    ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX
    ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN
    pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI
    """,
)
_M2M100 = re.findall(
    r"\w+",
    """
    af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy id
    ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si
    sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu
    """,
)
# The languages that tokenizers know without a file that names them, in the order of their tokens.
_KNOWN = {
    "MBart": _MBART50[:25],
    "MBart50": _MBART50,
    "M2M100": [f"__{code}__" for code in _M2M100],
    "wmt21": [f"__{code}__" for code in ("en", "ha", "is", "ja", "cs", "ru", "zh", "de")],
}

# Names of the tokenizers' classes: how a language's token is spelled, where the source's stands, where the target's.
_FAMILIES = {
    "MBart": (re.compile(r"([a-z]{2,3}_[A-Z]{2})"), "after", "start", "en_XX"),
    "MBart50": (re.compile(r"([a-z]{2,3}_[A-Z]{2})"), "before", "forced", "en_XX"),
    "Nllb": (re.compile(r"([a-z]{3}_[A-Z][a-z]{3})"), "before", "forced", "eng_Latn"),
    "M2M100": (re.compile(r"__([a-z]{2,3})__"), "before", "forced", "en"),
    "Marian": (re.compile(r">>([^<>]+)<<"), "none", "source", None),
}


def language_tokens(name: str, settings: Mapping[str, Any], specials: Mapping[str, Any]) -> list[str]:
    """The tokens of the languages that stand behind a family's pieces, in their order.

    Parameters
    ----------
    name : str
        Of the tokenizer's class.
    settings, specials : mapping
        `tokenizer_config.json` and `special_tokens_map.json`.

    Raises
    ------
    ConversionError
        Neither the files nor the class names them.
    """
    if name == "M2M100":
        return _KNOWN["wmt21" if settings.get("language_codes") == "wmt21" else name]
    lists = [found.get(f"{kind}_special_tokens") for found in (settings, specials) for kind in ("additional", "extra")]
    for codes in [codes for codes in lists if isinstance(codes, list)]:
        tokens = [code.get("content") if isinstance(code, dict) else code for code in codes]
        languages = [token for token in tokens if isinstance(token, str) and not token.startswith("<")]
        if languages:
            return languages
    if name not in _KNOWN:
        raise ConversionError("tokenizer_config.json: additional_special_tokens, the languages, are missing")
    return _KNOWN[name]


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
