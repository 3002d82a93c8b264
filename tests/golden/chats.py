"""Conversations that templates are tried on, and the tools that they name."""

from __future__ import annotations

from typing import Any

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a town, now or on a day.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "description": "Name & country, e.g. <Bergen, NO>"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Unit"},
                "days": {"type": "array", "items": {"type": "integer"}, "description": "Days from today"},
            },
            "required": ["town"],
        },
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "Words"},
                "options": {
                    "type": "object",
                    "description": "More",
                    "properties": {"limit": {"type": ["integer", "null"], "description": "At most", "default": 5}},
                },
                "exact": {"type": "boolean", "description": "As written"},
            },
            "required": ["query", "exact"],
        },
    },
}


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def called(name: str, arguments: dict[str, Any], identity: str) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


ASKED = [message("user", "What is the weather in Bergen?")]
CALLING = [
    *ASKED,
    message("assistant", "", tool_calls=[called("get_weather", {"town": "Bergen, NO", "days": [0, 1]}, "abcdefghi")]),
]
ANSWERED = [
    *CALLING,
    message("tool", '{"temperature": 7, "sky": "rain"}', name="get_weather", tool_call_id="abcdefghi"),
]
TURNS = [
    message("system", "You are brief."),
    message("user", "Hi"),
    message("assistant", "Hello!  "),
    message("user", "  2 + 2 = ?\n"),
    message("assistant", "4"),
    message("user", "Größe <b>& 数字</b> 🙂 {{ x }} {% if %}"),
]
CASES: dict[str, dict[str, Any]] = {
    "one": {"messages": ASKED},
    "begun": {"messages": ASKED, "add_generation_prompt": True},
    "turns": {"messages": TURNS, "add_generation_prompt": True},
    "turns-without-prompt": {"messages": TURNS},
    "no-system": {"messages": TURNS[1:4], "add_generation_prompt": True},
    "blocks": {
        "messages": [message("user", [{"type": "text", "text": "Two"}, {"type": "text", "text": " parts"}])],
        "add_generation_prompt": True,
    },
    "tools": {"messages": ASKED, "tools": [WEATHER, SEARCH], "add_generation_prompt": True},
    "tools-system": {"messages": [TURNS[0], *ASKED], "tools": [SEARCH], "add_generation_prompt": True},
    "calling": {"messages": CALLING, "tools": [WEATHER]},
    "answered": {"messages": ANSWERED, "tools": [WEATHER, SEARCH], "add_generation_prompt": True},
    "whole-turn": {
        "messages": [
            TURNS[0],
            *ANSWERED,
            message("assistant", "7 degrees and rain."),
            message("user", "And what of Oslo?"),
            message(
                "assistant",
                "I look.",
                tool_calls=[
                    called("get_weather", {"town": "Oslo"}, "123456789"),
                    called("search", {"query": "Oslo", "exact": True, "options": {"limit": None}}, "12345678a"),
                ],
            ),
            message("tool", "cold", name="get_weather", tool_call_id="123456789"),
            message("tool", "a town", name="search", tool_call_id="12345678a"),
        ],
        "tools": [WEATHER, SEARCH],
        "add_generation_prompt": True,
    },
    "reasoning": {
        "messages": [
            message("user", "17 * 3?"),
            message("assistant", "51", reasoning_content="17 * 3 = 51, surely."),
            message("user", "And 4?"),
            message("assistant", "<think>\n17 * 4\n</think>\n\n68"),
            message("user", "Thanks"),
        ],
        "add_generation_prompt": True,
    },
    "thinking-off": {"messages": ASKED, "add_generation_prompt": True, "variables": {"enable_thinking": False}},
    "documents": {
        "messages": ASKED,
        "documents": [{"title": "Rain", "text": "It rains in Bergen."}, {"title": "Sun", "text": "Not there."}],
        "add_generation_prompt": True,
    },
    "continued": {"messages": [*ASKED, message("assistant", "The weather is  ")], "continue_final_message": True},
}  # fmt: skip
SPECIAL_TOKENS = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "unk_token": "<unk>", "pad_token": "<pad>"}
NOW = (2024, 7, 26, 9, 5, 3)
