"""Small plans for the tests of the loop and the threads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from edgeformer._kernels import core

from support.kernel_inputs import Floats, matrix, rows

PAGES = 16
# The domains and index inputs of the plans of these tests.
ROWS, OUTPUTS, SEGMENTS = range(3)
TOKENS, POSITIONS, TOKEN_TYPES, OUTPUT_ROWS = range(4)


def run_rows(
    plan: core.Plan,
    pool: core.Pool,
    tokens: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    token_types: np.ndarray | None = None,
    output_rows: np.ndarray | None = None,
    segments: np.ndarray | None = None,
    pages: np.ndarray | None = None,
    cancel: core.CancelFlag | None = None,
) -> None:
    """A run over rows of sequences that see one cache; without pages the plan has none."""
    given = tokens if tokens is not None else positions
    starts = [0, len(given)] if segments is None else [*segments[:, 0], len(given)]
    outputs = np.empty(0, np.int32) if output_rows is None else output_rows
    plan.run(
        pool,
        [(np.array(starts, np.int32), None), len(outputs), len(starts) - 1],
        [tokens, positions, token_types, outputs],
        [],
        {} if pages is None else {(0, ROWS): segments},
        [] if pages is None else [pages],
        cancel,
    )


@dataclass
class Builder:
    """Lays out buffers one after the other."""

    plan: core.Plan
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def floats(self, columns: int, domain: int = ROWS) -> int:
        """A buffer of floats."""
        self.sizes.append((-(-columns * 4 // 64) * 64, domain))
        return len(self.sizes) - 1

    def blocks(self, columns: int, domain: int = ROWS) -> int:
        """A buffer of quantized rows."""
        return self.floats(columns // 32 * 11 + 1, domain)

    def weight(self, kind: int, num_rows: int, num_columns: int) -> int:
        """A random matrix."""
        return self.plan.add_matrix(matrix(kind, num_rows, num_columns, len(self.sizes))[0])

    def place(self, capacity: int) -> None:
        """Gives the plan its arena."""
        strides = np.array([size for size, _ in self.sizes], np.int64)
        offsets = np.cumsum(np.concatenate([[0], strides[:-1] * capacity])).astype(np.int64)
        domains = np.array([domain for _, domain in self.sizes], np.int32)
        self.plan.set_buffers(offsets, strides, domains, int(strides.sum()) * capacity, (capacity,) * 3)


class Decoder:
    """A decoder with random weights: two heads share one of keys and values, quantized and float products alternate."""

    vocabulary, width, hidden, head_dim = 50, 64, 96, 32

    def __init__(self, isa: str | None = None, num_layers: int = 3, capacity: int = 64, pages: int = PAGES) -> None:
        self.plan = core.Plan(isa)
        self.cache = core.Cache(pages, num_layers, 1, self.head_dim, self.head_dim, core.EF_F16)
        self.plan.add_cache(self.cache)
        self.builder = Builder(self.plan)
        self.function = core.row_function_pointer(isa, "rms_norm")
        self.norm = self.plan.add_vector(rows(7, self.width))
        self._build(num_layers)
        self.builder.place(capacity)
        self.plan.finish()

    def _build(self, num_layers: int) -> None:
        add, make, width = self.plan.add_op, self.builder, self.width
        self.x, self.angles = make.floats(width), make.floats(self.head_dim)
        frequency = self.plan.add_vector((100.0 ** (-np.arange(16) / 16)).astype(np.float32))
        add(
            "embed",
            output=(self.x, 0),
            weight=make.weight(core.EF_F32, self.vocabulary, width),
            width=width,
            scale=1.5,
        )
        add("rotary", output=(self.angles, 0), vector=(frequency,), width=self.head_dim, source=POSITIONS, scale=1.0)
        for layer in range(num_layers):
            self._attention(layer)
            self._gated(core.EF_Q4_0 if layer % 2 else core.EF_F16)
        selected, normed, self.logits = (make.floats(n, OUTPUTS) for n in (width, width, self.vocabulary))
        add(
            "gather",
            domain=OUTPUTS,
            input=((self.x, 0),),
            output=(selected, 0),
            width=width,
            source=OUTPUT_ROWS,
            more_rows=-1,
        )
        add(
            "row_function",
            domain=OUTPUTS,
            input=((selected, 0),),
            output=(normed, 0),
            vector=(self.norm,),
            width=width,
            groups=1,
            number=1e-5,
            function=self.function,
        )
        add(
            "linear",
            domain=OUTPUTS,
            input=((normed, 0),),
            output=(self.logits, 0),
            width=self.vocabulary,
            weight=make.weight(core.EF_F32, self.vocabulary, width),
        )

    def _attention(self, layer: int) -> None:
        add, make, width, head_dim = self.plan.add_op, self.builder, self.width, self.head_dim
        normed, qkv, mixed, blocks = (
            make.blocks(width),
            make.floats(width + 2 * head_dim),
            make.floats(width),
            make.blocks(width),
        )
        add(
            "row_function",
            input=((self.x, 0),),
            quantized=(normed, 0),
            vector=(self.norm,),
            width=width,
            groups=1,
            number=1e-5,
            function=self.function,
        )
        add(
            "linear",
            input=((normed, 0),),
            output=(qkv, 0),
            width=width + 2 * head_dim,
            weight=make.weight(core.EF_Q8_0, width + 2 * head_dim, width),
        )
        for column, heads in ((0, 2), (width, 1)):
            add(
                "rope",
                input=((qkv, column), (self.angles, 0)),
                output=(qkv, column),
                width=heads * head_dim,
                num_heads=heads,
                head_dim=head_dim,
                half=head_dim // 2,
                pairing=core.PAIR_NEIGHBOURS,
            )
        add("store_kv", input=((qkv, width), (qkv, width + head_dim)), cache=0, layer=layer, width=head_dim)
        add(
            "attention",
            input=((qkv, 0),),
            output=(mixed, 0),
            cache=0,
            layer=layer,
            num_heads=2,
            causal=1,
            window=0,
            scale=head_dim**-0.5,
            width=width,
        )
        add("quantize", input=((mixed, 0),), quantized=(blocks, 0), width=width)
        add(
            "linear",
            input=((blocks, 0), (self.x, 0)),
            output=(self.x, 0),
            weight=make.weight(core.EF_Q4_0, width, width),
            width=width,
        )

    def _gated(self, kind: int) -> None:
        add, make, hidden = self.plan.add_op, self.builder, self.hidden
        quantized = kind == core.EF_Q4_0
        normed = make.blocks(self.width) if quantized else make.floats(self.width)
        gate_up, gated = make.floats(2 * hidden), make.blocks(hidden) if quantized else make.floats(hidden)
        result = "quantized" if quantized else "output"
        add(
            "row_function",
            input=((self.x, 0),),
            vector=(self.norm,),
            width=self.width,
            groups=1,
            number=1e-5,
            function=self.function,
            **{result: (normed, 0)},
        )
        add(
            "linear",
            input=((normed, 0),),
            output=(gate_up, 0),
            weight=make.weight(kind, 2 * hidden, self.width),
            width=2 * hidden,
        )
        add(
            "gate",
            input=((gate_up, 0), (gate_up, hidden)),
            width=hidden,
            activation=core.ACT_SILU,
            **{result: (gated, 0)},
        )
        add(
            "linear",
            input=((gated, 0), (self.x, 0)),
            output=(self.x, 0),
            weight=make.weight(kind, self.width, hidden),
            width=self.width,
        )

    def run(
        self, pool: core.Pool, feeds: list[tuple[list[int], int, list[int]]], cancel: core.CancelFlag | None = None
    ) -> Floats:
        """Logits of all rows; a feed is (tokens, position of the first, pages)."""
        lengths = [len(tokens) for tokens, _, _ in feeds]
        starts = np.cumsum([0, *lengths[:-1]])
        pages = np.cumsum([0, *(len(pages) for _, _, pages in feeds)])
        segments = [
            [start, n, position, position + n, page, 0]
            for start, n, (_, position, _), page in zip(starts, lengths, feeds, pages, strict=False)
        ]
        total = sum(lengths)
        run_rows(
            self.plan,
            pool,
            np.array([t for tokens, _, _ in feeds for t in tokens], np.int32),
            np.concatenate([np.arange(p, p + len(t)) for t, p, _ in feeds]).astype(np.int32),
            None,
            np.arange(total, dtype=np.int32),
            np.array(segments, np.int32),
            np.array([p for _, _, pages in feeds for p in pages], np.int32),
            cancel,
        )
        return self.plan.read(self.logits, 0, self.vocabulary, total)


class Slow:
    """A plan of many equal products that takes seconds, to be ended early."""

    def __init__(self, num_ops: int = 4000, num_rows: int = 32, width: int = 256) -> None:
        self.plan, self.num_rows = core.Plan("scalar"), num_rows
        builder = Builder(self.plan)
        buffers = builder.floats(width), builder.floats(width)
        weight = builder.weight(core.EF_F32, width, width)
        for i in range(num_ops):
            self.plan.add_op(
                "linear", input=((buffers[i % 2], 0),), output=(buffers[1 - i % 2], 0), weight=weight, width=width
            )
        builder.place(num_rows)

    def run(self, pool: core.Pool, cancel: core.CancelFlag | None = None) -> None:
        """Runs it; there is nothing to read."""
        ids = np.zeros(self.num_rows, np.int32)
        run_rows(self.plan, pool, ids, cancel=cancel)
