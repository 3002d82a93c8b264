"""Random graphs of all ops: the plan gives the interpreter's numbers, and the same bits however it is run."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from edgeformer._kernels import core
from edgeformer.graph.domains import ROWS, Domain, Features, Window, Windowed
from edgeformer.graph.expert_ops import SCORINGS
from edgeformer.graph.graph import Graph, rotary_frequencies
from edgeformer.graph.position_bias import DistanceBuckets, alibi_bias
from edgeformer.graph.values import Value
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graph_runs import interpret_graph, random_tensors, run_graph

WIDTHS = (1, 3, 8, 16, 24, 33)
INPUT = Features("rows", 24)


class RandomGraph:
    """A graph that grows by ops that fit what is there. Every op is continuous but the choice of experts, whose scores
    come from the input alone, and epsilons are 1: rounding is not blown up.
    """

    def __init__(self, random: Random) -> None:
        self.random, self.shapes = random, {}
        self.graph = Graph(self.shapes)
        self.input = self.graph.features(INPUT)
        self.values = [self.input]
        self.sequences: dict[Domain, Domain] = {ROWS: ROWS}  # domains, and one whose segments are theirs
        for _ in range(random.randint(1, 10)):
            getattr(self, random.choice(KINDS))(random.choice(self.values[-4:]))
        for i, value in enumerate(random.sample(self.values[1:], min(3, len(self.values) - 1))):
            self.graph.output(f"y{i}", value)

    def _keep(self, value: Value, like: Value, *, own_segments: bool = False) -> None:
        """One more value, whose segments are those of `like` unless it has its own."""
        self.sequences.setdefault(value.domain, value.domain if own_segments else self.sequences[like.domain])
        if value.width <= 100:
            self.values.append(value)

    def _tensor(self, *shape: int) -> str:
        """The name of a weight; half of them have a bias."""
        name = f"t{len(self.shapes)}"
        self.shapes[f"{name}.weight"] = shape
        if len(shape) > 1 and self.random.random() < 0.5:
            self.shapes[f"{name}.bias"] = shape[:-1]
        return name

    def _project(self, x: Value, width: int) -> Value:
        return self.graph.linear(x, self._tensor(width, x.width), width)

    def _partner(self, x: Value) -> Value:
        """A value of the same rows and width: one that is there, or a product."""
        same = [value for value in self.values if (value.domain, value.width) == (x.domain, x.width)]
        return self.random.choice(same) if self.random.random() < 0.5 else self._project(x, x.width)

    def linear(self, x: Value) -> None:
        self._keep(self._project(x, self.random.choice(WIDTHS)), x)

    def part_of_a_tensor(self, x: Value) -> None:
        name = self._tensor(40, x.width)
        self._keep(self.graph.linear(x, name, 16, first_row=self.random.choice((0, 7, 16, 24)), num_rows=40), x)

    def columns(self, x: Value) -> None:
        first = self.random.randrange(x.width)
        self._keep(self.graph.columns(x, first, self.random.randint(1, x.width - first)), x)

    def row_function(self, x: Value) -> None:
        graph, groups = self.graph, self.random.choice([n for n in (1, 2, 3, 4) if x.width % n == 0])
        one = self.random.choice((
            lambda: graph.layer_norm(x, None, 1.0),
            lambda: graph.rms_norm(x, None, 1.0, groups=groups),
            lambda: graph.rms_norm(x, self._tensor(x.width), 1.0),
            lambda: graph.l2_norm(x, 1.0),
            lambda: graph.scale(x, -0.75),
            lambda: graph.soft_cap(x, 2.0),
            lambda: graph.clip(x, 0.5),
            lambda: graph.softmax(x, groups=groups),
        ))  # fmt: skip
        self._keep(one(), x)

    def activation(self, x: Value) -> None:
        self._keep(self.graph.activation(x, self.random.choice(core.ACTIVATIONS)), x)

    def gate(self, x: Value) -> None:
        limits = self.random.choice(({}, {"limit": 1.5, "offset": 1.0}))
        self._keep(self.graph.gate(x, self._partner(x), self.random.choice(core.ACTIVATIONS), **limits), x)

    def weight_rows(self, x: Value) -> None:
        self._keep(self.graph.weight_rows(x, self._project(x, 1)), x)

    def add(self, x: Value) -> None:
        self._keep(self.graph.add(x, self._partner(x)), x)

    def concatenate(self, x: Value) -> None:
        self._keep(self.graph.concatenate(x, self._partner(x)), x)

    def split(self, x: Value) -> None:
        self._keep(self.graph.split(x, self.random.choice([n for n in (1, 2, 3, 4) if x.width % n == 0])), x)

    def pool(self, x: Value) -> None:
        self._keep(self.graph.pool(x, self.random.choice(core.POOLINGS)), x, own_segments=True)

    def window(self, x: Value) -> None:
        sizes = [self.random.randint(1, 3) for _ in range(2)]
        strides = (self.random.randint(1, 2), self.random.randint(1, 2))
        window = Window((sizes[0], sizes[1]), strides, (sizes[0] // 2, sizes[1] // 2))
        kind = self.random.choice(("unfold", "max", "mean", "depthwise", "convolution"))
        if kind == "unfold":
            y = self.graph.unfold(x, window)
        elif kind == "depthwise":
            name = self._tensor(window.taps)
            self.shapes[f"{name}.weight"] = (window.taps, x.width)
            y = self.graph.depthwise(x, name, window)
        elif kind == "convolution":
            y = self.graph.convolution(x, self._tensor(16, window.taps * x.width), 16, window)
        else:
            y = self.graph.pool_grid(x, window, kind)
        self._keep(y, x)

    def windows(self, x: Value) -> None:
        if isinstance(x.domain, Windowed):
            self._keep(self.graph.unwindow(x), x)
        else:
            y = self.graph.windows(x, (2, 3), self.random.choice(((0, 0), (1, 1))))
            self._keep(y, x, own_segments=True)

    def join(self, x: Value) -> None:
        others = [v for v in self.values if self.sequences[v.domain] == self.sequences[x.domain]]
        other = self.random.choice(others)
        self._keep(self.graph.join(x, self._project(other, x.width)), x)

    def attention(self, x: Value) -> None:
        graph, random, dim = self.graph, self.random, self.random.choice((4, 8, 17))
        if len(graph.caches) == core.EF_MAX_CACHES:
            return
        query, key, value = (self._project(x, heads * dim) for heads in (4, 2, 2))
        cache = graph.cache(f"c{len(graph.caches)}", 1, 2, dim, dim, "pass")
        graph.store_kv(key, value, cache, 0)
        rest: dict[str, Any] = {"window": random.choice((0, 0, 2, 5)), "soft_cap": random.choice((0.0, 3.0))}
        rest |= random.choice(({}, {"bias": alibi_bias(4, 20, 20)}, {"relative": self._relative(x)}))
        self._keep(graph.attention(query, cache, 0, causal=False, scale=dim**-0.5, **rest), x)

    def _relative(self, x: Value) -> tuple[Value, DistanceBuckets]:
        """What four heads' rows add to scores by sixteen buckets: of eight parts of some columns, a matrix each."""
        parts = self._project(x, 8 * self.random.choice((1, 5)))
        name = self._tensor(8 * 16, parts.width // 8)
        numbers = np.array([self.random.randrange(16) for _ in range(9)])
        return self.graph.grouped_linear(parts, name, 8 * 16, 8), DistanceBuckets(numbers, self.random.randrange(9), 16)

    def rotate(self, x: Value) -> None:
        angles = self.graph.rotary(rotary_frequencies(4, 100.0))
        pairing = self.random.choice(core.PAIRINGS)
        self._keep(self.graph.rope(self._project(self.input, 16), angles, 2, pairing), self.input)

    def experts(self, x: Value) -> None:
        graph, count = self.graph, self.random.randint(1, 6)
        scores, used = self._project(self.input, count), self.random.randint(1, count)
        routes = graph.route(scores, used, scoring=self.random.choice(SCORINGS), normalized=False)
        name = self._tensor(count, 8, INPUT.width)
        y = graph.expert_linear(graph.dispatch(self.input, routes), routes, name, 8, count)
        self._keep(graph.combine(y, routes), self.input)


KINDS = [name for name in vars(RandomGraph) if not name.startswith("_")]


@settings(max_examples=60, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=3),
)
def test_a_random_graph_gives_the_interpreters_numbers_and_the_same_bits_everywhere(
    random: Random, grids: list[tuple[int, int]]
) -> None:
    made = RandomGraph(random)
    tensors = {
        name: tensor / np.float32(np.sqrt(tensor.shape[-1])) for name, tensor in random_tensors(made.shapes).items()
    }
    counts = [height * width for height, width in grids]
    x = np.random.default_rng(sum(counts)).standard_normal((sum(counts), INPUT.width)).astype(np.float32)
    inputs = {"rows": x, "positions": np.concatenate([np.arange(n, dtype=np.int32) for n in counts])}

    def ran(isa: str, threads: int, begin: int = 0, end: int = len(grids)) -> dict[str, np.ndarray]:
        mine = {name: array[sum(counts[:begin]) : sum(counts[:end])] for name, array in inputs.items()}
        lengths = {ROWS: np.array(grids[begin:end], np.int32)}
        return run_graph(made.graph, tensors, lengths, mine, isa=isa, threads=threads, pages=512)

    whole = ran("scalar", 1)
    wanted = interpret_graph(made.graph, tensors, {ROWS: np.array(grids, np.int32)}, inputs)
    for name, rows in whole.items():
        assert np.allclose(rows, wanted[name], rtol=1e-3, atol=1e-3 * max(1.0, np.abs(wanted[name]).max(initial=0)))
    alone = [ran("scalar", 1, i, i + 1) for i in range(len(grids))]
    others = [ran(isa, threads) for isa in core.isa_names() for threads in (1, 3)]
    for other in [*others, {name: np.concatenate([one[name] for one in alone]) for name in whole}]:
        assert all(np.array_equal(rows, other[name]) for name, rows in whole.items())
