"""Functions that are described as tools; ``python tests/golden/tool_functions.py``, in a Python with transformers,
makes `tool_functions.json`.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional, Union


class Unit(Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


def weather(town: str, days: list[int], unit: Unit = Unit.CELSIUS) -> float:
    """Weather of a town.

    Of now, or of some days.

    Args:
        town: Its name,
            and the country.
        days: Days from today
        unit: The unit: either of two

    Returns:
        Degrees.

    Raises:
        ValueError: There is no such town.
    """
    raise ValueError(town, days, unit)


def drink(kind: str, size: Literal[1, 2, "large"] = 1, sugar: Optional[bool] = None) -> None:  # noqa: UP045
    """
    Makes a drink.

    Args:
      kind: What it is (choices: ["tea", "coffee"])
      size: How large
      sugar: With sugar
    """


def store(
    items: dict[str, list[float]],
    place: Union[int, str, None],  # noqa: UP007
    pair: tuple[int, str],
    more: Union[list[int], str] = "",  # noqa: UP007
    anything: Any = None,
) -> dict:
    """Stores.

    Args:
        items: Numbers by name
        place: Where
        pair: Both
        more: More
        anything: Anything
    """
    return {"": (items, place, pair, more, anything)}


def nothing() -> str:
    """Does nothing."""
    return ""


FUNCTIONS = [weather, drink, store, nothing]


if __name__ == "__main__":
    from transformers.utils import get_json_schema

    described = {function.__name__: get_json_schema(function) for function in FUNCTIONS}
    Path(__file__).with_suffix(".json").write_text(json.dumps(described, indent=1) + "\n")
