"""The loop over ops: each op on its own, whole plans cut in every way, and everything that is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError, UnsupportedCPUError
from kernel_inputs import Floats, matrix, rows, same_bits
from plan_models import Builder, Decoder

ROWS, WIDTH = 7, 64


class Bench:
    """A plan whose buffer `x` (and `y`) is filled with given rows by lookups; then comes the op under test."""

    def __init__(self, x: Floats, y: Floats | None = None, segments: list[int] | None = None) -> None:
        self.plan = core.Plan()
        self.builder = Builder(self.plan)
        self.count = len(x)
        self.lengths = [self.count] if segments is None else segments
        self.x = self._fill(x)
        self.y = -1 if y is None else self._fill(y)

    def _fill(self, values: Floats) -> int:
        table = core.Matrix(core.EF_F32, *values.shape)
        table.pack(values.tobytes(), 0, len(values))
        buffer = self.builder.floats(values.shape[1])
        self.plan.add_op(core.OP_EMBED, output=(buffer, 0), weight=self.plan.add_matrix(table), width=values.shape[1], real=(1.0,))
        return buffer

    def run(self, pool: core.Pool, outputs: list[int] | None = None) -> None:
        """Runs rows 0, 1, 2, ..."""
        self.builder.place(max(self.count, 8))
        ids = np.arange(self.count, dtype=np.int32)
        starts = np.cumsum([0, *self.lengths[:-1]])
        segments = np.array([[s, n, 0, n, 0, 0] for s, n in zip(starts, self.lengths, strict=True)], np.int32)
        self.plan.run(pool, ids, ids * 3, None, np.array(outputs or [], np.int32), [segments], [])

    def read(self, buffer: int, width: int, count: int | None = None) -> Floats:
        """The first columns of a buffer."""
        return self.plan.read(buffer, 0, width, self.count if count is None else count)


def test_embed_adds_positions_and_token_types(pool: core.Pool) -> None:
    bench = Bench(rows(0, ROWS, WIDTH))
    position_table, positions = matrix(core.EF_F16, 30, WIDTH)
    type_table, types = matrix(core.EF_Q8_0, 2, WIDTH)
    for table, source in ((position_table, core.EF_POSITIONS), (type_table, core.EF_TOKEN_TYPES)):
        bench.plan.add_op(core.OP_EMBED, input=((bench.x, 0),), output=(bench.x, 0), weight=bench.plan.add_matrix(table), width=WIDTH,
                          integer=(source,), real=(1.0,))
    bench.run(pool)
    assert np.allclose(bench.read(bench.x, WIDTH), rows(0, ROWS, WIDTH) + positions[np.arange(ROWS) * 3] + types[0], atol=1e-5)


@pytest.mark.parametrize("kind", sorted(core.WEIGHT_TYPES), ids=core.WEIGHT_TYPES.get)
def test_linear_is_the_product_with_its_epilogue(pool: core.Pool, kind: int) -> None:
    x, y, bias = rows(0, ROWS, WIDTH), rows(1, ROWS, 40), rows(2, 40)
    bench = Bench(x, y)
    weight, _ = matrix(kind, 40, WIDTH)
    given = bench.x
    if kind in (core.EF_Q8_0, core.EF_Q4_0):
        given = bench.builder.blocks(WIDTH)
        bench.plan.add_op(core.OP_QUANTIZE, input=((bench.x, 0),), quantized=(given, 0), width=WIDTH)
    bench.plan.add_op(core.OP_LINEAR, input=((given, 0), (bench.y, 0)), output=(bench.y, 0), weight=bench.plan.add_matrix(weight),
                      vector=(bench.plan.add_vector(bias),), width=40, integer=(core.ACT_GELU,))
    bench.run(pool)
    assert same_bits(bench.read(bench.y, 40), core.kernel_matmul(None, weight, x, bias, y, "gelu"))


def test_norm_in_groups_and_without_weights(pool: core.Pool) -> None:
    x = rows(0, ROWS, WIDTH)
    bench = Bench(x)
    result = bench.builder.floats(WIDTH)
    bench.plan.add_op(core.OP_NORM, input=((bench.x, 0),), output=(result, 0), width=WIDTH // 4, integer=(4,), real=(1e-5,),
                      function=core.norm_pointer(None, "layer_norm"))
    bench.run(pool)
    groups = x.reshape(-1, WIDTH // 4)
    wanted = core.kernel_norm(None, "layer_norm", groups, np.ones(WIDTH // 4, np.float32), None, 1e-5)
    assert same_bits(bench.read(result, WIDTH), wanted.reshape(x.shape))


@pytest.mark.parametrize("name", ["norm", "gate", "activate"])
def test_a_result_may_be_floats_and_quantized_rows_at_once(pool: core.Pool, name: str) -> None:
    x, y = rows(0, ROWS, WIDTH), rows(1, ROWS, WIDTH)
    fields: dict[str, dict[str, Any]] = {
        "norm": {"integer": (1,), "real": (1e-5,), "function": core.norm_pointer(None, "rms_norm")},
        "gate": {"integer": (core.ACT_SILU,)},
        "activate": {"integer": (core.ACT_RELU,)},
    }
    wanted = {
        "norm": lambda: core.kernel_norm(None, "rms_norm", x, np.ones(WIDTH, np.float32), None, 1e-5),
        "gate": lambda: core.kernel_gate(None, "silu", x, y),
        "activate": lambda: core.kernel_unary(None, "relu", x),
    }
    bench = Bench(x, y)
    floats, both, alone = bench.builder.floats(WIDTH), bench.builder.blocks(WIDTH), bench.builder.blocks(WIDTH)
    inputs = ((bench.x, 0), (bench.y, 0)) if name == "gate" else ((bench.x, 0),)
    kind = getattr(core, f"OP_{name.upper()}")
    bench.plan.add_op(kind, input=inputs, output=(floats, 0), quantized=(both, 0), width=WIDTH, **fields[name])
    bench.plan.add_op(kind, input=inputs, quantized=(alone, 0), width=WIDTH, **fields[name])
    weight = bench.builder.weight(core.EF_Q8_0, 16, WIDTH)
    products = [bench.builder.floats(16) for _ in range(2)]
    for blocks, product in zip((both, alone), products, strict=True):
        bench.plan.add_op(core.OP_LINEAR, input=((blocks, 0),), output=(product, 0), weight=weight, width=16)
    bench.run(pool)
    assert same_bits(bench.read(floats, WIDTH), wanted[name]())
    assert same_bits(bench.read(products[0], 16), bench.read(products[1], 16)) and bench.read(products[0], 16).any()


def test_add_select_and_pool(pool: core.Pool) -> None:
    x, y = rows(0, ROWS, WIDTH), rows(1, ROWS, WIDTH)
    bench = Bench(x, y, segments=[2, 4, 1])
    total, selected = bench.builder.floats(WIDTH), bench.builder.floats(WIDTH, core.EF_OUTPUTS)
    pooled = bench.builder.floats(WIDTH, core.EF_SEGMENTS)
    bench.plan.add_op(core.OP_ADD, input=((bench.x, 0), (bench.y, 0)), output=(total, 0), width=WIDTH)
    bench.plan.add_op(core.OP_SELECT, domain=core.EF_OUTPUTS, input=((bench.x, 0),), output=(selected, 0), width=WIDTH)
    bench.plan.add_op(core.OP_POOL, domain=core.EF_SEGMENTS, input=((bench.x, 0),), output=(pooled, 0), width=WIDTH, integer=(core.POOL_MEAN,))
    bench.run(pool, outputs=[6, 0, 6])
    assert same_bits(bench.read(total, WIDTH), x + y)
    assert same_bits(bench.read(selected, WIDTH, 3), x[[6, 0, 6]])
    assert np.allclose(bench.read(pooled, WIDTH, 3), [x[:2].mean(0), x[2:6].mean(0), x[6]], atol=1e-6)


def test_rotary_and_rope(pool: core.Pool) -> None:
    x, frequency = rows(0, ROWS, WIDTH), rows(1, 9)
    bench = Bench(x)
    angles = bench.builder.floats(18)
    bench.plan.add_op(core.OP_ROTARY, output=(angles, 0), vector=(bench.plan.add_vector(frequency),), width=18, real=(0.5,))
    bench.plan.add_op(core.OP_ROPE, input=((bench.x, 0), (angles, 0)), output=(bench.x, 0), width=WIDTH, integer=(2, 32, 9, core.PAIR_HALVES))
    bench.run(pool)
    cos_sin = core.kernel_rotary(None, np.arange(ROWS, dtype=np.int32) * 3, frequency, 0.5)
    assert same_bits(bench.read(bench.x, WIDTH), core.kernel_rope(None, x, cos_sin, 2))


TOKENS = [int(t) for t in np.random.default_rng(3).integers(0, Decoder.vocabulary, 45)]


def test_same_bits_on_every_instruction_set_and_any_number_of_threads(isa: str) -> None:
    wanted = Decoder("scalar").run(core.Pool(1), [(TOKENS, 0, [0, 1, 2])])
    assert np.isfinite(wanted).all() and len(np.unique(wanted.argmax(-1))) > 3
    for threads in (1, 2, 4):
        assert same_bits(Decoder(isa).run(core.Pool(threads), [(TOKENS, 0, [2, 0, 1])]), wanted)


def test_prefill_equals_token_by_token(pool: core.Pool) -> None:
    whole = Decoder().run(pool, [(TOKENS, 0, [0, 1, 2])])
    decoder = Decoder()
    single = [decoder.run(pool, [([token], i, [0, 1, 2])])[0] for i, token in enumerate(TOKENS)]
    assert same_bits(np.array(single), whole)


def test_sequences_do_not_see_each_other(pool: core.Pool) -> None:
    feeds = [(TOKENS[:20], 0, [3, 4]), (TOKENS[5:6], 0, [7]), (TOKENS[:17], 0, [5, 6])]
    alone = [Decoder().run(pool, [feed]) for feed in feeds]
    assert same_bits(Decoder().run(pool, feeds), np.concatenate(alone))


def test_copied_pages_continue_as_the_original(pool: core.Pool) -> None:
    decoder = Decoder()
    decoder.run(pool, [(TOKENS[:20], 0, [0, 1])])
    decoder.cache.copy_page(1, 9)
    copied = decoder.run(pool, [(TOKENS[20:25], 20, [0, 9])])
    assert same_bits(copied, decoder.run(pool, [(TOKENS[20:25], 20, [0, 1])]))


def test_a_larger_arena_changes_nothing(pool: core.Pool) -> None:
    decoder = Decoder(capacity=8)
    with pytest.raises(InvalidInputError, match="more than the capacities"):
        decoder.run(pool, [(TOKENS, 0, [0, 1, 2])])
    first = decoder.run(pool, [(TOKENS[:8], 0, [0])])
    decoder.builder.place(300)
    assert same_bits(decoder.run(pool, [(TOKENS[:8], 0, [0])]), first)


def test_isa_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFORMER_ISA", "scalar")
    assert core.best_isa() == "scalar" and core.Plan().isa == "scalar"
    assert core.Plan(core.isa_names()[0]).isa == core.isa_names()[0]
    monkeypatch.setenv("EDGEFORMER_ISA", "mmx")
    with pytest.raises(UnsupportedCPUError, match=r"'mmx'.*there are: .*scalar"):
        core.best_isa()
    with pytest.raises(UnsupportedCPUError, match="'sse'"):
        core.Plan("sse")
    assert set(core.isa_names()) <= set(core.compiled_isa_names())


def _batch(**changes: Any) -> dict[str, Any]:
    """Arguments of `Plan.run` for three rows of a Decoder."""
    ids = np.arange(3, dtype=np.int32)
    batch = {"tokens": ids, "positions": ids, "token_types": None, "output_rows": ids,
             "segments": [np.array([[0, 3, 0, 3, 0, 0]], np.int32)], "page_tables": [np.array([0, 1], np.int32)]}
    return {**batch, **changes}


def _segment(*fields: int) -> list[np.ndarray]:
    return [np.array(fields, np.int32).reshape(-1, 6)]


@pytest.mark.parametrize(("changes", "message"), [
    ({"tokens": np.array([0, 1, 50], np.int32)}, r"tokens\[2\] is 50"),
    ({"tokens": np.array([0, -1, 5], np.int32)}, r"tokens\[1\] is -1"),
    ({"tokens": np.arange(3)}, "must be int32"),
    ({"tokens": np.arange(6, dtype=np.int32)[::2]}, "C-contiguous"),
    ({"tokens": [0, 1, 2]}, "array is needed"),
    ({"tokens": None}, "reads tokens"),
    ({"positions": None}, "reads positions"),
    ({"positions": np.zeros(2, np.int32)}, "2 elements for 3 rows"),
    ({"tokens": None, "positions": None}, "at least one row"),
    ({"output_rows": np.array([3], np.int32)}, r"output_rows\[0\] is 3"),
    ({"output_rows": np.array([-1], np.int32)}, r"output_rows\[0\] is -1"),
    ({"output_rows": np.zeros(100, np.int32)}, "more than the capacities"),
    ({"segments": []}, "one for each cache"),
    ({"segments": [], "page_tables": []}, "segments are needed"),
    ({"segments": [np.zeros((1, 5), np.int32)]}, "6 columns"),
    ({"segments": _segment(0, 2, 0, 2, 0, 0)}, "cover 2 of 3 rows"),
    ({"segments": _segment(1, 3, 0, 3, 0, 0)}, "from 1, not from 0"),
    ({"segments": _segment(0, 4, 0, 4, 0, 0)}, "cover 4 of 3 rows"),
    ({"segments": _segment(0, 3, 0, 3, 0, 0, 3, 0, 0, 0, 0, 0)}, "has 0 rows"),
    ({"segments": _segment(0, 3, -1, 3, 0, 0)}, "negative"),
    ({"segments": _segment(0, 3, 0, 3, -1, 0)}, "negative"),
    ({"segments": _segment(0, 3, 30, 33, 0, 0)}, "needs 3 pages"),
    ({"segments": _segment(0, 3, 2**31 - 1, 3, 0, 0)}, "pages from 0"),
    ({"segments": _segment(0, 3, 0, 3, 2, 0)}, "needs 1 pages from 2"),
    ({"page_tables": [np.array([16], np.int32)]}, "page 16"),
    ({"page_tables": [np.array([-1], np.int32)]}, "page -1"),
    ({"page_tables": []}, "needs 1 pages"),
])
def test_wrong_batches_are_refused(pool: core.Pool, changes: dict[str, Any], message: str) -> None:
    decoder = Decoder()
    with pytest.raises(InvalidInputError, match=message):
        decoder.plan.run(pool, **_batch(**changes))
    decoder.plan.run(pool, **_batch())


def _linear(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {"kind": core.OP_LINEAR, "input": ((make.floats(32), 0),), "output": (make.floats(16), 0),
            "weight": make.weight(core.EF_F32, 16, 32), "width": 16}


def _quantized_linear(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {**_linear(plan, make), "input": ((make.blocks(32), 0),), "weight": make.weight(core.EF_Q8_0, 16, 32)}


def _norm(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {"kind": core.OP_NORM, "input": ((make.floats(32), 0),), "output": (make.floats(32), 0), "integer": (1,), "width": 32,
            "function": core.norm_pointer(None, "rms_norm")}


def _attention(plan: core.Plan, make: Builder) -> dict[str, Any]:
    plan.add_cache(core.Cache(4, 2, 2, 8, 8, core.EF_F32))
    return {"kind": core.OP_ATTENTION, "input": ((make.floats(32), 0),), "output": (make.floats(32), 0), "integer": (0, 1, 4, 1, 0),
            "width": 32}


def _rope(plan: core.Plan, make: Builder) -> dict[str, Any]:
    x = (make.floats(32), 0)
    return {"kind": core.OP_ROPE, "input": (x, (make.floats(8), 0)), "output": x, "integer": (4, 8, 4, 0), "width": 32}


def _gate(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {"kind": core.OP_GATE, "input": ((make.floats(32), 0), (make.floats(32), 0)), "output": (make.floats(32), 0), "width": 32}


def _embed(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {"kind": core.OP_EMBED, "output": (make.floats(32), 0), "weight": make.weight(core.EF_F32, 9, 32), "width": 32, "real": (1.0,)}


Maker = Callable[[core.Plan, Builder], dict[str, Any]]


@pytest.mark.parametrize("maker", [_linear, _quantized_linear, _norm, _attention, _rope, _gate, _embed])
def test_right_ops_are_accepted(maker: Maker) -> None:
    plan = core.Plan()
    make = Builder(plan)
    plan.add_op(**maker(plan, make))
    make.place(4)
    plan.finish()


@pytest.mark.parametrize(("maker", "changes", "message"), [
    (_linear, {"kind": 99}, "kind is 99"),
    (_linear, {"domain": 3}, "domain is 3"),
    (_linear, {"domain": core.EF_OUTPUTS}, "another domain"),
    (_linear, {"weight": 1}, "matrix 1 of 1"),
    (_linear, {"weight": -1}, "matrix -1"),
    (_linear, {"width": 17}, "width 17"),
    (_linear, {"width": 0}, "width is 0"),
    (_linear, {"output": (9, 0)}, "buffer 9 of"),
    (_linear, {"output": None}, "output is missing"),
    (_linear, {"output": (1, 16)}, "past the 16"),
    (_linear, {"output": (0, 8)}, "not a multiple of 16"),
    (_linear, {"input": ((1, 0),)}, "past the 16"),
    (_linear, {"input": ((0, 1),)}, "past the 32"),
    (_linear, {"input": ((0, -1),)}, "column is -1"),
    (_linear, {"vector": (0,)}, "vector 0 of 0"),
    (_linear, {"integer": (5,)}, "activation 5"),
    (_linear, {"integer": (0,) * 7}, "at most"),
    (_quantized_linear, {"input": ((2, 0), (2, 0))}, "does not hold floats"),
    (_quantized_linear, {"input": ((2, 32),)}, "in blocks"),
    (_norm, {"function": 0}, "row function is missing"),
    (_norm, {"integer": (0,)}, "0 groups"),
    (_norm, {"integer": (2,)}, "past the 32"),
    (_norm, {"integer": (2,), "width": 16, "quantized": (1, 0), "output": None}, "groups cannot"),
    (_norm, {"output": None}, "there is no output"),
    (_attention, {"integer": (1, 0, 4, 1, 0)}, "cache 1 of 1"),
    (_attention, {"integer": (0, 2, 4, 1, 0)}, "layer 2 of 2"),
    (_attention, {"integer": (0, 0, 3, 1, 0)}, "3 heads over 2"),
    (_attention, {"integer": (0, 0, 8, 1, 0)}, "past the 32"),
    (_attention, {"integer": (0, 0, 4, 1, -1)}, "window -1"),
    (_attention, {"domain": core.EF_SEGMENTS}, "domain EF_ROWS"),
    (_rope, {"output": (1, 0)}, "same operand"),
    (_rope, {"integer": (4, 8, 5, 0)}, "half 5"),
    (_rope, {"integer": (5, 8, 4, 0)}, "past the 32"),
    (_rope, {"integer": (4, 8, 4, 2)}, "pairing 2"),
    (_gate, {"input": ((0, 0),)}, "second input is missing"),
    (_gate, {"integer": (-1,)}, "activation -1"),
    (_embed, {"integer": (3,)}, "source 3"),
    (_embed, {"width": 16}, "width 16 of a matrix of 32"),
])
def test_wrong_ops_are_refused(maker: Maker, changes: dict[str, Any], message: str) -> None:
    plan = core.Plan()
    make = Builder(plan)
    with pytest.raises(InvalidInputError, match=message):
        plan.add_op(**{**maker(plan, make), **changes})
        make.place(4)
        plan.finish()


@pytest.mark.parametrize(("changes", "message"), [
    ({"offsets": [32]}, "multiples of 64"),
    ({"offsets": [-64]}, "multiples of 64"),
    ({"strides": [0]}, "multiples of 64"),
    ({"strides": [100]}, "multiples of 64"),
    ({"strides": [2**62]}, "past the arena"),
    ({"domains": [3]}, "domain of buffer 0"),
    ({"domains": [0, 0]}, "different lengths"),
    ({"arena_bytes": 255}, "past the arena of 255"),
    ({"arena_bytes": -1}, "bytes of arena"),
    ({"capacities": (1, 2)}, "three capacities"),
    ({"capacities": (-1, 0, 0)}, "capacity is -1"),
])
def test_wrong_buffers_are_refused(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"offsets": [0], "strides": [64], "domains": [0], "arena_bytes": 256, "capacities": (4, 4, 4), **changes}
    for name, dtype in (("offsets", np.int64), ("strides", np.int64), ("domains", np.int32)):
        fields[name] = np.array(fields[name], dtype)
    with pytest.raises(InvalidInputError, match=message):
        core.Plan().set_buffers(**fields)


def test_reading_past_a_buffer_is_refused(pool: core.Pool) -> None:
    decoder = Decoder()
    for buffer, column, width, count in ((99, 0, 1, 1), (-1, 0, 1, 1), (0, 0, 65, 1), (0, 64, 1, 1), (0, -1, 1, 1), (0, 0, 1, 65)):
        with pytest.raises(InvalidInputError):
            decoder.plan.read(buffer, column, width, count)
    with pytest.raises(InvalidInputError, match="at most 4 caches"):
        for _ in range(5):
            decoder.plan.add_cache(core.Cache(1, 1, 1, 1, 1, core.EF_F32))
