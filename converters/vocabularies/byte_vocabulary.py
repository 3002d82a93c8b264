"""ByT5's vocabulary: the bytes themselves, after three tokens, and before the sentinels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ...text.byte_alphabet import BYTE_ALPHABET
from .record import Vocabulary
from .tokenizer_json import from_description

__all__ = ["byte_vocabulary"]

FRONT = ("<pad>", "</s>", "<unk>")
SENTINELS = 125


def byte_vocabulary(settings: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that ByT5's tokenizer has without any file; an end token follows each text.

    Raises
    ------
    ConversionError
        The number of sentinels is none.
    """
    sentinels = settings.get("extra_ids") or SENTINELS
    if type(sentinels) is not int or not 0 < sentinels < 1 << 16:
        raise ConversionError(f"tokenizer_config.json: extra_ids = {quote(sentinels)} is not a number of tokens")
    pieces = sorted(BYTE_ALPHABET, key=BYTE_ALPHABET.__getitem__)
    behind = [f"<extra_id_{number}>" for number in range(sentinels)]
    names = [*FRONT, *pieces, *behind]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [*range(len(FRONT)), *range(len(names) - len(behind), len(names))]
    text, end = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    description: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [{"id": token, "content": names[token], **flags} for token in special],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [text, end],
            "pair": [text, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "unk_token": None,
            "vocab": {piece: token for token, piece in enumerate(names)},
            "merges": [],
        },
    }
    vocabulary = from_description(description, Path("tokenizer_config.json"))
    vocabulary.roles |= {"padding": 0, "eos": 1, "unknown": 2}
    return vocabulary
