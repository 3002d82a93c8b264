"""What an architecture says: a small typed graph over rows.

A model file builds one graph per program ("decode", "encode"): token ids come in, every value is a matrix of rows,
attention alone knows which rows belong to which sequence. The same graph is run by the compiled plan (`compile.py`)
and, for checking, by the NumPy interpreter (`reference.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._kernels import core
from ..errors import ModelFormatError, UnsupportedModelError, quote
from ..host.exact import power

ROWS, OUTPUTS, SEGMENTS = "rows", "outputs", "segments"  # every row, the selected rows, one row a sequence
ACTIVATIONS, PAIRINGS, POOLINGS = core.ACTIVATIONS, core.PAIRINGS, core.POOLINGS
SOURCES = ("tokens", "positions", "token_types")
SEQUENCE, SOURCE, PASS = LIFETIMES = ("sequence", "source", "pass")  # of caches
MAX_LAYERS, MAX_WIDTH, MAX_CONTEXT = 1024, 1 << 20, 1 << 22  # far beyond any real model; bounds what a file can ask for


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


@dataclass(frozen=True)
class Value:
    """A matrix of rows: `width` float32 columns over the rows of `domain`."""

    index: int
    width: int
    domain: str = ROWS


@dataclass(frozen=True)
class Node:
    """One operation. `tensors` names the weights it reads, `attributes` holds everything else that it needs."""

    kind: str
    inputs: tuple[Value, ...]
    output: Value | None
    tensors: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def rotary_frequencies(rotary_dim: int, base: float) -> np.ndarray:
    """Inverse frequencies base^(-2i/d) of rotary embeddings (Su et al. 2021, "RoFormer"), float32 [rotary_dim / 2]."""
    powers = [power(base, -2 * i, rotary_dim) for i in range(rotary_dim // 2)]
    return np.array(powers, np.float64).astype(np.float32)


class Graph:
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

    def _optional(self, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
        return (self._expect(name, shape),) if self.has(name) else ()

    # -- ops ----------------------------------------------------------------------------------------------------------

    def _value(self, width: int, domain: str) -> Value:
        self._count += 1
        return Value(self._count - 1, width, domain)

    def _add(
        self,
        kind: str,
        inputs: Sequence[Value],
        width: int,
        *,
        tensors: tuple[str, ...] = (),
        domain: str | None = None,
        **attributes: Any,
    ) -> Value:
        output = self._value(width, domain or (inputs[0].domain if inputs else ROWS))
        self.nodes.append(Node(kind, tuple(inputs), output, tensors, attributes))
        return output

    def embed(
        self, source: str, name: str, rows: int, width: int, *, scale: float = 1.0, add: Value | None = None
    ) -> Value:
        """Rows of the table `name`.weight [rows, width] picked by token, position or token type, times `scale`, plus
        `add`.
        """
        weight = self._expect(f"{name}.weight", (rows, width))
        return self._add(
            "embed", [] if add is None else [add], width, tensors=(weight,), source=source, scale=scale, rows=rows
        )

    def linear(self, x: Value, name: str, width: int, *, bias_name: str | None = None) -> Value:
        """x W^T + b with `name`.weight [width, x.width] and, where the file has it, `name`.bias [width]."""
        weight = self._expect(f"{name}.weight", (width, x.width))
        return self._add("linear", [x], width, tensors=(weight, *self._optional(bias_name or f"{name}.bias", (width,))))

    def norm(self, x: Value, kind: str, name: str, epsilon: float, *, groups: int = 1) -> Value:
        """LayerNorm or RMSNorm of each row (of each of `groups` equal parts of it)."""
        width = x.width // groups
        tensors = (self._expect(f"{name}.weight", (width,)), *self._optional(f"{name}.bias", (width,)))
        if kind == "layer_norm" and len(tensors) == 1:
            raise ModelFormatError(self.path, None, f"{name}.bias", "the tensor is missing; LayerNorm needs it")
        return self._add("norm", [x], x.width, tensors=tensors, function=kind, epsilon=epsilon, groups=groups)

    def layer_norm(self, x: Value, name: str, epsilon: float) -> Value:
        """LayerNorm (Ba et al. 2016): (x - mean) / sqrt(variance + epsilon) * weight + bias."""
        return self.norm(x, "layer_norm", name, epsilon)

    def rms_norm(self, x: Value, name: str, epsilon: float, *, groups: int = 1) -> Value:
        """RMSNorm (Zhang and Sennrich 2019): x / sqrt(mean(x^2) + epsilon) * weight, of each group of columns."""
        return self.norm(x, "rms_norm", name, epsilon, groups=groups)

    def l2_norm(self, x: Value, epsilon: float = 1e-12) -> Value:
        """x / max(|x|, epsilon)."""
        return self._add("norm", [x], x.width, function="l2_norm", epsilon=epsilon, groups=1)

    def rotary(self, frequencies: np.ndarray, *, scale: float = 1.0, factors: str | None = None) -> Value:
        """Cosines, then sines, of position * frequency for every row; the frequencies are divided by the tensor
        `factors` if given.
        """
        half = len(frequencies)
        tensors = () if factors is None else (self._expect(factors, (half,)),)
        return self._add("rotary", [], 2 * half, tensors=tensors, frequencies=frequencies, scale=scale)

    def rope(self, x: Value, rotary: Value, num_heads: int, pairing: str) -> Value:
        """Rotary position embedding of the first `rotary.width` columns of every head."""
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
        self, query: Value, cache: CacheSpec, layer: int, *, causal: bool, scale: float, window: int = 0
    ) -> Value:
        """Scaled dot-product attention (Vaswani et al. 2017) of the rows over what the cache holds of their
        sequence.
        """
        num_heads = query.width // cache.key_dim
        if num_heads % cache.num_heads:
            raise ModelFormatError(
                self.path,
                None,
                "attention.head_count",
                f"{num_heads} query heads cannot share {cache.num_heads} key-value heads",
            )
        return self._add(
            "attention",
            [query],
            num_heads * cache.value_dim,
            cache=cache.name,
            layer=layer,
            num_heads=num_heads,
            causal=causal,
            scale=scale,
            window=window,
        )

    def activation(self, x: Value, kind: str) -> Value:
        """ReLU, GELU (erf), GELU (tanh) or SiLU, element by element."""
        if kind not in ACTIVATIONS:
            raise UnsupportedModelError(
                f"{self.path}: activation {kind!r} is not supported; known: {', '.join(ACTIVATIONS)}"
            )
        return self._add("activate", [x], x.width, activation=kind)

    def gate(self, gate: Value, up: Value, kind: str) -> Value:
        """activation(gate) * up, the gated feed-forward of Shazeer 2020."""
        return self._add("gate", [gate, up], up.width, activation=kind)

    def add(self, a: Value, b: Value) -> Value:
        """a + b."""
        return self._add("add", [a, b], a.width)

    def select(self, x: Value) -> Value:
        """The rows whose results were asked for."""
        return self._add("select", [x], x.width, domain=OUTPUTS)

    def pool(self, x: Value, kind: str) -> Value:
        """One row a sequence: the mean of its rows, its first or its last row."""
        return self._add("pool", [x], x.width, domain=SEGMENTS, pooling=kind)

    def output(self, name: str, value: Value) -> None:
        """Names a result of the program."""
        self.outputs[name] = value

    # -- what follows -------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Token ids that the program takes: rows of the least table that they index; 0 where it takes none."""
        tables = [node.attributes["rows"] for node in self.nodes if node.attributes.get("source") == "tokens"]
        return min(tables, default=0)

    def takes(self, source: str) -> bool:
        """Whether the program looks a table up by these ids: tokens, positions or token types."""
        return any(node.attributes.get("source") == source for node in self.nodes)

    def has_cache(self, lifetime: str) -> bool:
        """Whether the program reads or writes a cache of this lifetime."""
        return any(cache.lifetime == lifetime for cache in self.caches)

    def stores(self, lifetime: str) -> bool:
        """Whether the program writes a cache of this lifetime."""
        written = {node.attributes["cache"] for node in self.nodes if node.kind == "store_kv"}
        return any(cache.lifetime == lifetime and cache.name in written for cache in self.caches)


class Metadata:
    """Typed, bounded access to a model's metadata under its architecture's prefix, for the model files."""

    def __init__(self, get: Callable[..., Any], known: Container[str], prefix: str, path: str) -> None:
        self._get, self._known, self._prefix, self.path = get, known, prefix, path

    def key(self, key: str) -> str:
        """The key's full name in the file."""
        return f"{self._prefix}.{key}"

    def has(self, key: str) -> bool:
        """Whether the file has this key."""
        return self.key(key) in self._known

    def integer(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_WIDTH) -> int:
        """An integer within [low, high]; missing without a default or out of bounds raises `ModelFormatError`."""
        value = self._fetch(key, int, default)
        if not low <= value <= high:
            raise ModelFormatError(self.path, None, self.key(key), f"{value} is outside {low}..{high}")
        return value

    def number(self, key: str, default: float | None = None, *, low: float = 0.0, high: float = 1e12) -> float:
        """A finite number within [low, high]."""
        value = float(self._fetch(key, float, default))
        if not low <= value <= high:  # false for NaN
            raise ModelFormatError(self.path, None, self.key(key), f"{value} is outside {low:g}..{high:g}")
        return value

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """A boolean."""
        return bool(self._fetch(key, bool, default))

    def string(self, key: str, default: str | None = None, *, choices: Sequence[str] = ()) -> str:
        """A string, one of `choices` where they are given."""
        value = self._fetch(key, str, default)
        if choices and value not in choices:
            known = ", ".join(choices)
            raise UnsupportedModelError(f"{self.path}: {self.key(key)} is {quote(value)}; supported: {known}")
        return value

    def _fetch(self, key: str, kind: type, default: Any) -> Any:
        full = self.key(key)
        return self._get(full, kind) if default is None else self._get(full, kind, default)
