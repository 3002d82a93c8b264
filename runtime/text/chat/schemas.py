"""JSON schemas of Python functions, from annotations and Google-style docstrings, as transformers describes tools."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ...errors import InvalidInputError, quote

__all__ = ["schema_of"]

SCALARS: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
OTHERS: dict[Any, dict[str, Any]] = {
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
}
SECTIONS = r"(?:Args|Returns|Raises):"


def schema_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The description of a function as a tool.

    Parameters
    ----------
    function : callable
        Each parameter has an annotation and an entry under ``Args:`` in the docstring; an entry that ends in
        ``(choices: ["a", "b"])`` gives the values that are possible.

    Raises
    ------
    InvalidInputError
        The docstring, an annotation or an entry is missing, or an annotation has no counterpart in JSON.
    """
    name = getattr(function, "__name__", "the function")

    def refuse(what: str) -> InvalidInputError:
        return InvalidInputError(
            f"tools: {name} {what}; describe it there, or give a JSON schema instead of the function"
        )

    documentation = (inspect.getdoc(function) or "").strip()
    if not documentation:
        raise refuse("has no docstring")
    hints = get_type_hints(function)
    entries = _entries(_section(documentation, "Args") or "")
    properties, required = {}, []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.annotation is inspect.Parameter.empty:
            raise refuse(f"has no annotation of {parameter.name!r}")
        if parameter.name not in entries:
            raise refuse(f"has no entry for {parameter.name!r} under Args: in its docstring")
        schema = _schema(hints[parameter.name], refuse)
        described, choices = _choices(entries[parameter.name])
        properties[parameter.name] = {**schema, **choices, "description": described}
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    summary = re.split(rf"\n\s*{SECTIONS}", "\n" + documentation)[0].strip()
    described_function: dict[str, Any] = {"name": name, "description": summary, "parameters": parameters}
    if "return" in hints:
        returned = _schema(hints["return"], refuse)
        text = _section(documentation, "Returns")
        described_function["return"] = returned if text is None else {**returned, "description": text.strip()}
    return {"type": "function", "function": described_function}


def _section(documentation: str, name: str) -> str | None:
    found = re.search(rf"\n\s*{name}:\n(.*?)(?=\n\s*{SECTIONS}|\Z)", "\n" + documentation, re.DOTALL)
    return found.group(1) if found else None


def _entries(section: str) -> dict[str, str]:
    """The descriptions under ``Args:`` by parameter; lines that are indented deeper go on with the entry before."""
    lines = [line for line in section.split("\n") if line.strip()]
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    entries: dict[str, str] = {}
    name = ""
    for line in lines:
        begun = re.match(r"(\w+)\s*:\s*(.*)", line[margin:])
        if begun:
            name, text = begun.groups()
            entries[name] = text.strip()
        elif name:
            entries[name] += " " + line.strip()
    return entries


def _choices(text: str) -> tuple[str, dict[str, Any]]:
    found = re.search(r"\(choices:\s*(.*?)\)\s*$", text, re.IGNORECASE)
    if not found:
        return text, {}
    try:
        values = json.loads(found.group(1))
    except ValueError:
        raise InvalidInputError(f"tools: the choices {quote(found.group(1))} are no JSON list") from None
    return text[: found.start()].strip(), {"enum": values}


def _schema(hint: Any, refuse: Callable[[str], InvalidInputError]) -> dict[str, Any]:
    """The JSON schema of an annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in SCALARS:
        return {"type": SCALARS[hint]}
    if origin is None and hint in OTHERS:
        return dict(OTHERS[hint])
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _values([member.value for member in hint], refuse)
    if origin is Literal:
        return _values(list(args), refuse)
    if origin in (Union, types.UnionType):
        return _union(args, refuse)
    if origin is list:
        return {"type": "array", "items": _schema(args[0], refuse)}
    if origin is tuple and len(args) > 1 and Ellipsis not in args:
        return {"type": "array", "prefixItems": [_schema(arg, refuse) for arg in args]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(args[1], refuse)}
    raise refuse(f"has an annotation, {quote(str(hint))}, that JSON has no type for")


def _values(values: list[Any], refuse: Callable[[str], InvalidInputError]) -> dict[str, Any]:
    if not values or any(type(value) not in SCALARS for value in values):
        raise refuse("has an annotation whose values are no JSON scalars")
    kinds = list(dict.fromkeys(SCALARS[type(value)] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


def _union(args: tuple[Any, ...], refuse: Callable[[str], InvalidInputError]) -> dict[str, Any]:
    schemas = [_schema(arg, refuse) for arg in args if arg is not type(None)]
    if len(schemas) == 1:
        union = schemas[0]
    elif all(schema.keys() == {"type"} and isinstance(schema["type"], str) for schema in schemas):
        kinds = sorted({schema["type"] for schema in schemas})
        union = {"type": kinds[0] if len(kinds) == 1 else kinds}
    else:
        union = {"anyOf": schemas}
    return {**union, "nullable": True} if type(None) in args else union
