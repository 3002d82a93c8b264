"""The patterns that split a text before byte-level BPE, by the names that llama.cpp gives them."""

from __future__ import annotations

__all__ = ["LLAMA3_NAMES", "PRE_TOKENIZERS", "WHOLE_WORDS"]

_CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TIKTOKEN = (
    _CONTRACTIONS + r"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|\p{{N}}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _class(ranges: str) -> str:
    """The inside of a character class: code points in hexadecimal and ranges of them."""
    return "".join("-".join(chr(int(end, 16)) for end in item.split("-")) for item in ranges.split())


# DeepSeek's first tokenizers name the letters of Latin, Greek, Cyrillic and their kin one by one.
_CASED_LETTERS = _class(
    """
    41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1
    3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A
    1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4
    1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128
    212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D
    A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F
    104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943
    """
)
_EAST_ASIAN = "[" + _class("4E00-9FA5 800-4E00 AC00-D7FF") + "]+"
_HAN_AND_KANA = "[" + _class("4E00-9FA5 3040-309F 30A0-30FF") + "]+"
_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?[{_CASED_LETTERS}]+",
    r"\s?[" + _class("21-2F 3A-7E FF01-FF0F FF1A-FF5E 2018-201F 3000-3002") + "]+",
    r"\s+$",
    _EAST_ASIAN,
    r"\p{N}+",
)
_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    _HAN_AND_KANA,
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
_YOUTU = (
    "|".join(
        f"[{_class(ranges)}]+"
        for ranges in (
            "AC00-D7A3 3131-318E",
            "FF01 2026 201C 201D 2018 2019 2014 FF1A FF1B FF0C 3001-303F FE30-FE4F",
            "3105-312F",
        )
    )
    + "|"
    + _HAN_AND_KANA,
    _CASED % (_CONTRACTIONS + "?", _CONTRACTIONS + "?", ""),
)
_BLOOM = r" ?[^(\s|.,!?" + _class("2026 3002 FF0C 3001 964 6D4 60C") + r")]+"
_SPACES_HALVED = "".join(rf"|\s{{{count}}}(?!\S)" for count in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
_DIGIT_THEN_GPT2 = (r"\p{N}", _GPT2)
_QWEN2 = (_TIKTOKEN.format(digits=""),)
_LLAMA3 = (_TIKTOKEN.format(digits="{1,3}"),)
_GPT4O = (_CASED % (_CONTRACTIONS + "?", _CONTRACTIONS + "?", "{1,3}"),)


def _named(names: str, patterns: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(names.split(), patterns)


LLAMA3_NAMES = (
    "llama-bpe",
    "llama-v3",
    "llama3",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
)
PRE_TOKENIZERS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    **_named(
        "gpt-2 phi-2 mpt olmo jais exaone4 roberta-bpe mellum jina-es jina-de jina-v2-es jina-v2-de jina-v1-en "
        "jina-v2-code gigachat a.x-4.0 modern-bert trillion granite-docling",
        (_GPT2,),
    ),
    **_named("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", _DIGIT_THEN_GPT2),
    **_named("qwen2 stablelm2 deepseek-r1-qwen megrez kormo f2llmv2 hunyuan solar-open grok-2", _QWEN2),
    **dict.fromkeys((*LLAMA3_NAMES, "dbrx", "smaug-bpe", "glm4", "glm5", "chatglm-bpe"), _LLAMA3),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"),
    "tekken": (_CASED % ("", "", ""),),
    **_named("gpt-4o llama4 kanana2 talkie minimax-m2", _GPT4O),
    "qwen35": (_QWEN2[0].replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"),),
    "deepseek-llm": _DEEPSEEK_LLM,
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, r"\p{N}"),
    **_named("deepseek-v3 hunyuan-dense joyai-llm hy_v4", _DEEPSEEK_3),
    "youtu": _YOUTU,
    **_named("bloom poro-chat gpt3-finnish", (_BLOOM,)),
    "viking": (_BLOOM, r"\p{N}"),
    "jais-2": (_LLAMA3[0].removesuffix(r"|\s+(?!\S)|\s+") + _SPACES_HALVED + r"|\s{1}",),
    "bailingmoe": (_QWEN2[0].replace(r"|\s*[\r\n]+", r"|\s*[\r\n]"),),
    "seed-coder": (_QWEN2[0].replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+"),),
    "ufakzeka": (_QWEN2[0].removeprefix(_CONTRACTIONS + "|"),),
    "minicpm5": (r"\p{N}{1,3}", _TIKTOKEN.format(digits="+")),
    "laguna": (r"[^\n]+|[\n]+", *_QWEN2),
}
PRE_TOKENIZERS |= dict.fromkeys(("bailingmoe2", "llada-moe"), PRE_TOKENIZERS["bailingmoe"])
WHOLE_WORDS = (*LLAMA3_NAMES, "tekken", "youtu", "minicpm5")  # a known word needs no merges
