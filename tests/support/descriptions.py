"""A small `tokenizer.json`, and ways to change one value of it."""

from __future__ import annotations

import copy
import json
from typing import Any

from edgeformer.text.tokenizer import Tokenizer

DESCRIPTION: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [
        {
            "id": 5,
            "content": "</s>",
            "special": True,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
    ],
    "normalizer": {"type": "Replace", "pattern": {"String": "x"}, "content": "a"},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": False},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [5], "tokens": ["</s>"]}},
    },
    "decoder": {"type": "Fuse"},
    "model": {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2, "ba": 3, "\u2581": 4},
        "merges": [["a", "b"], ["b", "a"]],
        "unk_token": "\u2581",
    },
}


def made(description: Any) -> Tokenizer:
    text = description if isinstance(description, str) else json.dumps(description)
    tokenizer = Tokenizer.from_metadata({"tokenizer.huggingface.json": text}, path="hostile.gguf")
    assert tokenizer is not None
    return tokenizer


def changed(*steps: Any, value: Any) -> dict[str, Any]:
    """The description with the value at a path replaced."""
    description = copy.deepcopy(DESCRIPTION)
    node = description
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = value
    return description
