"""Functions described as tools, as transformers' `get_json_schema` describes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from edgeformer.errors import InvalidInputError
from edgeformer.text.chat.schemas import schema_of
from golden.tool_functions import FUNCTIONS

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "tool_functions.json").read_text())


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_descriptions_are_those_of_transformers(function: Callable[..., Any]) -> None:
    expected = GOLDEN[function.__name__]
    assert json.dumps(schema_of(function)) == json.dumps(expected)


def undocumented(x: int) -> int:
    return x


def unannotated(x):
    """Does.

    Args:
        x: A number.
    """


def undescribed(x: int, y: int) -> None:
    """Does.

    Args:
        x: A number.
    """


class Custom:
    pass


def custom(x: Custom) -> None:
    """Does.

    Args:
        x: A thing.
    """


def wrong_choices(x: str) -> None:
    """Does.

    Args:
        x: A thing (choices: [a])
    """


class Empty(Enum):
    pass


def empty(x: Empty) -> None:
    """Does.

    Args:
        x: A thing.
    """


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (undocumented, "undocumented has no docstring"),
        (unannotated, "no annotation of 'x'"),
        (undescribed, "no entry for 'y'"),
        (custom, "Custom.*no type for"),
        (wrong_choices, "no JSON list"),
        (empty, "no JSON scalars"),
    ],
)
def test_what_is_missing_is_named(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        schema_of(function)
