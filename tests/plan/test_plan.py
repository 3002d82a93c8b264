"""The loop over ops: each op on its own, whole plans cut in every way, and everything that is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError, UnsupportedCPUError
from support.kernel_inputs import QUANTIZED, Floats, matrix, rows, same_bits
from support.plan_models import OUTPUT_ROWS, OUTPUTS, POSITIONS, SEGMENTS, TOKEN_TYPES, Builder, Decoder, run_rows

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
        self.plan.add_op(
            "embed", output=(buffer, 0), weight=self.plan.add_matrix(table), width=values.shape[1], scale=1.0
        )
        return buffer

    def run(self, pool: core.Pool, outputs: list[int] | None = None) -> None:
        """Runs rows 0, 1, 2, ..."""
        self.builder.place(max(self.count, 8))
        ids = np.arange(self.count, dtype=np.int32)
        starts = np.cumsum([0, *self.lengths[:-1]])
        segments = np.array([[s, n, 0, n, 0, 0] for s, n in zip(starts, self.lengths, strict=True)], np.int32)
        run_rows(self.plan, pool, ids, ids * 3, None, np.array(outputs or [], np.int32), segments)

    def read(self, buffer: int, width: int, count: int | None = None) -> Floats:
        """The first columns of a buffer."""
        return self.plan.read(buffer, 0, width, self.count if count is None else count)


def test_embed_adds_positions_and_token_types(pool: core.Pool) -> None:
    bench = Bench(rows(0, ROWS, WIDTH))
    position_table, positions = matrix(core.EF_F16, 30, WIDTH)
    type_table, types = matrix(core.EF_Q8_0, 2, WIDTH)
    for table, source in ((position_table, POSITIONS), (type_table, TOKEN_TYPES)):
        bench.plan.add_op(
            "embed",
            input=((bench.x, 0),),
            output=(bench.x, 0),
            weight=bench.plan.add_matrix(table),
            width=WIDTH,
            source=source,
            scale=1.0,
        )
    bench.run(pool)
    assert np.allclose(
        bench.read(bench.x, WIDTH), rows(0, ROWS, WIDTH) + positions[np.arange(ROWS) * 3] + types[0], atol=1e-5
    )


@pytest.mark.parametrize("kind", sorted(core.WEIGHT_TYPES), ids=core.WEIGHT_TYPES.get)
def test_linear_is_the_product_with_its_epilogue(pool: core.Pool, kind: int) -> None:
    width = 256  # whole blocks of every type
    x, y, bias = rows(0, ROWS, width), rows(1, ROWS, 40), rows(2, 40)
    bench = Bench(x, y)
    weight, _ = matrix(kind, 40, width)
    given = bench.x
    if kind in QUANTIZED:
        given = bench.builder.blocks(width)
        bench.plan.add_op(
            "quantize",
            input=((bench.x, 0),),
            quantized=(given, 0),
            row_scale=kind == core.EF_I8_ROW,
            width=width,
        )
    bench.plan.add_op(
        "linear",
        input=((given, 0), (bench.y, 0)),
        output=(bench.y, 0),
        weight=bench.plan.add_matrix(weight),
        vector=(bench.plan.add_vector(bias),),
        width=40,
        activation=core.ACT_GELU,
    )
    bench.run(pool)
    assert same_bits(bench.read(bench.y, 40), core.kernel_matmul(None, weight, x, bias, y, "gelu"))


def test_norm_in_groups_and_without_weights(pool: core.Pool) -> None:
    x = rows(0, ROWS, WIDTH)
    bench = Bench(x)
    result = bench.builder.floats(WIDTH)
    bench.plan.add_op(
        "row_function",
        input=((bench.x, 0),),
        output=(result, 0),
        width=WIDTH // 4,
        groups=4,
        number=1e-5,
        function=core.row_function_pointer(None, "layer_norm"),
    )
    bench.run(pool)
    groups = x.reshape(-1, WIDTH // 4)
    wanted = core.kernel_row_function(None, "layer_norm", groups, np.ones(WIDTH // 4, np.float32), None, 1e-5)
    assert same_bits(bench.read(result, WIDTH), wanted.reshape(x.shape))


@pytest.mark.parametrize("name", ["row_function", "gate", "activate"])
def test_a_result_may_be_floats_and_quantized_rows_at_once(pool: core.Pool, name: str) -> None:
    x, y = rows(0, ROWS, WIDTH), rows(1, ROWS, WIDTH)
    fields: dict[str, dict[str, Any]] = {
        "row_function": {"groups": 1, "number": 1e-5, "function": core.row_function_pointer(None, "rms_norm")},
        "gate": {"activation": core.ACT_SILU},
        "activate": {"activation": core.ACT_RELU},
    }
    wanted = {
        "row_function": lambda: core.kernel_row_function(None, "rms_norm", x, np.ones(WIDTH, np.float32), None, 1e-5),
        "gate": lambda: core.kernel_gate(None, "silu", x, y),
        "activate": lambda: core.kernel_unary(None, "relu", x),
    }
    bench = Bench(x, y)
    floats, both, alone = bench.builder.floats(WIDTH), bench.builder.blocks(WIDTH), bench.builder.blocks(WIDTH)
    inputs = ((bench.x, 0), (bench.y, 0)) if name == "gate" else ((bench.x, 0),)
    kind = name
    bench.plan.add_op(kind, input=inputs, output=(floats, 0), quantized=(both, 0), width=WIDTH, **fields[name])
    bench.plan.add_op(kind, input=inputs, quantized=(alone, 0), width=WIDTH, **fields[name])
    weight = bench.builder.weight(core.EF_Q8_0, 16, WIDTH)
    products = [bench.builder.floats(16) for _ in range(2)]
    for blocks, product in zip((both, alone), products, strict=True):
        bench.plan.add_op("linear", input=((blocks, 0),), output=(product, 0), weight=weight, width=16)
    bench.run(pool)
    assert same_bits(bench.read(floats, WIDTH), wanted[name]())
    assert same_bits(bench.read(products[0], 16), bench.read(products[1], 16)) and bench.read(products[0], 16).any()


def test_add_select_and_pool(pool: core.Pool) -> None:
    x, y = rows(0, ROWS, WIDTH), rows(1, ROWS, WIDTH)
    bench = Bench(x, y, segments=[2, 4, 1])
    total, selected = bench.builder.floats(WIDTH), bench.builder.floats(WIDTH, OUTPUTS)
    pooled = bench.builder.floats(WIDTH, SEGMENTS)
    bench.plan.add_op("add", input=((bench.x, 0), (bench.y, 0)), output=(total, 0), width=WIDTH)
    gather = {"source": OUTPUT_ROWS, "more_rows": -1}
    bench.plan.add_op("gather", domain=OUTPUTS, input=((bench.x, 0),), output=(selected, 0), width=WIDTH, **gather)
    bench.plan.add_op(
        "pool",
        domain=SEGMENTS,
        input=((bench.x, 0),),
        output=(pooled, 0),
        width=WIDTH,
        pooling=core.POOL_MEAN,
    )
    bench.run(pool, outputs=[6, 0, -1])
    assert same_bits(bench.read(total, WIDTH), x + y)
    assert same_bits(bench.read(selected, WIDTH, 3), np.stack([x[6], x[0], np.zeros(WIDTH, np.float32)]))
    assert np.allclose(bench.read(pooled, WIDTH, 3), [x[:2].mean(0), x[2:6].mean(0), x[6]], atol=1e-6)


def test_rotary_and_rope(pool: core.Pool) -> None:
    x, frequency = rows(0, ROWS, WIDTH), rows(1, 9)
    bench = Bench(x)
    angles = bench.builder.floats(18)
    bench.plan.add_op(
        "rotary", output=(angles, 0), vector=(bench.plan.add_vector(frequency),), width=18, source=POSITIONS, scale=0.5
    )
    bench.plan.add_op(
        "rope",
        input=((bench.x, 0), (angles, 0)),
        output=(bench.x, 0),
        width=WIDTH,
        num_heads=2,
        head_dim=32,
        half=9,
        pairing=core.PAIR_HALVES,
    )
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


def test_a_step_after_a_long_context_is_shared_out_among_threads() -> None:
    """More threads than heads: they take spans of positions, alone and beside a sequence of another length."""
    long, short = list(range(130)), list(range(130, 160))
    steps = [
        [([1, 2, 3], 2000, long)],
        [([4], 2003, long), ([5, 6], 300, short)],
        [([7], 2004, long)],
    ]
    results = []
    for threads in (1, 3, 6):
        pool, decoder = core.Pool(threads), Decoder(pages=160, capacity=2300, num_layers=2)
        decoder.run(pool, [((TOKENS * 50)[:2000], 0, long), ((TOKENS * 7)[:300], 0, short)])
        for _ in range(3):
            results.append(np.concatenate([decoder.run(pool, step) for step in steps]))
    assert all(same_bits(result, results[0]) for result in results)


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
    with pytest.raises(InvalidInputError, match="45 rows are more than the capacity 8"):
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
