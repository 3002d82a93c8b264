"""A chat template and what it makes of messages, tools and documents, as transformers passes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...errors import ChatTemplateError, InvalidInputError, InvalidOptionError, MissingDependencyError, quote
from ...host.packages import required
from .schemas import schema_of
from .traced import Traced

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["ChatTemplate", "Messages", "choose_template", "templates_of"]

Messages = Sequence[Mapping[str, Any]]

SOURCE_LIMIT = 1 << 18  # characters of a template; the longest published ones have some 20,000
DEPTH_LIMIT = 64  # of what is passed
# The names under which the reasoning of a message is passed, the one that templates read first.
REASONING = ("reasoning_content", "thinking", "reasoning")
CONTINUATION = "CONTINUE_FINAL_MESSAGE_TAG "


class ChatTemplate:
    """A template by its source.

    Parameters
    ----------
    source : str
        Jinja, as in ``tokenizer.chat_template``.
    special_tokens : mapping of str to str
        What it sees as ``bos_token`` and the like.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = special_tokens

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation.

        Parameters
        ----------
        messages : sequence of mappings
            With a role each, and a content or what else the template reads.
        tools : sequence of mappings or functions, optional
            Tools as JSON schemas; functions are described by their annotations and docstrings.
        documents : sequence of mappings, optional
        add_generation_prompt : bool
            End with what begins the model's answer.
        continue_final_message : bool
            End within the last message, which the model goes on with.
        variables : mapping, optional
            More that the template reads, e.g. ``enable_thinking``.

        Returns
        -------
        str
            A `Traced` one where the template wrote a part of it.

        Raises
        ------
        ChatTemplateError
            The template is damaged, refuses the messages, fails at them, or does what is not for templates.
        InvalidInputError
            Messages, tools or documents are of another form.
        InvalidOptionError
            The last message cannot be continued.
        """
        if add_generation_prompt and continue_final_message:
            raise InvalidOptionError("add_generation_prompt and continue_final_message contradict each other")
        chat = _checked_messages(messages)
        given = _plain({"tools": _schemas(tools), "documents": _listed("documents", documents)})
        given |= _plain(dict(variables or {}))
        final = _tag_final_message(chat, self.source) if continue_final_message else None
        special = {name: Traced.whole(piece) for name, piece in self._special_tokens.items()}
        text = _rendered(
            self.source,
            {**special, **given, "messages": chat, "add_generation_prompt": bool(add_generation_prompt)},
        )
        return text if final is None else _cut_at_tag(text, final)


def templates_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The templates of a file by name, "default" first; those that are no texts are left out."""
    prefix = "tokenizer.chat_template"
    found = {"default": metadata.get(prefix)}
    names = metadata.get(prefix + "s")
    for name in names if isinstance(names, (list, tuple)) else ():
        found[str(name)] = metadata.get(f"{prefix}.{name}")
    return {name: source for name, source in found.items() if isinstance(source, str) and source}


def choose_template(templates: Mapping[str, str], wanted: str | None, has_tools: bool, path: str) -> str:
    """The source of the template `wanted`, by its name or itself; by default that for tools or the default.

    Raises
    ------
    InvalidOptionError
        There is none.
    """
    if wanted is not None and not isinstance(wanted, str):
        raise InvalidOptionError(f"template: a name or a template is needed, not {quote(wanted)}")
    if wanted is not None and wanted in templates:
        return templates[wanted]
    if wanted is not None:
        if not re.search(r"\{[{%#]", wanted):
            known = ", ".join(map(repr, templates)) or "none"
            raise InvalidOptionError(f"template: {quote(wanted)} is no template, and of names the file has {known}")
        return wanted
    for name in ("tool_use", "default") if has_tools else ("default",):
        if name in templates:
            return templates[name]
    if templates:
        raise InvalidOptionError(f"{path}: it has no default template; name one of {', '.join(map(repr, templates))}")
    raise InvalidOptionError(
        f"{path}: the file has no chat template; give one as template= (--template): Jinja, as in "
        "tokenizer.chat_template; or convert the checkpoint again from a folder that has chat_template.jinja"
    )


@lru_cache(maxsize=16)
def _compiled(source: str) -> CodeType:
    """The code of a template."""
    with required("jinja2", "chat"):
        import jinja2
    if tuple(map(int, jinja2.__version__.split(".")[:3])) < (3, 1, 6):
        raise MissingDependencyError("jinja2>=3.1.6", "chat")  # what came before has holes in its sandbox
    from .sandbox import compile_template

    if len(source) > SOURCE_LIMIT:
        raise ChatTemplateError(f"the chat template has {len(source)} characters, and {SOURCE_LIMIT} are possible")
    try:
        return compile_template(source)
    except Exception as error:
        raise _failure("is refused" if _is_refusal(error) else "is damaged", error) from error


def _rendered(source: str, variables: Mapping[str, Any]) -> str:
    code = _compiled(source)
    import jinja2

    from .sandbox import ChatEnvironment

    environment = ChatEnvironment()
    template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
    try:
        return environment.concat(template.root_render_func(template.new_context(dict(variables))))
    except Exception as error:  # whatever a program that came with a model may raise
        own = type(error) is jinja2.TemplateError
        raise _failure("is refused" if _is_refusal(error) else "says" if own else "fails", error) from error


def _is_refusal(error: Exception) -> bool:
    from jinja2.exceptions import SecurityError

    return isinstance(error, SecurityError)


def _failure(what: str, error: Exception) -> ChatTemplateError:
    line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""  # type: ignore[attr-defined]
    name = "" if type(error).__module__.startswith("jinja2") else f"{type(error).__name__}: "
    return ChatTemplateError(f"the chat template {what}{line}: {name}{quote(str(error), 300)[1:-1]}")


def _checked_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages as a template sees them: plain copies without what is None, roles being the program's words."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InvalidInputError(f"messages: a list of dicts with role and content is needed, not {quote(messages)}")
    if not messages:
        raise InvalidInputError("messages: there are none")
    chat = []
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InvalidInputError(f"messages[{place}]: a dict with a role is needed, not {quote(message)}")
        plain = {key: value for key, value in _plain(message).items() if value is not None}
        reasoning = next((plain[name] for name in REASONING if name in plain), None)
        if reasoning is not None:
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        if re.fullmatch(r"[\w .-]+", plain["role"]):
            plain["role"] = Traced.whole(plain["role"])
        chat.append(plain)
    return chat


def _plain(value: Any, depth: int = 0) -> Any:
    """`value` in exact dicts, lists and scalars, whose methods are known."""
    if depth > DEPTH_LIMIT:
        raise InvalidInputError(f"messages, tools and documents may be {DEPTH_LIMIT} levels deep")
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):  # an enumeration, a number of NumPy's
            return kind.__str__(value) if kind is str else kind(value)
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item, depth + 1) for item in value])
    if callable(getattr(value, "item", None)) and not getattr(value, "ndim", 1):
        return _plain(value.item(), depth + 1)
    raise InvalidInputError(
        f"messages, tools and documents are made of texts, numbers, lists and dicts, not {quote(value)}"
    )


def _schemas(tools: Any) -> list[Any] | None:
    listed = _listed("tools", tools)
    return None if listed is None else [tool if isinstance(tool, Mapping) else schema_of(tool) for tool in listed]


def _listed(name: str, items: Any) -> list[Any] | None:
    if items is None:
        return None
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Sequence):
        raise InvalidInputError(f"{name}: a list is needed, not {quote(items)}")
    for item in items:
        if not isinstance(item, Mapping) and not (name == "tools" and callable(item)):
            raise InvalidInputError(f"{name}: dicts are needed, not {quote(item)}")
    return list(items)


def _tag_final_message(chat: list[dict[str, Any]], source: str) -> str:
    """Mark the end of the last message's content, and give the content."""
    content = chat[-1].get("content")
    if "content" not in source:
        raise InvalidOptionError("continue_final_message: the template does not read the content of messages")
    if isinstance(content, str):
        chat[-1]["content"] = content + CONTINUATION
        return content
    for block in reversed(content if isinstance(content, (list, tuple)) else ()):
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            text = block["text"]
            block["text"] = text + CONTINUATION
            return str(text)
    raise InvalidOptionError("continue_final_message: the last message has no text to go on from")


def _cut_at_tag(text: str, final: str) -> str:
    """`text` up to the mark; where the template trimmed the space after it, without the space before it."""
    place = text.rfind(CONTINUATION.strip())
    if place < 0 or final.strip() not in text:
        raise InvalidOptionError("continue_final_message: the template does not keep the end of the last message")
    kept = text[:place]
    return kept if text[place:].startswith(CONTINUATION) else kept.rstrip()
