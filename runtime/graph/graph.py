"""What an architecture says: a small typed graph over rows.

A model file builds one graph per program ("decode", "encode"): token ids come in, every value is a matrix of rows,
attention alone knows which rows belong to which sequence. The same graph is run by the compiled plan (`compile.py`)
and, for checking, by the NumPy interpreter (`reference.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._kernels import core
from ..errors import ModelFormatError, UnsupportedModelError, quote
from ..host.exact import power
from .domains import POSITIONS, ROWS, TOKENS, Domain, Features, Index
from .expert_ops import ExpertOps
from .position_bias import DistanceBuckets, PositionBias
from .row_functions import RowFunctions
from .row_ops import RowOps
from .values import Node, Value

ACTIVATIONS, PAIRINGS, POOLINGS = core.ACTIVATIONS, core.PAIRINGS, core.POOLINGS
SEQUENCE, SOURCE, PASS = LIFETIMES = ("sequence", "source", "pass")  # of caches


@dataclass(frozen=True)
class CacheSpec:
    """Shape of one paged key-value cache.

    `lifetime` is "sequence" (grows with the tokens of a decoder), "source" (written once by an encoder, read by
    cross-attention) or "pass" (an encoder's own attention: one layer, forgotten after the run).
    """

    name: str
    num_layers: int
    num_heads: int
    key_dim: int
    value_dim: int
    lifetime: str


def rotary_frequencies(rotary_dim: int, base: float) -> np.ndarray:
    """Inverse frequencies base^(-2i/d) of rotary embeddings (Su et al. 2021, "RoFormer"), float32 [rotary_dim / 2]."""
    powers = [power(base, -2 * i, rotary_dim) for i in range(rotary_dim // 2)]
    return np.array(powers, np.float64).astype(np.float32)


class Graph(RowOps, RowFunctions, ExpertOps):
    """Builder and container of one program.

    Parameters
    ----------
    tensors : mapping of str to shape
        What the file holds; a weight that is missing or has another shape raises `ModelFormatError` while building.
    path : str
        Named in those errors.
    """

    def __init__(self, tensors: Mapping[str, tuple[int, ...]], path: str = "") -> None:
        self.path = path
        self.tensor_shapes = tensors
        self.nodes: list[Node] = []
        self.outputs: dict[str, Value] = {}
        self.taps: dict[str, list[Value]] = {}
        self.caches: list[CacheSpec] = []
        self._count = 0

    # -- weights ------------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the file holds this tensor."""
        return name in self.tensor_shapes

    def _expect(self, name: str, shape: tuple[int, ...]) -> str:
        if name not in self.tensor_shapes:
            raise ModelFormatError(
                self.path, None, name, f"the tensor is missing; this architecture needs it with shape {list(shape)}"
            )
        if self.tensor_shapes[name] != shape:
            raise ModelFormatError(
                self.path, None, name, f"shape {list(self.tensor_shapes[name])}, expected {list(shape)}"
            )
        return name

    def _check_known(self, what: str, name: str, known: Sequence[str]) -> None:
        if name not in known:
            raise UnsupportedModelError(
                f"{self.path}: {what} {quote(name)} is not supported; known: {', '.join(known)}"
            )

    def _check_same_width(self, what: str, one: Value, other: Value) -> None:
        if one.width != other.width:
            raise UnsupportedModelError(f"{self.path}: a {what} of {one.width} and of {other.width} columns")

    def _optional(self, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        return (self._expect(name, shape),) if self.has(name) else ()

    # -- ops ----------------------------------------------------------------------------------------------------------

    def _value(self, width: int, domain: Domain) -> Value:
        self._count += 1
        return Value(self._count - 1, width, domain)

    def _add(
        self,
        kind: str,
        inputs: Sequence[Value],
        width: int,
        *,
        tensors: tuple[str, ...] = (),
        domain: Domain | None = None,
        **attributes: Any,
    ) -> Value:
        output = self._value(width, domain or (inputs[0].domain if inputs else ROWS))
        self.nodes.append(Node(kind, tuple(inputs), output, tensors, attributes))
        return output

    def embed(
        self, source: Index, name: str, rows: int, width: int, *, scale: float = 1.0, add: Value | None = None
    ) -> Value:
        """Rows of the table `name`.weight [rows, width] picked by `source` (TOKENS, POSITIONS, TOKEN_TYPES), times
        `scale`, plus `add`.
        """
        weight = self._expect(f"{name}.weight", (rows, width))
        inputs, domain = [] if add is None else [add], source.domain
        return self._add(
            "embed", inputs, width, tensors=(weight,), domain=domain, source=source, scale=scale, table_rows=rows
        )

    def linear(
        self,
        x: Value,
        name: str,
        width: int,
        *,
        bias_name: str | None = None,
        first_row: int = 0,
        num_rows: int | None = None,
    ) -> Value:
        """x W^T + b with `name`.weight [width, x.width] and, where the file has it, `name`.bias [width].

        Of a `width` of 1 the weight may be a vector [x.width].

        Of a tensor that holds several matrices one below the other, `num_rows` in all, W is the `width` rows from
        `first_row` on, and b as many elements of the bias.
        """
        rows = width if num_rows is None else num_rows
        if not 0 <= first_row <= rows - width:
            what = f"rows {first_row} to {first_row + width} are not within its {rows}"
            raise ModelFormatError(self.path, None, f"{name}.weight", what)
        vector = rows == 1 and self.tensor_shapes.get(f"{name}.weight") == (x.width,)
        weight = self._expect(f"{name}.weight", (x.width,) if vector else (rows, x.width))
        tensors = (weight, *self._optional(bias_name or f"{name}.bias", (rows,)))
        return self._add("linear", [x], width, tensors=tensors, first_row=first_row, groups=1)

    def grouped_linear(self, x: Value, name: str, width: int, groups: int) -> Value:
        """The products of `groups` equal parts of the columns with a matrix each, side by side: that of part g is rows
        [g, g + 1) * width / groups of `name`.weight [width, x.width / groups], which is of floats.
        """
        if x.width % groups or width % (groups * core.TILE):
            what = f"{groups} groups of {x.width} columns and {width} results, not whole tiles of {core.TILE}"
            raise ModelFormatError(self.path, None, f"{name}.weight", what)
        weight = self._expect(f"{name}.weight", (width, x.width // groups))
        return self._add("linear", [x], width, tensors=(weight,), first_row=0, groups=groups)

    def columns(self, x: Value, first: int, width: int) -> Value:
        """The `width` columns of x from `first` on, read where they lie."""
        if not 0 <= first <= x.width - width:
            raise UnsupportedModelError(f"{self.path}: columns {first} to {first + width} of a value of {x.width}")
        return self._add("columns", [x], width, first=first)

    def rotary(
        self,
        frequencies: np.ndarray,
        *,
        scale: float = 1.0,
        factors: str | None = None,
        positions: Index = POSITIONS,
    ) -> Value:
        """Cosines, then sines, of position * frequency for every row; the frequencies are divided by the tensor
        `factors` if given.
        """
        half = len(frequencies)
        tensors = () if factors is None else (self._expect(factors, (half,)),)
        return self._add(
            "rotary",
            [],
            2 * half,
            tensors=tensors,
            domain=positions.domain,
            source=positions,
            frequencies=frequencies,
            scale=scale,
        )

    def rope(self, x: Value, rotary: Value, num_heads: int, pairing: str) -> Value:
        """Rotary position embedding of the first `rotary.width` columns of every head.

        `pairing`: "halves" (NeoX, Hugging Face's rotate_half) or "neighbours" (interleaved, llama.cpp's NORM).
        """
        self._check_known("pairing", pairing, PAIRINGS)
        head_dim = x.width // num_heads
        if rotary.width > head_dim:
            raise ModelFormatError(
                self.path, None, "rope.dimension_count", f"{rotary.width} is more than a head's {head_dim} columns"
            )
        return self._add(
            "rope",
            [x, rotary],
            x.width,
            num_heads=num_heads,
            head_dim=head_dim,
            half=rotary.width // 2,
            pairing=pairing,
        )

    def cache(
        self, name: str, num_layers: int, num_heads: int, key_dim: int, value_dim: int, lifetime: str
    ) -> CacheSpec:
        """Declares a cache that this program reads or writes."""
        spec = CacheSpec(name, num_layers, num_heads, key_dim, value_dim, lifetime)
        self.caches.append(spec)
        return spec

    def store_kv(self, key: Value, value: Value, cache: CacheSpec, layer: int) -> None:
        """Writes the rows' keys and values at their positions in the cache."""
        self.nodes.append(Node("store_kv", (key, value), None, (), {"cache": cache.name, "layer": layer}))

    def attention(
        self,
        query: Value,
        cache: CacheSpec,
        layer: int,
        *,
        causal: bool,
        scale: float,
        window: int = 0,
        prefix: bool = False,
        soft_cap: float = 0.0,
        bias: PositionBias | None = None,
        sinks: str | None = None,
        relative: tuple[Value, DistanceBuckets] | None = None,
    ) -> Value:
        """Scaled dot-product attention (Vaswani et al. 2017) of the rows over what the cache holds of their
        sequence.

        Parameters
        ----------
        query : Value
        cache : CacheSpec
        layer : int
        causal : bool
            A row sees its own position and those before it, otherwise all of the sequence.
        scale : float
            Of the scores.
        window : int
            A row sees no position that is so far or farther from its own, either way; 0: all.
        prefix : bool
            Causal but for a sequence's prefix, of which a run says how long it is: its rows see one another both ways.
        soft_cap : float
            Scores s become soft_cap * tanh(s / soft_cap); 0: they stay.
        bias : PositionBias, optional
            Added to the scores (after the soft cap).
        sinks : str, optional
            A tensor with a score for each head that takes part in the softmax and has no value.
        relative : (Value, DistanceBuckets), optional
            What rows that see one another add to the scores by buckets, as queries and as keys: for each head, and then
            again for each head, as many columns as there are buckets. In place of `bias`, and not causal.
        """
        num_heads = query.width // cache.key_dim
        if num_heads % cache.num_heads:
            raise ModelFormatError(
                self.path,
                None,
                "attention.head_count",
                f"{num_heads} query heads cannot share {cache.num_heads} key-value heads",
            )
        if bias is not None:
            bias.check(num_heads, self.tensor_shapes, self.path)
        if relative is not None and (
            causal or bias is not None or relative[0].width != 2 * num_heads * relative[1].count
        ):
            what = f"{relative[0].width} columns of {num_heads} heads and {relative[1].count} buckets"
            raise UnsupportedModelError(
                f"{self.path}: attention has relative scores of {what}, or a mask or bias beside them"
            )
        tensors = [] if bias is None or bias.tensor is None else [bias.tensor]
        tensors += [] if sinks is None else [self._expect(sinks, (num_heads,))]
        return self._add(
            "attention",
            [query] if relative is None else [query, relative[0]],
            num_heads * cache.value_dim,
            tensors=tuple(tensors),
            cache=cache.name,
            layer=layer,
            num_heads=num_heads,
            causal=causal,
            scale=scale,
            window=window,
            prefix=prefix,
            soft_cap=soft_cap,
            bias=bias,
            sinks=sinks,
            relative=None if relative is None else relative[1],
        )

    def activation(self, x: Value, kind: str) -> Value:
        """One of `ACTIVATIONS`, element by element."""
        self._check_known("activation", kind, ACTIVATIONS)
        return self._add("activate", [x], x.width, activation=kind)

    def gate(self, gate: Value, up: Value, kind: str, *, limit: float = 0.0, offset: float = 0.0) -> Value:
        """activation(gate) * up, the gated feed-forward of Shazeer 2020.

        With a `limit`, the gate is that at most, and `up` becomes what it is between -limit and limit, plus `offset`
        (OpenAI 2025, gpt-oss).
        """
        self._check_known("activation", kind, ACTIVATIONS)
        self._check_same_width("gate", gate, up)
        if not 0 <= limit < float("inf") or (offset and not limit):
            raise UnsupportedModelError(f"{self.path}: a gate with the limit {limit} and the offset {offset}")
        return self._add("gate", [gate, up], up.width, activation=kind, limit=limit, offset=offset)

    def multiply(self, a: Value, b: Value) -> Value:
        """a * b, element by element."""
        return self.gate(a, b, "none")

    def add(self, a: Value, b: Value) -> Value:
        """a + b."""
        self._check_same_width("sum", a, b)
        return self._add("add", [a, b], a.width)

    def weight_rows(self, x: Value, weights: Value) -> Value:
        """x times `weights`, a value of one column: a number for each row."""
        if weights.width != 1:
            raise UnsupportedModelError(f"{self.path}: rows weighted by a value of {weights.width} columns; it has one")
        return self._add("weight_rows", [x, weights], x.width)

    def output(self, name: str, value: Value) -> None:
        """Names a result of the program."""
        self.outputs[name] = value

    def tap(self, name: str, value: Value) -> None:
        """Adds a value to those of this name that can be looked at. It costs nothing until somebody does."""
        self.taps.setdefault(name, []).append(value)

    def showing(self, values: Mapping[str, Value]) -> Graph:
        """The same program with these values as its outputs."""
        other = copy.copy(self)
        other.outputs = dict(values)
        return other

    # -- what follows -------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Token ids that the program takes: rows of the least table that they index; 0 where it takes none."""
        tables = [node.attributes["table_rows"] for node in self.nodes if node.attributes.get("source") == TOKENS]
        return min(tables, default=0)

    def takes(self, source: Index) -> bool:
        """Whether the program looks a table up by these ids: tokens, positions or token types."""
        return any(node.attributes.get("source") == source for node in self.nodes)

    @property
    def features_taken(self) -> list[Features]:
        """The float rows that the program takes, each once."""
        return list(dict.fromkeys(node.attributes["source"] for node in self.nodes if node.kind == "features"))

    def has_cache(self, lifetime: str) -> bool:
        """Whether the program reads or writes a cache of this lifetime."""
        return any(cache.lifetime == lifetime for cache in self.caches)

    def stores(self, lifetime: str) -> bool:
        """Whether the program writes a cache of this lifetime."""
        written = {node.attributes["cache"] for node in self.nodes if node.kind == "store_kv"}
        return any(cache.lifetime == lifetime and cache.name in written for cache in self.caches)
