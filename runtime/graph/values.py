"""Values and nodes: what a graph is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .domains import ROWS, Domain


@dataclass(frozen=True)
class Value:
    """A matrix of rows: `width` float32 columns over the rows of `domain`."""

    index: int
    width: int
    domain: Domain = ROWS


@dataclass(frozen=True)
class Node:
    """One operation. `tensors` names the weights it reads, `attributes` holds everything else that it needs."""

    kind: str
    inputs: tuple[Value, ...]
    output: Value | None
    tensors: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
