"""The NumPy interpreter of the same graphs: slow, in float64, without pages, tiles or quantized activations.

It is the oracle of every architecture: what a model file says, done in the plainest way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .domains import OUTPUTS, ROWS, Domain, Features, Grids, Index, as_grids, starts_of
from .graph import CacheSpec, Graph
from .values import Node

_erf = np.vectorize(math.erf, otypes=[np.float64])
Array = np.ndarray
Caches = dict[tuple[str, int], tuple[Array, Array, Array]]  # keys, values and where segments start, of a cache's layer


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), where exp does not overflow."""
    return np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),
    "relu_squared": lambda x: np.maximum(x, 0.0) ** 2,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}


def text_inputs(token_ids: Sequence[int]) -> tuple[dict[str, Array], dict[Domain, Grids]]:
    """Inputs and grids of a sequence of token ids from position 0 whose every row is asked for."""
    ids = np.asarray(token_ids, np.int64)
    rows = np.arange(len(ids))
    inputs = {"tokens": ids, "positions": rows, "token_types": np.zeros_like(ids), "output_rows": rows}
    return inputs, dict.fromkeys((ROWS, OUTPUTS), as_grids([len(ids)]))


def _normalized(x: Array, epsilon: float) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)


def _softmax(x: Array, factor: float) -> Array:
    weights = np.exp(factor * (x - x.max(-1, keepdims=True)))
    return weights / weights.sum(-1, keepdims=True)


ROW_FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "layer_norm": lambda x, epsilon: _normalized(x - x.mean(-1, keepdims=True), epsilon),
    "rms_norm": _normalized,
    "l2_norm": lambda x, epsilon: x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), epsilon),
    "affine": lambda x, factor: x * factor,
    "soft_cap": lambda x, cap: cap * np.tanh(x / cap),
    "clip": lambda x, limit: np.clip(x, -limit, limit),
    "softmax": _softmax,
}


def interpret(
    graph: Graph,
    tensors: dict[str, Array],
    inputs: Mapping[str, Array],
    grids: Mapping[Domain, Grids],
    caches: Caches,
    observe: Callable[[str, Array], None] | None = None,
    prefix: int = 0,
) -> dict[str, Array]:
    """Every output of a program over one sequence from position 0.

    Parameters
    ----------
    graph : Graph
    tensors : dict of str to array
    inputs : mapping of str to array
        Index inputs [rows of their domain] and float inputs [rows, width], by name.
    grids : mapping of Domain to int array [1, 2]
        Those of the domains that a run gives.
    caches : dict
        Carries keys and values from one program to the next.
    observe : callable, optional
        Called with the name of every matrix and the rows [n, columns] that it is multiplied with.
    prefix : int
        So many first rows see one another both ways where the graph's attention takes a prefix.
    """
    run = _Run(graph, tensors, inputs, grids, caches, observe, prefix)
    for node in graph.nodes:
        result = getattr(run, f"_{node.kind}")(node, *[run.values[v.index] for v in node.inputs])
        if node.output is not None:
            run.values[node.output.index] = result
    return {name: run.values[value.index] for name, value in graph.outputs.items()}


def attention_weights(
    node: Node,
    spec: CacheSpec,
    query: Array,
    key: Array,
    tensors: Mapping[str, Array],
    prefix: int = 0,
    relative: Array | None = None,
) -> Array:
    """How much each row of a sequence takes from each position, [heads, rows, positions]; rows of it add up to 1, or to
    less where there are sinks.

    Parameters
    ----------
    node : Node
        The attention.
    spec : CacheSpec
        Of the cache that it reads.
    query, key : arrays [rows, heads * key_dim], [positions, key-value heads * key_dim]
        Of one segment, from position 0 on.
    tensors : mapping of str to array
        Those of the node.
    prefix : int
        So many first rows see one another both ways where the attention takes a prefix.
    relative : array, optional
        What the rows of the segment add to the scores, where they do.
    """
    a = node.attributes
    group = a["num_heads"] // spec.num_heads
    q = query.reshape(len(query), a["num_heads"], spec.key_dim).transpose(1, 0, 2)
    k = np.repeat(key.reshape(len(key), spec.num_heads, spec.key_dim).transpose(1, 0, 2), group, axis=0)
    scores = q @ k.transpose(0, 2, 1) * a["scale"]
    if a["soft_cap"]:
        scores = a["soft_cap"] * np.tanh(scores / a["soft_cap"])
    if a["bias"] is not None:
        scores = scores + a["bias"].values(len(query), len(key), tensors)
    if relative is not None:
        scores = scores + a["relative"].values(relative)
    scores = np.where(_seen(a, prefix, *scores.shape[1:]), scores, -np.inf)
    sinks = tensors[a["sinks"]].reshape(-1, 1, 1) if a["sinks"] else -np.inf
    largest = np.maximum(scores.max(-1, keepdims=True), sinks)
    weights: Array = np.exp(scores - largest)
    return weights / (weights.sum(-1, keepdims=True) + np.exp(sinks - largest))


def _seen(attributes: Mapping[str, Any], prefix: int, num_rows: int, num_columns: int) -> Array:
    """Whether each row sees each position."""
    row, column = np.arange(num_rows)[:, None], np.arange(num_columns)
    seen = (column <= row) | (not attributes["causal"])
    if attributes["prefix"]:
        seen |= (row < prefix) & (column < prefix)
    return seen & (abs(column - row) < (attributes["window"] or np.inf))


class _Run:
    """One program over one sequence from position 0; a method a kind of node."""

    def __init__(
        self,
        graph: Graph,
        tensors: dict[str, Array],
        inputs: Mapping[str, Array],
        grids: Mapping[Domain, Grids],
        caches: Caches,
        observe: Callable[[str, Array], None] | None,
        prefix: int,
    ) -> None:
        self.graph, self.tensors, self.caches, self.observe = graph, tensors, caches, observe
        self.inputs, self.given, self.prefix = inputs, grids, prefix
        self.values: dict[int, Array] = {}

    def grids(self, domain: Domain) -> Grids:
        """The grids of a domain."""
        if domain.parents:
            return domain.grids(*(self.grids(parent) for parent in domain.parents))
        return self.given[domain]

    def numbers(self, index: Index) -> Array:
        """An index input, given or from the grids."""
        return self.inputs[index.name] if index.is_given else index.rows(self.grids)

    def _features(self, node: Node) -> Array:
        source: Features = node.attributes["source"]
        return self.inputs[source.name]

    def _embed(self, node: Node, add: Array | None = None) -> Array:
        picked = self.tensors[node.tensors[0]][self.numbers(node.attributes["source"])] * node.attributes["scale"]
        return picked if add is None else add + picked

    def _linear(self, node: Node, x: Array) -> Array:
        weights = np.atleast_2d(self.tensors[node.tensors[0]])
        if self.observe is not None:
            self.observe(node.tensors[0], x)
        assert node.output is not None
        rows = slice(node.attributes["first_row"], node.attributes["first_row"] + node.output.width)
        parts = x.astype(weights.dtype, copy=False).reshape(len(x), node.attributes["groups"], -1)
        matrices = weights[rows].reshape(node.attributes["groups"], -1, weights.shape[1])
        y = (
            np.einsum("rgk,gnk->rgn", parts, matrices).reshape(len(x), -1)
            if len(matrices) > 1
            else parts[:, 0] @ matrices[0].T
        )
        return y + self.tensors[node.tensors[1]].reshape(-1)[rows] if len(node.tensors) > 1 else y

    def _columns(self, node: Node, x: Array) -> Array:
        assert node.output is not None
        return x[:, node.attributes["first"] : node.attributes["first"] + node.output.width]

    def _row_function(self, node: Node, x: Array) -> Array:
        a = node.attributes
        y = ROW_FUNCTIONS[a["function"]](x.reshape(len(x), a["groups"], -1), a["number"])
        if a["weight"] is not None:
            y = y * self.tensors[a["weight"]].reshape(-1)
        return (y if a["bias"] is None else y + self.tensors[a["bias"]].reshape(-1)).reshape(x.shape)

    def _rotary(self, node: Node) -> Array:
        frequencies = node.attributes["frequencies"].astype(np.float64)
        if node.tensors:
            frequencies = frequencies / self.tensors[node.tensors[0]].reshape(-1)
        angles = self.numbers(node.attributes["source"])[:, None] * frequencies
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
        starts = starts_of(self.grids(node.inputs[0].domain))
        self.caches[node.attributes["cache"], node.attributes["layer"]] = (key, value, starts)

    def _attention(self, node: Node, query: Array, relative: Array | None = None) -> Array:
        key, value, kept = self.caches[node.attributes["cache"], node.attributes["layer"]]
        asked = starts_of(self.grids(node.inputs[0].domain))
        parts = [
            self._attend(
                node,
                query[begin:end],
                key[first:last],
                value[first:last],
                None if relative is None else relative[begin:end],
            )
            for begin, end, first, last in zip(asked, asked[1:], kept, kept[1:], strict=False)
        ]
        return np.concatenate(parts)

    def _attend(self, node: Node, query: Array, key: Array, value: Array, relative: Array | None) -> Array:
        """Attention of the rows of one segment over what the cache holds of it."""
        spec = next(spec for spec in self.graph.caches if spec.name == node.attributes["cache"])
        group = node.attributes["num_heads"] // spec.num_heads
        v = np.repeat(value.reshape(len(value), spec.num_heads, spec.value_dim).transpose(1, 0, 2), group, axis=0)
        weights = attention_weights(node, spec, query, key, self.tensors, self.prefix, relative)
        return (weights @ v).transpose(1, 0, 2).reshape(len(query), -1)

    def _activate(self, node: Node, x: Array) -> Array:
        return ACTIVATIONS[node.attributes["activation"]](x)

    def _gate(self, node: Node, gate: Array, up: Array) -> Array:
        limit = node.attributes["limit"]
        if limit:
            gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit) + node.attributes["offset"]
        return ACTIVATIONS[node.attributes["activation"]](gate) * up

    def _add(self, node: Node, a: Array, b: Array) -> Array:
        return a + b

    def _weight_rows(self, node: Node, x: Array, weights: Array) -> Array:
        return x * weights

    def _gather(self, node: Node, x: Array, more: Array | None = None) -> Array:
        rows = [x] if more is None else [x, more]
        return np.concatenate([*rows, np.zeros_like(x[:1])])[self.numbers(node.attributes["source"])]

    def _route(self, node: Node, logits: Array) -> Array:
        """[row, expert, weight] of every choice, in the order of the rows: nothing needs to be sorted here."""
        a = node.attributes
        scores = logits
        if a["scoring"] != "chosen_softmax":
            scores = _softmax(logits, 1.0) if a["scoring"] == "softmax" else ACTIVATIONS["sigmoid"](logits)
        compared = scores + self.tensors[node.tensors[0]].reshape(-1) if node.tensors else scores
        chosen = np.argsort(-compared, axis=1, kind="stable")[:, : a["used"]]
        weights = np.take_along_axis(scores, chosen, axis=1)
        if a["scoring"] == "chosen_softmax":
            weights = _softmax(weights, 1.0)
        if a["normalized"]:
            weights = weights / weights.sum(1, keepdims=True)
        rows = np.repeat(np.arange(len(logits)), a["used"])
        return np.stack([rows, chosen.reshape(-1), weights.reshape(-1) * a["scale"]], axis=1)

    def _dispatch(self, node: Node, x: Array, routes: Array) -> Array:
        return x[routes[:, 0].astype(int)]

    def _expert_linear(self, node: Node, x: Array, routes: Array) -> Array:
        experts = routes[:, 1].astype(int)
        y = np.empty((len(x), self.tensors[node.tensors[0]].shape[1]))
        for expert in np.unique(experts):
            mine = experts == expert
            if self.observe is not None:
                self.observe(node.tensors[0], x[mine])
            y[mine] = x[mine] @ self.tensors[node.tensors[0]][expert].T
            if len(node.tensors) > 1:
                y[mine] += self.tensors[node.tensors[1]][expert]
        return y

    def _combine(self, node: Node, y: Array, routes: Array) -> Array:
        return (y * routes[:, 2:3]).reshape(-1, node.attributes["used"], y.shape[1]).sum(1)

    def _window(self, node: Node, x: Array) -> Array:
        rows, inside = self._under(node, x), self._under(node, np.ones((len(x), 1)))
        reduction = node.attributes["reduction"]
        if reduction == "unfold":
            return rows.reshape(len(rows), rows.shape[1] * rows.shape[2])
        if reduction == "max":
            return np.where(inside.any(1), np.where(inside > 0, rows, -np.inf).max(1), 0.0)
        if reduction == "mean":
            return rows.sum(1) / np.maximum(inside.sum(1), 1)
        weight, *bias = (self.tensors[name] for name in node.tensors)
        return (rows * weight).sum(1) + (bias[0] if bias else 0.0)

    def _under(self, node: Node, x: Array) -> Array:
        """The rows of x under a window at each place [places, taps, columns], zeros outside of the grid."""
        a, output = node.attributes, node.output
        assert output is not None
        pieces = [np.empty((0, a["kernel_height"] * a["kernel_width"], x.shape[1]))]
        grids, starts = self.grids(node.inputs[0].domain), starts_of(self.grids(node.inputs[0].domain))
        for start, (height, width), places in zip(starts, grids, self.grids(output.domain), strict=False):
            grid = x[start : start + height * width].reshape(height, width, -1)
            top, left = a["padding_top"], a["padding_left"]
            grid = np.pad(grid, ((top, top), (left, left), (0, 0)))
            y = np.arange(places[0])[:, None] * a["stride_height"]
            y = y + np.arange(a["kernel_height"]) * a["dilation_height"]
            z = np.arange(places[1])[:, None] * a["stride_width"] + np.arange(a["kernel_width"]) * a["dilation_width"]
            taps = grid[y[:, None, :, None], z[None, :, None, :]]  # [down, across, kernel, kernel, columns]
            pieces.append(taps.reshape(-1, *pieces[0].shape[1:]))
        return np.concatenate(pieces)

    def _concatenate(self, node: Node, a: Array, b: Array) -> Array:
        return np.concatenate([a, b], axis=1)

    def _split(self, node: Node, x: Array) -> Array:
        return x.reshape(len(x) * node.attributes["parts"], -1)

    def _pool(self, node: Node, x: Array) -> Array:
        kind, starts = node.attributes["pooling"], starts_of(self.grids(node.inputs[0].domain))
        pooled = {"mean": lambda rows: rows.mean(0), "first": lambda rows: rows[0], "last": lambda rows: rows[-1]}
        return np.stack([pooled[kind](x[begin:end]) for begin, end in pairwise(starts)])
