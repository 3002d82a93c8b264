"""Everything that a plan refuses: wrong batches, ops, buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError, NotEnoughMemoryError
from support.plan_models import Builder, Decoder


def _batch(**changes: Any) -> dict[str, Any]:
    """Arguments of `Plan.run` for three rows of a Decoder."""
    ids = np.arange(3, dtype=np.int32)
    batch = {
        "domains": [3, len(changes.get("output_rows", ids)), 1],
        "tokens": ids,
        "positions": ids,
        "output_rows": ids,
        "features": [],
        "segments": _segment(0, 3, 0, 3, 0, 0),
        "page_tables": [np.array([0, 1], np.int32)],
        **changes,
    }
    batch["indices"] = [batch.pop("tokens"), batch.pop("positions"), None, batch.pop("output_rows")]
    return batch


def _segment(*fields: int) -> dict[tuple[int, int], np.ndarray]:
    return {(0, 0): np.array(fields, np.int32).reshape(-1, 6)}


def _starts(*starts: int, widths: list[int] | None = None) -> list[Any]:
    return [(np.array(starts, np.int32), None if widths is None else np.array(widths, np.int32)), 3, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": np.array([0, 1, 50], np.int32)}, r"index input 0\[2\] is 50"),
        ({"tokens": np.array([0, -1, 5], np.int32)}, r"index input 0\[1\] is -1"),
        ({"tokens": np.arange(3)}, "must be int32"),
        ({"tokens": np.zeros(3, np.float32)}, "must be int32"),
        ({"tokens": np.zeros(3, ">i4")}, "must be int32"),
        ({"tokens": np.arange(6, dtype=np.int32)[::2]}, "C-contiguous"),
        ({"tokens": [0, 1, 2]}, "array is needed"),
        ({"positions": None}, "reads index input 1, but there is none"),
        ({"positions": np.zeros(2, np.int32)}, "2 elements for 3 rows"),
        ({"domains": [0, 3, 1]}, "at least one row"),
        ({"domains": [3, 3]}, "2 domains of rows for a plan of 3"),
        ({"domains": [3, 2, 1]}, "3 elements for 2 rows"),
        ({"domains": [65, 3, 1]}, "65 rows are more than the capacity 64 of domain 0"),
        ({"domains": [2**31, 3, 1]}, "rows of domain 0 is 2147483648"),
        ({"domains": _starts()}, "one more element"),
        ({"domains": _starts(1, 3)}, "the first segment starts at row 1"),
        ({"domains": _starts(0, 2, 1, 3)}, "segment 1 has rows 2 to 1"),
        ({"domains": _starts(0, 3, widths=[2])}, "rows 0 to 3 in rows of 2"),
        ({"domains": _starts(0, 3, widths=[0])}, "in rows of 0"),
        ({"domains": _starts(0, 3, widths=[3, 1])}, "2 widths of 1 segments"),
        ({"domains": [(np.array([0, 3], np.int32),), 3, 1]}, "not 1 things"),
        ({"domains": _starts(0, 1, 3)}, "1 segments of cache 0 in a domain of 2"),
        ({"output_rows": np.array([3], np.int32)}, r"index input 3\[0\] is 3; it must be -1 to 2"),
        ({"output_rows": np.array([-2], np.int32)}, r"index input 3\[0\] is -2"),
        ({"output_rows": np.zeros(100, np.int32)}, "100 rows are more than the capacity 64 of domain 1"),
        ({"segments": {}}, "segments of cache 0 in domain 0 are needed"),
        ({"segments": {}, "page_tables": []}, "page tables are needed"),
        ({"segments": {(1, 0): np.zeros((1, 6), np.int32)}}, "cache is 1"),
        ({"segments": {(0, 3): np.zeros((1, 6), np.int32)}}, "domain is 3"),
        ({"segments": {(0, 0): np.zeros((1, 5), np.int32)}}, "6 columns"),
        ({"segments": _segment(0, 2, 0, 2, 0, 0)}, "cover 2 of 3 rows"),
        ({"segments": _segment(1, 3, 0, 3, 0, 0)}, "from 1, not from 0"),
        ({"segments": _segment(0, 4, 0, 4, 0, 0)}, "cover 4 of 3 rows"),
        ({"segments": _segment(0, 3, 0, 3, 0, 0, 3, 0, 0, 0, 0, 0)}, "has 0 rows"),
        ({"segments": _segment(0, 3, -1, 3, 0, 0)}, "negative"),
        ({"segments": _segment(0, 3, 0, 3, -1, 0)}, "negative"),
        ({"segments": _segment(0, 3, 30, 33, 0, 0)}, "needs 3 pages"),
        ({"segments": _segment(0, 3, 2**30 - 3, 3, 0, 0)}, "pages from 0"),
        ({"segments": _segment(0, 3, 2**30 - 2, 3, 0, 0)}, "1073741825 positions; there can be 1073741824"),
        ({"segments": _segment(0, 3, 2**31 - 1, 3, 0, 0)}, "2147483650 positions; there can be 1073741824"),
        ({"segments": _segment(0, 3, 0, 3, 2, 0)}, "needs 1 pages from 2"),
        ({"page_tables": [np.array([16], np.int32)]}, "page 16"),
        ({"page_tables": [np.array([-1], np.int32)]}, "page -1"),
        ({"page_tables": []}, "cache is 0"),
        ({"segments": _segment(0, 3, 0, 3, 0, 1)}, "prefix of 1, where 0 is the most"),
    ],
)
def test_wrong_batches_are_refused(pool: core.Pool, changes: dict[str, Any], message: str) -> None:
    decoder = Decoder()
    with pytest.raises(InvalidInputError, match=message):
        decoder.plan.run(pool, **_batch(**changes))
    decoder.plan.run(pool, **_batch())


def _linear(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {
        "kind": "linear",
        "input": ((make.floats(32), 0),),
        "output": (make.floats(16), 0),
        "weight": make.weight(core.EF_F32, 16, 32),
        "width": 16,
    }


def _quantized_linear(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {**_linear(plan, make), "input": ((make.blocks(32), 0),), "weight": make.weight(core.EF_Q8_0, 16, 32)}


def _row_function(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {
        "kind": "row_function",
        "input": ((make.floats(32), 0),),
        "output": (make.floats(32), 0),
        "groups": 1,
        "width": 32,
        "function": core.row_function_pointer(None, "rms_norm"),
    }


def _attention(plan: core.Plan, make: Builder) -> dict[str, Any]:
    plan.add_cache(core.Cache(4, 2, 2, 8, 8, core.EF_F32))
    return {
        "kind": "attention",
        "input": ((make.floats(32), 0),),
        "output": (make.floats(32), 0),
        "layer": 1,
        "num_heads": 4,
        "causal": 1,
        "width": 32,
    }


def _biased(plan: core.Plan, make: Builder) -> dict[str, Any]:
    """With a bias of five distances; the second vector is one sink too short."""
    bias, _ = plan.add_vector(np.zeros(4 * (5 + 2 * 15), np.float32)), plan.add_vector(np.zeros(3, np.float32))
    return {**_attention(plan, make), "vector": (bias,), "bias_columns": 5, "bias_behind": 4}


HEADS_OF_8 = {"num_heads": 4, "head_dim": 8, "half": 4}


def _rope(plan: core.Plan, make: Builder) -> dict[str, Any]:
    x = (make.floats(32), 0)
    return {"kind": "rope", "input": (x, (make.floats(8), 0)), "output": x, "width": 32, **HEADS_OF_8}


def _gate(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {
        "kind": "gate",
        "input": ((make.floats(32), 0), (make.floats(32), 0)),
        "output": (make.floats(32), 0),
        "width": 32,
    }


def _limited_gate(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {**_gate(plan, make), "limit": 7.0, "offset": 1.0}


def _weight_rows(plan: core.Plan, make: Builder) -> dict[str, Any]:
    x, weights = (make.floats(32), 0), (make.floats(1), 0)
    return {"kind": "weight_rows", "input": (x, weights), "output": (make.floats(32), 0), "width": 32}


def _embed(plan: core.Plan, make: Builder) -> dict[str, Any]:
    return {
        "kind": "embed",
        "output": (make.floats(32), 0),
        "weight": make.weight(core.EF_F32, 9, 32),
        "width": 32,
        "scale": 1.0,
    }


def _grouped(plan: core.Plan, make: Builder) -> dict[str, Any]:
    """Two parts of sixteen columns, each with a matrix of sixteen rows."""
    return {
        "kind": "linear",
        "input": ((make.floats(32), 0),),
        "output": (make.floats(32), 0),
        "weight": make.weight(core.EF_F32, 32, 16),
        "width": 32,
        "groups": 2,
    }


def _related(plan: core.Plan, make: Builder) -> dict[str, Any]:
    """What rows add to scores of four heads by three buckets of five distances; the second vector has other numbers."""
    op = {**_attention(plan, make), "causal": 0, "relative_buckets": 3, "bias_columns": 5, "bias_behind": 2}
    op["input"] = (*op["input"], (make.floats(2 * 4 * 3), 0))
    numbers = [
        plan.add_vector(np.array(buckets, np.float32)) for buckets in ([0, 0, 1, 2, 2], [0, 1, 3, 0, 0], [0.5] * 5)
    ]
    return {**op, "vector": (numbers[0],)}


Maker = Callable[[core.Plan, Builder], dict[str, Any]]


RIGHT = [
    _linear,
    _quantized_linear,
    _row_function,
    _attention,
    _biased,
    _grouped,
    _related,
    _rope,
    _gate,
    _limited_gate,
    _weight_rows,
    _embed,
]


@pytest.mark.parametrize("maker", RIGHT)
def test_right_ops_are_accepted(maker: Maker) -> None:
    plan = core.Plan()
    make = Builder(plan)
    plan.add_op(**maker(plan, make))
    make.place(4)
    plan.finish()


@pytest.mark.parametrize(
    ("maker", "changes", "message"),
    [
        (_linear, {"domain": 3}, "domain 3 of 3"),
        (_linear, {"domain": 1}, "another domain"),
        (_linear, {"weight": 1}, "matrix 1 of 1"),
        (_linear, {"weight": -1}, "matrix -1"),
        (_linear, {"width": 17}, "width 17"),
        (_linear, {"width": 0}, "width is 0"),
        (_linear, {"output": (9, 0)}, "buffer 9 of"),
        (_linear, {"output": None}, "there is no output"),
        (_linear, {"output": (1, 16)}, "past the 16"),
        (_linear, {"output": (0, 8)}, "not a multiple of 16"),
        (_linear, {"input": ((1, 0),)}, "past the 16"),
        (_linear, {"input": ((0, 1),)}, "past the 32"),
        (_linear, {"input": ((0, -1),)}, "column is -1"),
        (_linear, {"vector": (0,)}, "vector 0 of 0"),
        (_linear, {"activation": 1000}, "activation 1000"),
        (_linear, {"gated": 2}, "gated 2"),
        (_linear, {"gated": 1}, "width 16 of a matrix of 16 rows"),
        (_linear, {"quantized": (1, 0), "output": None}, "in blocks of 32"),
        (_linear, {"vector": (-1,) * 3}, "at most"),
        (_linear, {"gate": 1}, "linear has no field 'gate'; it has activation, gated"),
        (_linear, {"kind": "lineal"}, "no op 'lineal'; there are features, embed, linear"),
        (_linear, {"gated": 2**31}, "gated is 2147483648"),
        (_quantized_linear, {"input": ((2, 0), (2, 0))}, "does not hold floats"),
        (_quantized_linear, {"input": ((2, 32),)}, "in blocks"),
        (_row_function, {"function": 0}, "row function is missing"),
        (_row_function, {"groups": 0}, "0 groups"),
        (_row_function, {"groups": 2}, "past the 32"),
        (_row_function, {"groups": 2, "width": 16, "quantized": (1, 0), "output": None}, "groups cannot"),
        (_row_function, {"output": None}, "there is no output"),
        (_attention, {"cache": 1}, "cache 1 of 1"),
        (_attention, {"layer": 2}, "layer 2 of 2"),
        (_attention, {"num_heads": 3}, "3 heads over 2"),
        (_attention, {"num_heads": 8}, "past the 32"),
        (_attention, {"window": -1}, "window -1"),
        (_attention, {"window": 2**31}, "window is 2147483648"),
        (_attention, {"causal": 2}, "causal 2"),
        (_attention, {"prefix": 2}, "has a prefix"),
        (_attention, {"prefix": 1, "causal": 0}, "only causal attention has a prefix"),
        (_attention, {"soft_cap": -1.0}, "soft_cap -1 is not"),
        (_attention, {"soft_cap": float("nan")}, "soft_cap nan is not"),
        (_attention, {"soft_cap": 1e-30}, "soft_cap 1e-30 is not"),
        (_grouped, {"groups": -1}, "-1 groups"),
        (_grouped, {"groups": 4}, "width 32 is not whole tiles for each of 4 groups"),
        (_related, {"relative_buckets": -1}, "-1 buckets"),
        (_related, {"relative_buckets": 5}, "past the 32"),
        (_related, {"relative_buckets": 2}, "2 is not the number of one of 2 buckets"),
        (_related, {"vector": (1,)}, "3 is not the number of one of 3 buckets"),
        (_related, {"vector": (2,)}, "0.5 is not the number of one of 3 buckets"),
        (_related, {"vector": (-1,)}, "vector 0 is missing"),
        (_related, {"causal": 1}, "neither a dense bias nor a causal mask"),
        (_related, {"bias_rows": 1}, "neither a dense bias nor a causal mask"),
        (_related, {"bias_behind": 5}, "5 distances, 5 behind"),
        (_related, {"bias_columns": 6}, "vector 0 has 5 elements, not 6"),
        (_attention, {"bias_columns": 1}, "the bias is missing"),
        (_attention, {"vector": (3,)}, "a bias of 0 rows and 0 columns"),
        (_attention, {"vector": (3,), "bias_columns": 5}, "vector 3 of 0"),
        (_biased, {"bias_columns": 6}, "vector 0 has 140 elements, not 144"),
        (_biased, {"bias_behind": 5}, "5 behind"),
        (_biased, {"bias_behind": -1}, "-1 behind"),
        (_biased, {"bias_columns": 0}, "0 columns"),
        (_biased, {"bias_columns": 2**24 + 1}, "16777217 columns"),
        (_biased, {"bias_rows": -1}, "-1 rows"),
        (_biased, {"bias_rows": 3, "bias_behind": 0}, "vector 0 has 140 elements, not 192"),
        (_biased, {"bias_rows": 2, "bias_behind": 1}, "1 behind"),
        (_biased, {"bias_rows": 2**16, "bias_columns": 2**24, "bias_behind": 0}, "elements, not 4398046511104"),
        (_biased, {"vector": (0, 2)}, "vector 2 of 2"),
        (_biased, {"vector": (0, 1), "num_heads": 4}, "vector 1 has 3 elements, not 4"),
        (_attention, {"quantized": (1, 0)}, "not whole blocks"),
        (_attention, {"domain": 2}, "has rows of another domain"),
        (_attention, {"domain": 99}, "domain is 99"),
        (_rope, {"output": (1, 0)}, "same operand"),
        (_rope, {"half": 5}, "half 5"),
        (_rope, {"num_heads": 5}, "past the 32"),
        (_rope, {"pairing": 2}, "pairing 2"),
        (_gate, {"input": ((0, 0),)}, "input 1 is missing"),
        (_gate, {"activation": -1}, "activation -1"),
        (_gate, {"offset": 1.0}, "offset 1 with the limit 0"),
        (_limited_gate, {"limit": -7.0}, "limit -7 is not from 0 to 1e6"),
        (_limited_gate, {"limit": float("nan")}, "limit nan is not"),
        (_limited_gate, {"offset": 1e9}, "offset 1e[+]09 with"),
        (_weight_rows, {"input": ((0, 0),)}, "weights is missing"),
        (_weight_rows, {"input": ((0, 0), (1, 16))}, "past the 16"),
        (_weight_rows, {"width": 33}, "past the 32"),
        (_embed, {"source": 99}, "source 99"),
        (_embed, {"width": 16}, "width 16 of a matrix of 32"),
    ],
)
def test_wrong_ops_are_refused(maker: Maker, changes: dict[str, Any], message: str) -> None:
    plan = core.Plan()
    make = Builder(plan)
    with pytest.raises(InvalidInputError, match=message):
        plan.add_op(**{**maker(plan, make), **changes})
        make.place(4)
        plan.finish()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": [32]}, "multiples of 64"),
        ({"offsets": [-64]}, "multiples of 64"),
        ({"strides": [0]}, "multiples of 64"),
        ({"strides": [100]}, "multiples of 64"),
        ({"strides": [2**62]}, "past the arena"),
        ({"domains": [3]}, "domain of buffer 0"),
        ({"domains": [0, 0]}, "different lengths"),
        ({"arena_bytes": 255}, "past the arena of 255"),
        ({"arena_bytes": -1}, "arena_bytes is -1"),
        ({"capacities": ()}, "1 to 24 domains"),
        ({"capacities": (-1, 0, 0)}, "capacity is -1"),
    ],
)
def test_wrong_buffers_are_refused(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {
        "offsets": [0],
        "strides": [64],
        "domains": [0],
        "arena_bytes": 256,
        "capacities": (4, 4, 4),
        **changes,
    }
    for name, dtype in (("offsets", np.int64), ("strides", np.int64), ("domains", np.int32)):
        fields[name] = np.array(fields[name], dtype)
    with pytest.raises(InvalidInputError, match=message):
        core.Plan().set_buffers(**fields)


def test_reading_past_a_buffer_is_refused(pool: core.Pool) -> None:
    decoder = Decoder()
    for buffer, column, width, count in (
        (99, 0, 1, 1),
        (-1, 0, 1, 1),
        (0, 0, 65, 1),
        (0, 64, 1, 1),
        (0, -1, 1, 1),
        (0, 0, 1, 65),
    ):
        with pytest.raises(InvalidInputError):
            decoder.plan.read(buffer, column, width, count)
    fixed = np.zeros((1, 1), np.float32)
    fixed.flags.writeable = False
    for out in (np.zeros((2, 1), np.float32), np.zeros((1, 2), np.float32), fixed, np.zeros((1, 1)), [[0.0]]):
        with pytest.raises(InvalidInputError, match="out: "):
            decoder.plan.read_checked(0, 0, 1, 1, out)
    with pytest.raises(InvalidInputError, match="at most 4 caches"):
        for _ in range(5):
            decoder.plan.add_cache(core.Cache(1, 1, 1, 1, 1, core.EF_F32))


def test_an_arena_that_is_refused_leaves_the_plan_usable(pool: core.Pool) -> None:
    decoder = Decoder()
    wanted = decoder.run(pool, [([1, 2], 0, [0])])
    with pytest.raises(NotEnoughMemoryError, match=r"the arena of a plan: \d+ bytes are needed"):
        decoder.plan.set_buffers(
            np.zeros(1, np.int64), np.full(1, 64, np.int64), np.zeros(1, np.int32), 2**52, (1, 1, 1)
        )
    with pytest.raises(InvalidInputError):
        decoder.plan.run(pool, **_batch())
    decoder.builder.place(64)
    assert np.array_equal(decoder.run(pool, [([1, 2], 0, [0])]), wanted)
