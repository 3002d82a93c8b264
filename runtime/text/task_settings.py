"""What an encoder-decoder was trained to be asked: prefixes and settings by task, texts sentence by sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidOptionError, ModelFormatError, quote
from ..files.json_file import parse_json
from .defaults import checked_integer, checked_real

__all__ = ["TASKS_KEY", "Task", "TaskSettings"]

TASKS_KEY = "general.tasks.json"


@dataclass(frozen=True)
class Task:
    """A text put in front of every source, and options of `generate` to go with it."""

    prefix: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, values: Any) -> Task:
        """From an entry of `task_specific_params`, in transformers' names; raises InvalidOptionError."""
        if not isinstance(values, dict) or not isinstance(values.get("prefix") or "", str):
            raise InvalidOptionError("an object of settings is needed for each task, with a text as prefix")
        options: dict[str, Any] = {}
        for key, low in (("num_beams", 1), ("no_repeat_ngram_size", 0)):
            if values.get(key) is not None:
                options[key] = checked_integer(key, values[key], low)
        if values.get("length_penalty") is not None:
            options["length_penalty"] = checked_real("length_penalty", values["length_penalty"], -10.0, 10.0)
        for option, key in (("max_tokens", "max_length"), ("min_tokens", "min_length")):
            if values.get(key):
                options[option] = max(checked_integer(key, values[key], 1) - 1, 1)  # less the start token
        return cls(values.get("prefix") or "", options)


@dataclass(frozen=True)
class TaskSettings:
    """Of a model file.

    Attributes
    ----------
    by_name : mapping of str to Task
        ``"summarization"``, ``"translation_en_to_de"``.
    prefix : str
        In front of every source of a task that has no prefix of its own.
    sentences : bool
        The model was trained on single sentences.
    source_language : str
        Two letters, or "" where nobody said.
    """

    by_name: Mapping[str, Task] = field(default_factory=dict)
    prefix: str = ""
    sentences: bool = False
    source_language: str = ""

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: str) -> TaskSettings:
        """Read ``general.tasks.json``; absent means none. Raises ModelFormatError where it is damaged."""
        text = metadata.get(TASKS_KEY, "{}")
        if not isinstance(text, str):
            raise ModelFormatError(path, None, TASKS_KEY, f"{quote(text)} is not a string")
        found = parse_json(text.encode(), path, None, TASKS_KEY, ModelFormatError)
        kinds = {"tasks": dict, "prefix": str, "sentences": bool, "source_language": str}
        if not isinstance(found, dict) or not all(isinstance(found.get(k, kind()), kind) for k, kind in kinds.items()):
            raise ModelFormatError(path, None, TASKS_KEY, "not an object of tasks, prefix, sentences, source_language")
        try:
            tasks = {name: Task.from_config(values) for name, values in found.get("tasks", {}).items()}
        except InvalidOptionError as error:
            raise ModelFormatError(path, None, TASKS_KEY, str(error)) from None
        return cls(tasks, found.get("prefix", ""), found.get("sentences", False), found.get("source_language", ""))

    def task(self, name: str) -> Task:
        """The settings of a task, those for all where it has none."""
        task = self.by_name.get(name, Task())
        return Task(task.prefix or self.prefix, task.options)
