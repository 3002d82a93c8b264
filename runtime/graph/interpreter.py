"""The NumPy interpreter of the same graphs: slow, in float64, without pages, tiles or quantized activations.

It is the oracle of every architecture: what a model file says, done in the plainest way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .graph import Graph, Node

_erf = np.vectorize(math.erf, otypes=[np.float64])
Array = np.ndarray

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
}


def interpret(
    graph: Graph,
    tensors: dict[str, Array],
    token_ids: Sequence[int],
    caches: dict[Any, tuple[Array, Array]],
    observe: Callable[[str, Array], None] | None = None,
) -> dict[str, Array]:
    """Every output of a program over one sequence from position 0; `caches` carries keys and values between programs.

    `observe` is called with the name of every matrix and the rows [n, columns] that it is multiplied with.
    """
    run = _Run(graph, tensors, np.asarray(token_ids, np.int64), caches, observe)
    for node in graph.nodes:
        result = getattr(run, f"_{node.kind}")(node, *[run.values[v.index] for v in node.inputs])
        if node.output is not None:
            run.values[node.output.index] = result
    return {name: run.values[value.index] for name, value in graph.outputs.items()}


class _Run:
    """One program over one sequence from position 0; a method a kind of node."""

    def __init__(
        self,
        graph: Graph,
        tensors: dict[str, Array],
        token_ids: Array,
        caches: dict[Any, tuple[Array, Array]],
        observe: Callable[[str, Array], None] | None,
    ) -> None:
        self.graph, self.tensors, self.caches, self.observe = graph, tensors, caches, observe
        self.rows = {
            "tokens": token_ids,
            "positions": np.arange(len(token_ids)),
            "token_types": np.zeros_like(token_ids),
        }
        self.values: dict[int, Array] = {}

    def _embed(self, node: Node, add: Array | None = None) -> Array:
        picked = self.tensors[node.tensors[0]][self.rows[node.attributes["source"]]] * node.attributes["scale"]
        return picked if add is None else add + picked

    def _linear(self, node: Node, x: Array) -> Array:
        weights = self.tensors[node.tensors[0]]
        if self.observe is not None:
            self.observe(node.tensors[0], x)
        y = x.astype(weights.dtype, copy=False) @ weights.T
        return y + self.tensors[node.tensors[1]] if len(node.tensors) > 1 else y

    def _norm(self, node: Node, x: Array) -> Array:
        function, epsilon = node.attributes["function"], node.attributes["epsilon"]
        shape = x.shape
        x = x.reshape(shape[0], node.attributes["groups"], -1)
        if function == "l2_norm":
            return (x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), epsilon)).reshape(shape)
        if function == "layer_norm":
            x = x - x.mean(-1, keepdims=True)
        y = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * self.tensors[node.tensors[0]]
        return (y + self.tensors[node.tensors[1]] if len(node.tensors) > 1 else y).reshape(shape)

    def _rotary(self, node: Node) -> Array:
        frequencies = node.attributes["frequencies"].astype(np.float64)
        if node.tensors:
            frequencies = frequencies / self.tensors[node.tensors[0]].reshape(-1)
        angles = self.rows["positions"][:, None] * frequencies
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * node.attributes["scale"]

    def _rope(self, node: Node, x: Array, rotary: Array) -> Array:
        half = rotary.shape[1] // 2
        heads = x.reshape(len(x), node.attributes["num_heads"], -1).copy()
        cos, sin = rotary[:, None, :half], rotary[:, None, half:]
        halves = node.attributes["pairing"] == "halves"
        first = slice(0, half) if halves else slice(0, 2 * half, 2)
        second = slice(half, 2 * half) if halves else slice(1, 2 * half, 2)
        a, b = heads[..., first].copy(), heads[..., second].copy()
        heads[..., first], heads[..., second] = a * cos - b * sin, b * cos + a * sin
        return heads.reshape(x.shape)

    def _store_kv(self, node: Node, key: Array, value: Array) -> None:
        self.caches[node.attributes["cache"], node.attributes["layer"]] = (key, value)

    def _attention(self, node: Node, query: Array) -> Array:
        a = node.attributes
        spec = next(spec for spec in self.graph.caches if spec.name == a["cache"])
        key, value = self.caches[a["cache"], a["layer"]]
        group = a["num_heads"] // spec.num_heads
        q = query.reshape(len(query), a["num_heads"], spec.key_dim).transpose(1, 0, 2)
        k = np.repeat(key.reshape(len(key), spec.num_heads, spec.key_dim).transpose(1, 0, 2), group, axis=0)
        v = np.repeat(value.reshape(len(value), spec.num_heads, spec.value_dim).transpose(1, 0, 2), group, axis=0)
        scores = q @ k.transpose(0, 2, 1) * a["scale"]
        row, column = np.arange(len(query))[:, None], np.arange(len(key))[None, :]
        hidden = (column > row) if a["causal"] else np.zeros(scores.shape[1:], bool)
        if a["window"]:
            hidden |= column <= row - a["window"]
        scores = np.where(hidden, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return (weights @ v).transpose(1, 0, 2).reshape(len(query), -1)

    def _activate(self, node: Node, x: Array) -> Array:
        return ACTIVATIONS[node.attributes["activation"]](x)

    def _gate(self, node: Node, gate: Array, up: Array) -> Array:
        return ACTIVATIONS[node.attributes["activation"]](gate) * up

    def _add(self, node: Node, a: Array, b: Array) -> Array:
        return a + b

    def _select(self, node: Node, x: Array) -> Array:
        return x

    def _pool(self, node: Node, x: Array) -> Array:
        kind = node.attributes["pooling"]
        return {"mean": x.mean(0), "first": x[0], "last": x[-1]}[kind][None]
