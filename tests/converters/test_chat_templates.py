"""Chat templates: wherever transformers saves them, llama.cpp finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeformer
import gguf
import pytest
from edgeformer.converters import convert
from edgeformer.errors import ConversionError
from support.checkpoints import LLAMA, llama_tensors, write_folder

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "<unk>": 2}, "unk_token": "<unk>"},
}


def written(folder: Path, out: Path) -> dict[str, Any]:
    """Keys of chat templates in the converted file, as another reader sees them."""
    reader = gguf.GGUFReader(convert(folder, out).path)
    return {key: field.contents() for key, field in reader.fields.items() if "chat_template" in key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = write_folder(tmp_path / "tiny", LLAMA, llama_tensors(LLAMA))
    (path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return path


def set_template(folder: Path, value: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))


def test_a_folder_without_one_has_none(folder: Path, tmp_path: Path) -> None:
    assert written(folder, tmp_path / "out.gguf") == {}


def test_in_the_settings(folder: Path, tmp_path: Path) -> None:
    set_template(folder, "{{ messages }}")
    assert written(folder, tmp_path / "out.gguf") == {"tokenizer.chat_template": "{{ messages }}"}


def test_a_file_goes_before_the_settings(folder: Path, tmp_path: Path) -> None:
    set_template(folder, "old")
    (folder / "chat_template.jinja").write_text("new\n{{ messages }}\n")
    assert written(folder, tmp_path / "out.gguf") == {"tokenizer.chat_template": "new\n{{ messages }}\n"}
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    assert written(folder, tmp_path / "out.gguf") == {
        "tokenizer.chat_template": "new\n{{ messages }}\n",
        "tokenizer.chat_templates": ["tool_use"],
        "tokenizer.chat_template.tool_use": "tools",
    }


def test_other_files_alone_put_the_settings_aside(folder: Path, tmp_path: Path) -> None:
    """As in transformers."""
    set_template(folder, "old")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert written(folder, tmp_path / "out.gguf") == {
        "tokenizer.chat_templates": ["rag"],
        "tokenizer.chat_template.rag": "R",
    }


def test_a_loaded_file_renders_what_the_folder_had(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    texts = {"default": "D{{ messages[0].content }}", "rag": "R"}
    set_template(folder, [{"name": name, "template": text} for name, text in texts.items()])
    written(folder, tmp_path / "out.gguf")
    with edgeformer.load(tmp_path / "out.gguf") as model:
        assert list(model.chat_templates) == ["default", "rag"] and "chat" in model.verbs
        assert model.apply_chat_template([{"role": "user", "content": "!"}], tokenize=False) == "D!"
        assert model.apply_chat_template([{"role": "user", "content": "!"}], template="rag", tokenize=False) == "R"


def test_a_list_of_templates(folder: Path, tmp_path: Path) -> None:
    """In llama.cpp's keys, names spelled as its converter spells them."""
    texts = {"tool-use": "T", "default": "D", "rag": "R"}
    set_template(folder, [{"name": name, "template": text} for name, text in texts.items()])
    assert written(folder, tmp_path / "out.gguf") == {
        "tokenizer.chat_template": "D",
        "tokenizer.chat_templates": ["tool_use", "rag"],
        "tokenizer.chat_template.tool_use": "T",
        "tokenizer.chat_template.rag": "R",
    }


@pytest.mark.parametrize(
    "value", [5, [5], [{"name": "a"}], [{"name": "a", "template": 5}], {"default": "D"},
              [{"name": "a-b", "template": "1"}, {"name": "a_b", "template": "2"}], [{"name": "", "template": "1"}]],
)  # fmt: skip
def test_what_is_no_template_is_named(folder: Path, tmp_path: Path, value: Any) -> None:
    set_template(folder, value)
    with pytest.raises(ConversionError, match=r"chat[_ ]template"):
        convert(folder, tmp_path / "out.gguf")
