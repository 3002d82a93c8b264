"""Products and attention that gate or quantize their results at once: the same bits as with ops of their own."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer._kernels import core
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_inputs import matrix, rows
from support.plan_models import Builder, run_rows

COLUMNS = 64
WEIGHTS = st.sampled_from([core.EF_F32, core.EF_Q8_0, core.EF_Q4_0])
MANY = 1100  # more rows than a thread keeps products of


class Products:
    """A plan whose buffer `x` holds the input that a weight of the given type takes."""

    def __init__(self, kind: int, count: int) -> None:
        self.plan, self.count = core.Plan(), count
        self.builder = Builder(self.plan)
        table = core.Matrix(core.EF_F32, count, COLUMNS)
        table.pack(rows(count, count, COLUMNS).tobytes(), 0, count)
        self.x = self.floats = self.builder.floats(COLUMNS)
        self.plan.add_op("embed", output=(self.x, 0), weight=self.plan.add_matrix(table), width=COLUMNS, scale=1.0)
        if kind != core.EF_F32:
            self.x = self.builder.blocks(COLUMNS)
            self.plan.add_op("quantize", input=((self.floats, 0),), quantized=(self.x, 0), width=COLUMNS)

    def run(self, threads: int) -> None:
        self.builder.place(self.count)
        ids = np.arange(self.count, dtype=np.int32)
        run_rows(self.plan, core.Pool(threads), ids)

    def read(self, buffer: int) -> bytes:
        """Everything that rows of a buffer hold, floats or blocks."""
        return self.plan.read(buffer, 0, self.builder.sizes[buffer][0] // 4, self.count).tobytes()


@settings(max_examples=30)
@given(WEIGHTS, st.integers(1, 70) | st.just(MANY), st.integers(1, 9), st.booleans(), st.integers(1, 3))
def test_gated_products(kind: int, count: int, blocks: int, keeps_floats: bool, threads: int) -> None:
    bench, width = Products(kind, count), 32 * blocks
    add, make = bench.plan.add_op, bench.builder
    common = {"input": ((bench.x, 0),), "weight": make.weight(kind, 2 * width, COLUMNS)}
    common["vector"] = (bench.plan.add_vector(rows(5, 2 * width)),)
    both, wanted, wanted_blocks, floats, gated = (
        make.floats(2 * width),
        make.floats(width),
        make.blocks(width),
        make.floats(width),
        make.blocks(width),
    )
    silu = {"activation": core.ACT_SILU}
    add("linear", output=(both, 0), width=2 * width, **common)
    add(
        "gate",
        input=((both, 0), (both, width)),
        output=(wanted, 0),
        quantized=(wanted_blocks, 0),
        width=width,
        **silu,
    )
    output = {"output": (floats, 0)} if keeps_floats else {}
    add("linear", quantized=(gated, 0), width=width, gated=1, **silu, **output, **common)
    bench.run(threads)
    assert bench.read(gated) == bench.read(wanted_blocks)
    assert not keeps_floats or bench.read(floats) == bench.read(wanted)


@settings(max_examples=30)
@given(WEIGHTS, st.integers(1, 70) | st.just(MANY), st.integers(1, 9), st.booleans(), st.integers(1, 3))
def test_quantized_products(kind: int, count: int, blocks: int, keeps_floats: bool, threads: int) -> None:
    bench, width = Products(kind, count), 32 * blocks
    add, make = bench.plan.add_op, bench.builder
    common = {"weight": make.weight(kind, width, COLUMNS), "width": width, "activation": core.ACT_GELU}
    common["vector"] = (bench.plan.add_vector(rows(6, width)),)
    residual, wanted, wanted_blocks, floats, quantized = (
        make.floats(width),
        make.floats(width),
        make.blocks(width),
        make.floats(width),
        make.blocks(width),
    )
    add("linear", input=((bench.x, 0),), output=(residual, 0), **common)
    common["input"] = ((bench.x, 0), (residual, 0))
    add("linear", output=(wanted, 0), **common)
    add("quantize", input=((wanted, 0),), quantized=(wanted_blocks, 0), width=width)
    output = {"output": (floats, 0)} if keeps_floats else {}
    add("linear", quantized=(quantized, 0), **output, **common)
    bench.run(threads)
    assert bench.read(quantized) == bench.read(wanted_blocks)
    assert not keeps_floats or bench.read(floats) == bench.read(wanted)


@pytest.mark.parametrize("width", [7, 40])
def test_gated_products_of_any_width(width: int) -> None:
    bench = Products(core.EF_F32, 5)
    add, make, up = bench.plan.add_op, bench.builder, -(-width // 16) * 16
    both, wanted, gated = make.floats(up + width), make.floats(width), make.floats(width)
    common = {"input": ((bench.x, 0),), "weight": make.weight(core.EF_F32, up + width, COLUMNS)}
    add("linear", output=(both, 0), width=up + width, **common)
    add("gate", input=((both, 0), (both, up)), output=(wanted, 0), width=width, activation=core.ACT_GELU)
    add("linear", output=(gated, 0), width=width, activation=core.ACT_GELU, gated=1, **common)
    bench.run(2)
    assert np.array_equal(bench.plan.read(gated, 0, width, 5), bench.plan.read(wanted, 0, width, 5))
    assert bench.plan.read(gated, 0, width, 5).any()


SHORT = [[0, 19, 0, 19, 0, 0], [19, 31, 0, 31, 2, 0]]
LONG = [[0, 2, 998, 1000, 0, 0]]  # few heads and rows: split over spans


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "segments"),
    [(2, 1, 16, SHORT), (3, 3, 32, SHORT), (4, 2, 64, SHORT), (8, 1, 64, LONG), (6, 2, 32, LONG)],
)
def test_attention_leaves_quantized_rows(heads: int, kv_heads: int, head_dim: int, segments: list[list[int]]) -> None:
    count, num_pages = sum(segment[1] for segment in segments), 63
    plan = core.Plan()
    builder = Builder(plan)
    plan.add_cache(core.Cache(num_pages, 1, kv_heads, head_dim, head_dim, core.EF_F16))
    width, kv_width = heads * head_dim, kv_heads * head_dim
    x, y, blocks, wanted = builder.floats(width), builder.floats(width), builder.blocks(width), builder.blocks(width)
    table, _ = matrix(core.EF_F32, count, width)
    plan.add_op("embed", output=(x, 0), weight=plan.add_matrix(table), width=width, scale=1.0)
    plan.add_op("store_kv", input=((x, 0), (x, 0)), cache=0, layer=0, width=kv_width)
    plan.add_op(
        "attention",
        input=((x, 0),),
        output=(y, 0),
        quantized=(blocks, 0),
        cache=0,
        layer=0,
        num_heads=heads,
        causal=1,
        window=0,
        scale=1.0,
        width=width,
    )
    plan.add_op("quantize", input=((y, 0),), quantized=(wanted, 0), width=width)
    builder.place(count)
    ids = np.arange(count, dtype=np.int32)
    pages = np.arange(num_pages, dtype=np.int32)
    size = builder.sizes[blocks][0] // 4
    for threads in (1, 2):
        run_rows(plan, core.Pool(threads), ids, segments=np.array(segments, np.int32), pages=pages)
        assert plan.read(y, 0, width, count).any()
        assert plan.read(blocks, 0, size, count).tobytes() == plan.read(wanted, 0, size, count).tobytes()
