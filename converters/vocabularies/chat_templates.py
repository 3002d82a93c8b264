"""The chat templates of a folder: in files of their own, as transformers 5 saves them, or in its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from .text_file import read_text

__all__ = ["read_chat_templates"]

DEFAULT_FILE, OTHERS_FOLDER, SETTINGS_FILE = "chat_template.jinja", "additional_chat_templates", "tokenizer_config.json"


def read_chat_templates(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name, "default" first where there is one.

    Parameters
    ----------
    folder : Path
    settings : mapping
        Its `tokenizer_config.json`, whose `chat_template` counts where the folder has no files of templates.

    Raises
    ------
    ConversionError
        The settings hold something else than a text or a list of names and texts, or two names are one in GGUF.
    """
    named = list(_of_settings(settings.get("chat_template"), folder / SETTINGS_FILE))
    files = [path for path in [folder / DEFAULT_FILE] if path.is_file()]
    files += sorted((folder / OTHERS_FOLDER).glob("*.jinja"))
    if files:  # as in transformers, where any file puts the settings aside
        named = [("default" if path.name == DEFAULT_FILE else path.stem, read_text(path)) for path in files]
    templates: dict[str, str] = {}
    for name, text in sorted(named, key=lambda item: item[0] != "default"):
        key = re.sub("[^A-Za-z0-9]", "_", name)  # as llama.cpp's converter spells it
        if not key or key in templates:
            raise ConversionError(f"{folder}: the chat template {quote(name)} has no name of its own")
        templates[key] = text
    return templates


def _of_settings(value: Any, path: Path) -> list[tuple[str, str]]:
    if value is None:
        return []
    entries = [{"name": "default", "template": value}] if isinstance(value, str) else value
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        pairs = [(entry.get("name"), entry.get("template")) for entry in entries]
        if all(isinstance(name, str) and isinstance(text, str) for name, text in pairs):
            return pairs
    raise ConversionError(f"{path}: chat_template = {quote(value)}: neither a text nor a list of names and texts")
