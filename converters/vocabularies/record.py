"""The vocabulary on its way into a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConversionError
from ...text.arrays import TokenType

__all__ = ["Vocabulary"]


@dataclass
class Vocabulary:
    """Tokens and rules, in GGUF's terms.

    Attributes
    ----------
    model, pre : str
        ``tokenizer.ggml.model`` and ``.pre``; the model "no_vocab" has no tokens, only roles.
    tokens, types : lists by token id
    scores, merges : list or None
    roles : dict
        Token id by role ("bos", "eos", ...).
    flags : dict
        Boolean keys such as ``add_bos_token``.
    counts : dict
        Integer keys such as ``token_type_count``.
    charsmap : bytes
        SentencePiece's compiled normalization, if any.
    description : dict or None
        A `tokenizer.json`.
    languages : dict
        What `edgeformer.text.languages` reads; empty where the model has none.
    chat_templates : dict
        Jinja texts by name; "default" is the one to use unless told.
    notes : list of str
        What the user should know.
    """

    model: str
    tokens: list[str]
    types: list[int]
    pre: str = "default"
    scores: list[float] | None = None
    merges: list[str] | None = None
    roles: dict[str, int] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    charsmap: bytes = b""
    description: dict[str, Any] | None = None
    languages: dict[str, Any] = field(default_factory=dict)
    chat_templates: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def metadata(self, prefix: str = "tokenizer.ggml.") -> dict[str, Any]:
        """The keys to write; numeric arrays are NumPy arrays of the kind that llama.cpp reads."""
        own = "tokenizer." if prefix == "tokenizer.ggml." else prefix
        entries: dict[str, Any] = {
            prefix + "model": self.model,
            prefix + "pre": self.pre if self.tokens else None,
            prefix + "tokens": self.tokens or None,
            prefix + "scores": None if self.scores is None else _float32(self.scores),
            prefix + "token_type": np.asarray(self.types, np.int32) if self.tokens else None,
            prefix + "merges": self.merges or None,
            prefix + "precompiled_charsmap": np.frombuffer(self.charsmap, np.uint8) if self.charsmap else None,
            **{f"{prefix}{role}_token_id": token for role, token in self.roles.items()},
            **{prefix + name: value for name, value in (self.flags | self.counts).items()},
            own + "chat_template": self.chat_templates.get("default"),
            own + "chat_templates": [name for name in self.chat_templates if name != "default"] or None,
            **{f"{own}chat_template.{name}": text for name, text in self.chat_templates.items() if name != "default"},
        }
        if self.languages:
            entries[own + "languages.json"] = json.dumps(self.languages, ensure_ascii=False, separators=(",", ":"))
        if self.description is not None:
            text = json.dumps(self.description, ensure_ascii=False, separators=(",", ":"))
            entries[own + "huggingface.json"] = text
        return {key: value for key, value in entries.items() if value is not None}

    def resized(self, num_rows: int) -> Vocabulary:
        """Filled up with unused tokens to the number of rows of the embedding.

        Raises
        ------
        ConversionError
            If there are more tokens than rows.
        """
        if self.model == "no_vocab":
            return self
        if len(self.tokens) > num_rows:
            raise ConversionError(f"the tokenizer has {len(self.tokens)} tokens and the embedding {num_rows} rows")
        for token in range(len(self.tokens), num_rows):
            self.tokens.append(f"[PAD{token}]")
            self.types.append(TokenType.UNUSED)
            if self.scores is not None:
                self.scores.append(-1e4)
        return self


def _float32(scores: list[float]) -> NDArray[np.float32]:
    """Scores as the file has them. Raises ConversionError for one that float32 does not hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(scores, np.float32)
    if not np.isfinite(array).all():
        token = int(np.argmin(np.isfinite(array)))
        raise ConversionError(f"the score {scores[token]} of token {token} is not a number that float32 holds")
    return array
