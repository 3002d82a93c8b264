"""Rendered chats against transformers' (`tests/golden/make_chat_templates.py`), and what messages may look like."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.errors import ChatTemplateError, EdgeformerError, InvalidInputError, InvalidOptionError
from edgeformer.text.chat.template import ChatTemplate, choose_template, templates_of
from golden.chats import ASKED, CASES, NOW, SPECIAL_TOKENS, message

pytest.importorskip("jinja2")
GOLDEN = Path(__file__).parents[2] / "golden"
TEXTS = json.loads((GOLDEN / "chat_templates.json").read_text())
FOLDER = os.environ.get("EDGEFORMER_CHAT_TEMPLATES")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(*NOW)

    monkeypatch.setattr("edgeformer.text.chat.sandbox.datetime", Clock)


def rendered(source: str, case: dict[str, Any]) -> str | None:
    try:
        return str(ChatTemplate(source, SPECIAL_TOKENS).render(**case))
    except EdgeformerError:
        return None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@pytest.mark.parametrize("name", sorted(TEXTS["own"]))
@pytest.mark.parametrize("case", sorted(CASES))
def test_texts_are_those_of_transformers(name: str, case: str, clock: None) -> None:
    source = (GOLDEN / "templates" / f"{name}.jinja").read_text()
    assert rendered(source, CASES[case]) == TEXTS["own"][name][case]


@pytest.mark.skipif(FOLDER is None, reason="EDGEFORMER_CHAT_TEMPLATES names no folder of templates")
@pytest.mark.parametrize("case", sorted(CASES))
def test_texts_of_published_templates_are_those_of_transformers(case: str, clock: None) -> None:
    known = 0
    for path in sorted(Path(FOLDER or "").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        expected = TEXTS["others"].get(digest(source))
        if expected is not None:
            text = rendered(source, CASES[case])
            assert ("refused" if text is None else digest(text)) == expected[case], path.name
            known += 1
    assert known >= 60


def test_messages_are_not_changed() -> None:
    messages = [*ASKED, message("assistant", [{"type": "text", "text": "It"}])]
    before = json.dumps(messages)
    source = "{% for m in messages %}{{ m.content }}{% endfor %}"
    ChatTemplate(source, {}).render(messages, continue_final_message=False)
    text = ChatTemplate("{{ messages[-1].content[0].text }}", {})
    with pytest.raises(InvalidOptionError, match="does not keep the end"):
        ChatTemplate("{{ messages[0].content }}", {}).render(messages, continue_final_message=True)
    assert text.render(messages, continue_final_message=True) == "It"
    assert json.dumps(messages) == before


def test_what_is_none_is_not_there_and_reasoning_has_all_its_names() -> None:
    source = "{{ messages[0].keys() | list }}"
    assert ChatTemplate(source, {}).render([message("user", None, name=None)]) == "['role']"
    shown = ChatTemplate("{{ messages[0].reasoning_content }}{{ messages[0].thinking }}", {})
    assert shown.render([message("assistant", "", reasoning="why")]) == "whywhy"


def test_numbers_of_numpy_and_enumerations_are_plain() -> None:
    source = "{{ messages[0].n | tojson }} {{ x }}"
    assert (
        ChatTemplate(source, {}).render([message("user", "", n=np.float32(0.5))], variables={"x": np.int64(3)})
        == "0.5 3"
    )


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"messages": "Hi"}, InvalidInputError, "messages: a list of dicts"),
        ({"messages": []}, InvalidInputError, "messages: there are none"),
        ({"messages": [{"content": "Hi"}]}, InvalidInputError, r"messages\[0\]: a dict with a role"),
        ({"messages": [*ASKED, "Hi"]}, InvalidInputError, r"messages\[1\]"),
        ({"messages": [message("user", object())]}, InvalidInputError, "texts, numbers, lists and dicts"),
        ({"messages": ASKED, "tools": {}}, InvalidInputError, "tools: a list"),
        ({"messages": ASKED, "tools": ["search"]}, InvalidInputError, "tools: dicts"),
        ({"messages": ASKED, "documents": [3]}, InvalidInputError, "documents: dicts"),
        ({"messages": [message("user", [])], "continue_final_message": True}, InvalidOptionError, "no text to go on"),
        (
            {"messages": ASKED, "continue_final_message": True, "add_generation_prompt": True},
            InvalidOptionError,
            "contradict",
        ),
    ],
)
def test_other_forms_are_named(given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ChatTemplate("{{ messages[0].content }}", {}).render(**given)


def test_deep_messages_are_refused() -> None:
    deep: Any = "end"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidInputError, match="levels deep"):
        ChatTemplate("", {}).render([message("user", deep)])


def test_templates_of_a_file_and_which_is_taken() -> None:
    metadata = {
        "tokenizer.chat_template": "D",
        "tokenizer.chat_templates": ["tool_use", "rag", "lost"],
        "tokenizer.chat_template.tool_use": "T",
        "tokenizer.chat_template.rag": "R",
    }
    templates = templates_of(metadata)
    assert templates == {"default": "D", "tool_use": "T", "rag": "R"}
    assert choose_template(templates, None, False, "m") == "D"
    assert choose_template(templates, None, True, "m") == "T"
    assert choose_template(templates, "rag", True, "m") == "R"
    assert choose_template(templates, "{{ x }}", True, "m") == "{{ x }}"
    with pytest.raises(InvalidOptionError, match="no template, and of names the file has 'default', 'tool_use', 'rag'"):
        choose_template(templates, "chatml", False, "m")
    with pytest.raises(InvalidOptionError, match=r"m\.gguf: the file has no chat template; give one as template="):
        choose_template({}, None, False, "m.gguf")
    with pytest.raises(InvalidOptionError, match="no default template; name one of 'rag'"):
        choose_template({"rag": "R"}, None, True, "m")


def test_what_a_template_says_is_passed_on() -> None:
    with pytest.raises(ChatTemplateError, match="the chat template says: No system message here"):
        ChatTemplate("{{ raise_exception('No system message here') }}", {}).render(ASKED)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% if %}", "is damaged, line 1"),
        ("{{ messages[0].nothing.more }}", "fails: 'dict object' has no attribute 'nothing'"),
        ("{{ messages[0].content + 1 }}", "fails: TypeError"),
        ("{{ x | nothing }}", "No filter named 'nothing'"),
        ("{{ lipsum() }}", "'lipsum' is undefined"),
        ("(" * 5 + "{{" + "(" * 5000, "is damaged"),
        ("x" * (1 << 18) + "x", "262145 characters"),
    ],
)
def test_a_template_that_is_wrong_is_named(source: str, words: str) -> None:
    with pytest.raises(ChatTemplateError, match=words):
        ChatTemplate(source, {}).render(ASKED)
