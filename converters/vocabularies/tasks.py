"""What the configuration of an encoder-decoder says of the tasks that it was trained for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import ConversionError, InvalidOptionError
from ...text.task_settings import TASKS_KEY, Task

__all__ = ["task_metadata"]


def task_metadata(config: Mapping[str, Any], settings: Mapping[str, Any], *, sentences: bool) -> dict[str, str]:
    """The key that `edgeformer.text.task_settings` reads; none where there is nothing to say.

    Parameters
    ----------
    config, settings : mapping
        `config.json` and `tokenizer_config.json`.
    sentences : bool
        The architecture's models translate single sentences.

    Raises
    ------
    ConversionError
        A task's settings are wrong.
    """
    tasks, prefix = config.get("task_specific_params") or {}, config.get("prefix")
    language = settings.get("source_lang")
    try:
        for values in tasks.values() if isinstance(tasks, dict) else [tasks]:
            Task.from_config(values)
    except InvalidOptionError as error:
        raise ConversionError(f"config.json: task_specific_params: {error}") from None
    found = {
        "tasks": tasks,
        "prefix": prefix if isinstance(prefix, str) and prefix.strip() else "",
        "sentences": sentences,
        "source_language": language if sentences and isinstance(language, str) else "",
    }
    kept = {key: value for key, value in found.items() if value}
    return {TASKS_KEY: json.dumps(kept, ensure_ascii=False)} if kept else {}
