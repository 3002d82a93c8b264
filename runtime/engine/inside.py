"""What can be looked at inside a program: the states between its layers, and where its attention looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import UnsupportedModelError
from ..graph.domains import Windowed
from ..graph.graph import CacheSpec, Graph
from ..graph.interpreter import attention_weights
from ..graph.values import Node, Value

LAYERS = "layers"


class Look(NamedTuple):
    """One attention of a program."""

    node: Node
    cache: CacheSpec
    query: Value
    key: Value | None  # None where another program wrote the cache


def layer_values(graph: Graph) -> dict[str, Value]:
    """The rows before the first layer and after each.

    Raises
    ------
    UnsupportedModelError
        The architecture does not say where its layers are.
    """
    if LAYERS not in graph.taps:
        raise UnsupportedModelError(f"{graph.path}: this architecture does not name the states between its layers")
    return {f"layer {index}": value for index, value in enumerate(graph.taps[LAYERS])}


def looks_of(graph: Graph) -> list[Look]:
    """Every attention of a program in order, with the keys that it sees.

    Raises
    ------
    UnsupportedModelError
        Some stays within windows of a grid.
    """
    specs = {spec.name: spec for spec in graph.caches}
    stored: dict[str, Value] = {}
    looks = []
    for node in graph.nodes:
        if node.kind == "store_kv":
            stored[_place(node)] = node.inputs[0]
        elif node.kind == "attention":
            if isinstance(node.inputs[0].domain, Windowed):
                raise UnsupportedModelError(f"{graph.path}: attention within windows cannot be shown as one table")
            looks.append(Look(node, specs[node.attributes["cache"]], node.inputs[0], stored.get(_place(node))))
    return looks


def seen_values(looks: list[Look]) -> dict[str, Value]:
    """Queries and keys of a program's own attention, queries of that over a source, and what rows add to scores."""
    values = {}
    for index, look in enumerate(looks):
        values[f"query {index}"] = look.query
        if look.key is not None:
            values[f"key {index}"] = look.key
        if len(look.node.inputs) > 1:
            values[f"relative {index}"] = look.node.inputs[1]
    return values


def source_keys(graph: Graph) -> dict[str, Value]:
    """The keys that a program writes, by cache and layer; of a layer that it writes again, the last."""
    return {_place(node): node.inputs[0] for node in graph.nodes if node.kind == "store_kv"}


def weights_of(
    looks: list[Look],
    rows: dict[str, np.ndarray],
    source: dict[str, np.ndarray],
    tensors: Callable[[str], np.ndarray],
) -> list[np.ndarray]:
    """The weights of each attention, float32 [heads, rows, positions].

    `rows` are those of `seen_values`, `source` those of `source_keys` where another program wrote a cache; `tensors`
    gives what else attention reads.
    """
    weights = []
    for index, look in enumerate(looks):
        key = rows[f"key {index}"] if look.key is not None else source[_place(look.node)]
        own = {name: tensors(name) for name in look.node.tensors}
        found = attention_weights(
            look.node, look.cache, rows[f"query {index}"], key, own, relative=rows.get(f"relative {index}")
        )
        weights.append(found.astype(np.float32, copy=False))
    return weights


def _place(node: Node) -> str:
    return f"{node.attributes['cache']} {node.attributes['layer']}"
