"""What checkpoints have that come from a training script and not from a library: a vocabulary in the configuration."""

from __future__ import annotations

from typing import Any

from ...errors import ConversionError
from ...text.arrays import TokenType
from ..vocabularies.record import Vocabulary
from .huggingface import Source, TensorPlan
from .parts import vocabulary_of

__all__ = ["plain_vocabulary", "shares_embeddings"]


def plain_vocabulary(source: Source, metadata: dict[str, Any], vocab_size: int) -> dict[str, Vocabulary]:
    """The vocabulary under GGUF's prefix: the folder's files, or ``characters``, a string with one for each token.

    Raises
    ------
    ConversionError
        A character stands twice, or there are more than tokens.
    """
    characters = source.config.get("characters", str, "")
    if not characters:
        return vocabulary_of(source, metadata, vocab_size)
    if len(set(characters)) != len(characters):
        raise source.config.fail("characters", "a character stands twice")
    if len(characters) > vocab_size:
        what = f"characters has {len(characters)}, and the model {vocab_size} tokens"
        raise ConversionError(f"{source.config.path}: {what}")
    ids = {role: source.config.get(f"{role}_token_id", int, -1) for role in ("bos", "eos")}
    vocabulary = Vocabulary(
        "characters",
        list(characters),
        [TokenType.NORMAL] * len(characters),
        roles={role: token for role, token in ids.items() if 0 <= token < vocab_size},
        flags={"add_bos_token": False, "add_eos_token": False},
    )
    return {"tokenizer.ggml.": vocabulary.resized(vocab_size)}


def shares_embeddings(tensors: TensorPlan, stored: str) -> bool:
    """Whether a state dict has no output matrix `stored` of its own: none, or the planned embeddings once more."""
    return not tensors.has(stored) or tensors.is_copy(stored, "token_embd.weight")
