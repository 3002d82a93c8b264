"""All that a model file says about text, read and checked before its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelFormatError, quote
from ..files.json_file import parse_json
from .defaults import GenerationDefaults
from .languages import Languages
from .task_settings import TaskSettings
from .tokenizer import Tokenizer

__all__ = ["SentencePrompts", "TextSettings"]

SOURCE_PREFIX, TARGET_PREFIX = "tokenizer.ggml.", "tokenizer.target."
PROMPTS_KEY = "general.prompts.json"


@dataclass(frozen=True)
class SentencePrompts:
    """What sentence-transformers puts in front of a sentence: texts by name, and the name of the one to use unless
    told.
    """

    by_name: Mapping[str, str]
    default: str | None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: str) -> SentencePrompts:
        """Read ``general.prompts.json``; absent means none. Raises ModelFormatError where it is damaged."""

        def refuse(what: str) -> ModelFormatError:
            return ModelFormatError(path, None, PROMPTS_KEY, what)

        text = metadata.get(PROMPTS_KEY, "{}")
        if not isinstance(text, str):
            raise refuse(f"{quote(text)} is not a string")
        carried = parse_json(text.encode(), path, None, PROMPTS_KEY, ModelFormatError)
        prompts = carried.get("prompts", {}) if isinstance(carried, dict) else None
        if not isinstance(prompts, dict) or not all(isinstance(value, str) for value in prompts.values()):
            raise refuse("an object with an object of strings, prompts, is needed")
        default = carried.get("default_prompt_name")
        if default is not None and default not in list(prompts):
            raise refuse(f"there is no prompt {quote(default)}, the default")
        return cls(prompts, default)


@dataclass(frozen=True)
class TextSettings:
    """Tokenizers of what goes in and comes out, how the author generates, prompts of sentences, languages, tasks."""

    tokenizer: Tokenizer | None
    target_tokenizer: Tokenizer | None
    defaults: GenerationDefaults
    prompts: SentencePrompts
    languages: Languages | None = None
    tasks: TaskSettings = field(default_factory=TaskSettings)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: str, vocab_size: int) -> TextSettings:
        """Reads and checks them. `vocab_size` is the model's: columns of its logits.

        Raises
        ------
        ModelFormatError, UnsupportedModelError
            Naming the key that is wrong.
        """
        two_sides = any(key.startswith(TARGET_PREFIX) for key in metadata)
        generated = TARGET_PREFIX if two_sides else SOURCE_PREFIX
        defaults = GenerationDefaults.from_metadata(metadata, path, vocab_size, generated)
        tokenizer = target = Tokenizer.from_metadata(metadata, path=path)
        if two_sides:
            target = Tokenizer.from_metadata(metadata, prefix=TARGET_PREFIX, path=path)
        source_size = vocab_size if tokenizer is None else tokenizer.vocab_size
        languages = Languages.from_metadata(metadata, path, vocab_size, source_size)
        prompts, tasks = SentencePrompts.from_metadata(metadata, path), TaskSettings.from_metadata(metadata, path)
        return cls(tokenizer, target, defaults, prompts, languages, tasks)
