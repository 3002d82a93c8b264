"""Attention through the paged cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from hypothesis import given
from hypothesis import strategies as st
from support.instruction_sets import other_isas
from support.kernel_inputs import Floats, rows, same_bits, walks


def sees(own: int, length: int, *, causal: bool, prefix: int, window: int) -> np.ndarray:
    """Whether the row at position `own` sees each of `length` positions."""
    at = np.arange(length)
    visible = (at <= own) | (not causal) | ((at < prefix) & (own < prefix))
    return visible & ((window == 0) | (abs(at - own) < window))


def added(bias: Floats, behind: int, head: int, own: int, length: int) -> np.ndarray:
    """What a bias adds to the scores of `length` positions, as seen from position `own`."""
    if bias.ndim == 3:
        return bias[head, own, :length]
    return bias[head, np.clip(np.arange(length) - own + behind, 0, bias.shape[1] - 1)]


def attention64(
    query: Floats,
    key: Floats,
    value: Floats,
    *,
    scale: float,
    causal: bool = True,
    prefix: int = 0,
    window: int = 0,
    soft_cap: float = 0.0,
    bias: Floats | None = None,
    behind: int = 0,
    sinks: Floats | None = None,
    relative: Floats | None = None,
    buckets: Floats | None = None,
) -> np.ndarray:
    """Attention in float64, one row and head after the other."""
    n, heads, _ = query.shape
    m, kv_heads, value_dim = value.shape
    result = np.zeros((n, heads, value_dim))
    for i in range(n):
        own = m - n + i
        seen = sees(own, m, causal=causal, prefix=prefix, window=window)
        for head in range(heads):
            group = head * kv_heads // heads
            scores = key[:, group].astype(np.float64) @ query[i, head].astype(np.float64) * scale
            if soft_cap:
                scores = soft_cap * np.tanh(scores / soft_cap)
            if bias is not None:
                scores = scores + added(bias, behind, head, own, m)
            if relative is not None and buckets is not None:
                bucket = buckets[np.clip(np.arange(m) - own + behind, 0, len(buckets) - 1)].astype(int)
                scores = scores + relative[own, 0, head, bucket] + relative[np.arange(m), 1, head, bucket]
            scores = np.append(scores[seen], sinks[head] if sinks is not None else -np.inf)
            weights = np.exp(scores - scores.max())
            result[i, head] = (weights / weights.sum())[:-1] @ value[seen, group]
    return result


def in_eight_bits(values: Floats, scale_type: type) -> Floats:
    """What is left of rows [..., n] in blocks of 32 whole numbers up to 127 with a scale of that type each."""
    n = values.shape[-1]
    blocks = np.zeros((*values.shape[:-1], -(-n // 32), 32), np.float32)
    blocks.reshape(*values.shape[:-1], -1)[..., :n] = values
    largest = np.abs(blocks).max(-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    scale = (largest / np.float32(127)).astype(scale_type).astype(np.float32)
    return (np.rint(blocks * inverse) * scale).reshape(*values.shape[:-1], -1)[..., :n]


def as_attended(query: Floats, key: Floats, value: Floats, kind: int) -> tuple[Floats, Floats, Floats]:
    """The numbers that attention over a cache of this type works with."""
    if kind == core.EF_F16:
        return query, key.astype(np.float16).astype(np.float32), value.astype(np.float16).astype(np.float32)
    if kind == core.EF_Q8_0:
        return in_eight_bits(query, np.float32), in_eight_bits(key, np.float16), in_eight_bits(value, np.float16)
    return query, key, value


Case = tuple[tuple[Floats, Floats, Floats], dict[str, Any]]


@st.composite
def scores(draw: st.DrawFn, heads: int, m: int, seed: int) -> dict[str, Any]:
    """What may be done to the scores: a soft cap, a bias of either kind, sinks, or none of them."""
    options: dict[str, Any] = {"soft_cap": draw(st.sampled_from([0.0, 0.5, 30.0]))}
    kind = draw(st.sampled_from(["none", "distance", "dense"]))
    if kind == "distance":
        reach = st.sampled_from([0, 1, 3, 15, 16, 40, 128, 400])
        options["behind"], ahead = draw(reach), draw(reach)
        options["bias"] = rows(seed + 3, heads, options["behind"] + 1 + ahead, scale=2)
    elif kind == "dense":
        options["bias"] = rows(seed + 3, heads, m + draw(st.integers(0, 3)), m + draw(st.integers(0, 17)), scale=2)
    if draw(st.booleans()):
        options["sinks"] = rows(seed + 4, heads, scale=3)
    return options


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Shapes around all the edges: tiles of pages, spans of positions, groups of heads, masks, changes of scores."""
    m = draw(st.integers(1, 40) | st.sampled_from([127, 128, 129, 255, 257, 300]))
    n = draw(st.integers(1, min(m, 20)))
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    key_dim, value_dim = (draw(st.integers(1, 40) | st.sampled_from([63, 64, 80, 100])) for _ in range(2))
    seed = draw(st.integers(0, 1000))
    arrays = (
        rows(seed, n, kv_heads * group, key_dim),
        rows(seed + 1, m, kv_heads, key_dim),
        rows(seed + 2, m, kv_heads, value_dim),
    )
    options = {
        "scale": float(key_dim) ** -0.5,
        "causal": draw(st.booleans()),
        "prefix": draw(st.just(0) | st.integers(0, m)),
        "window": draw(st.sampled_from([0, 0, 1, 2, 16, 130, 2**31 - 1])),
        "type": draw(st.sampled_from([core.EF_F32, core.EF_F16, core.EF_Q8_0])),
        "page_order": list(np.random.default_rng(seed).permutation(-(-m // 16))),
    }
    changes = draw(st.just({}) | scores(kv_heads * group, m, seed))
    return arrays, options | changes


@st.composite
def relative_cases(draw: st.DrawFn) -> Case:
    """Rows that see one another and add to the scores, by buckets of distances up to less or more than there are."""
    m = draw(st.integers(1, 40) | st.sampled_from([127, 129, 257]))
    kv_heads, group, dim = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 8, 20, 64]))
    seed, count = draw(st.integers(0, 1000)), draw(st.sampled_from([1, 3, 16, 40]))
    behind, ahead = (draw(st.sampled_from([0, 1, 7, 130, 300])) for _ in range(2))
    heads = kv_heads * group
    arrays = (rows(seed, m, heads, dim), rows(seed + 1, m, kv_heads, dim), rows(seed + 2, m, kv_heads, dim))
    options = {
        "scale": float(dim) ** -0.5,
        "causal": False,
        "window": draw(st.sampled_from([0, 0, 2, 130])),
        "soft_cap": draw(st.sampled_from([0.0, 3.0])),
        "type": draw(st.sampled_from([core.EF_F32, core.EF_F16, core.EF_Q8_0])),
        "relative": rows(seed + 3, m, 2, heads, count, scale=2),
        "buckets": np.random.default_rng(seed).integers(0, count, behind + 1 + ahead).astype(np.float32),
        "behind": behind,
        "page_order": list(np.random.default_rng(seed).permutation(-(-m // 16))),
    }
    return arrays, options


@given(cases() | relative_cases())
def test_scalar_is_close_to_float64(case: Case) -> None:
    (query, key, value), options = case
    result = core.kernel_attention("scalar", query, key, value, **options)
    del options["page_order"]
    wanted = attention64(*as_attended(query, key, value, options.pop("type")), **options)
    assert np.allclose(result, wanted, rtol=1e-5, atol=2e-5)


@given(cases() | relative_cases())
@walks("store_kv", "attention")
def test_same_bits_on_every_instruction_set(case: Case) -> None:
    arrays, options = case
    wanted = core.kernel_attention("scalar", *arrays, **options)
    for isa in other_isas():
        assert same_bits(core.kernel_attention(isa, *arrays, **options), wanted), isa


@given(cases() | relative_cases(), st.data())
def test_rows_do_not_depend_on_how_they_are_cut(case: Case, data: st.DataObject) -> None:
    arrays, options = case
    n = len(arrays[0])
    cut = data.draw(st.integers(0, n))
    whole = core.kernel_attention(None, *arrays, **options)
    low, high = (core.kernel_attention(None, *arrays, rows=part, **options) for part in ((0, cut), (cut, n)))
    assert same_bits(np.concatenate([low[:cut], high[cut:]]), whole)
    assert not low[cut:].any() and not high[:cut].any()


@given(cases() | relative_cases(), st.integers(1, 3))
@walks("attention_split", "attention_join")
def test_spans_computed_apart_give_the_same_bits(case: Case, spans: int) -> None:
    arrays, options = case
    wanted = core.kernel_attention("scalar", *arrays, **options)
    for isa in core.isa_names():
        assert same_bits(core.kernel_attention(isa, *arrays, spans=spans, **options), wanted), isa


@pytest.mark.parametrize("kind", [core.EF_F16, core.EF_Q8_0])
def test_extreme_keys_and_values(isa: str, kind: int) -> None:
    """Zeros, a lone large number in a block, and numbers whose scale is hardly a half."""
    query, key, value = rows(0, 3, 2, 64), rows(1, 140, 1, 64), rows(2, 140, 1, 64)
    for array in (query, key, value):
        array[1], array[2, :, 40:] = 0, 1e-7
    key[5, 0, 3], value[7, 0, 60], value[9] = 300, -6e4, 1e-9
    result = core.kernel_attention(isa, query, key, value, scale=0.125, type=kind)
    assert same_bits(result, core.kernel_attention("scalar", query, key, value, scale=0.125, type=kind))
    wanted = attention64(*as_attended(query, key, value, kind), scale=0.125)
    assert np.allclose(result, wanted, rtol=1e-5, atol=1e-4)


def test_the_bytes_of_a_position_depend_on_nothing_else(isa: str) -> None:
    """Overwriting later positions leaves the rows before them as they were, whatever the cache's type."""
    query, key, value = rows(0, 150, 1, 40), rows(1, 150, 1, 40), rows(2, 150, 1, 40)
    for kind in (core.EF_F32, core.EF_F16, core.EF_Q8_0):
        before = core.kernel_attention(isa, query, key, value, scale=0.2, type=kind)
        other_key, other_value = key.copy(), value.copy()
        other_key[77:] *= 50
        other_value[77:] *= 50
        after = core.kernel_attention(isa, query, other_key, other_value, scale=0.2, type=kind)
        assert same_bits(before[:77], after[:77])
        assert not same_bits(before[77:], after[77:])


@pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0])
def test_extreme_scores(isa: str, scale: float) -> None:
    query, key, value = rows(0, 4, 2, 16, scale=5), rows(1, 150, 2, 16, scale=5), rows(2, 150, 2, 24)
    result = core.kernel_attention(isa, query, key, value, scale=scale)
    assert np.isfinite(result).all()
    assert same_bits(result, core.kernel_attention("scalar", query, key, value, scale=scale))
    assert np.allclose(result, attention64(query, key, value, scale=scale), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cap", [1e-6, 1.0, 1e6])
def test_a_soft_cap_bounds_extreme_scores(isa: str, cap: float) -> None:
    """Scores of a thousand and more: within the cap they differ by at most twice the cap."""
    query, key, value = rows(0, 4, 2, 16, scale=50), rows(1, 150, 2, 16, scale=50), rows(2, 150, 2, 24)
    result = core.kernel_attention(isa, query, key, value, scale=1.0, soft_cap=cap)
    assert same_bits(result, core.kernel_attention("scalar", query, key, value, scale=1.0, soft_cap=cap))
    if cap == 1e6:  # far above all scores, so it hardly changes them
        assert np.allclose(result, attention64(query, key, value, scale=1.0), rtol=1e-2, atol=1e-2)
    else:
        assert np.allclose(result, attention64(query, key, value, scale=1.0, soft_cap=cap), rtol=1e-5, atol=1e-5)


def test_a_bias_of_zeros_a_wide_window_and_a_prefix_that_all_see_change_no_bit(isa: str) -> None:
    query, key, value = rows(0, 30, 4, 24), rows(1, 200, 2, 24), rows(2, 200, 2, 24)
    plain = core.kernel_attention(isa, query, key, value, scale=0.2)
    zeros = np.zeros((4, 9), np.float32)
    for same in ({"bias": zeros, "behind": 4}, {"window": 200}, {"prefix": 171}, {"soft_cap": 0.0}):
        assert same_bits(core.kernel_attention(isa, query, key, value, scale=0.2, **same), plain), same


def test_a_bias_by_distance_equals_the_dense_table_of_the_same_values(isa: str) -> None:
    """Also beyond its ends, and for positions far from page borders."""
    query, key, value = rows(0, 133, 3, 16), rows(1, 133, 3, 16), rows(2, 133, 3, 16)
    by_distance = rows(3, 3, 50)
    distance = np.clip(np.arange(133)[None, :] - np.arange(133)[:, None], -20, 29)
    dense = np.ascontiguousarray(by_distance[:, distance + 20])
    for causal in (True, False):
        results = [
            core.kernel_attention(isa, query, key, value, scale=0.2, causal=causal, **bias)
            for bias in ({"bias": by_distance, "behind": 20}, {"bias": dense})
        ]
        assert same_bits(*results)


def test_a_sink_takes_weight_and_gives_nothing(isa: str) -> None:
    """Against a key of the sink's score whose value is 0; a sink far below all scores changes no bit."""
    query, key, value = np.ones((1, 1, 1), np.float32), np.zeros((20, 1, 1), np.float32), rows(2, 20, 1, 5)
    plain = core.kernel_attention(isa, query, key, value, scale=1.0)
    with_sink = core.kernel_attention(isa, query, key, value, scale=1.0, sinks=np.zeros(1, np.float32))
    assert np.allclose(with_sink, plain * (20 / 21), rtol=1e-6)
    far_below = core.kernel_attention(isa, query, key, value, scale=1.0, sinks=np.full(1, -200, np.float32))
    assert same_bits(far_below, plain)
    far_above = core.kernel_attention(isa, query, key, value, scale=1.0, sinks=np.full(1, 200, np.float32))
    assert not far_above.any()


@pytest.mark.parametrize("causal", [True, False])
def test_what_lies_outside_of_the_window_is_not_read(isa: str, causal: bool) -> None:
    query, key, value = rows(0, 3, 2, 16), rows(1, 300, 2, 16), rows(2, 300, 2, 16)
    wanted = core.kernel_attention(isa, query, key, value, scale=0.2, causal=causal, window=40)
    key[:258], value[:258] = np.nan, np.nan  # rows 297 to 299 see 258 and on
    result = core.kernel_attention(isa, query, key, value, scale=0.2, causal=causal, window=40)
    assert np.isfinite(result).all() and same_bits(result, wanted)
    for spans in (1, 2):
        assert same_bits(
            core.kernel_attention(isa, query, key, value, scale=0.2, causal=causal, window=40, spans=spans), wanted
        )


@pytest.mark.parametrize("dim", [8, 112])
def test_a_long_prefix_in_one_go_equals_row_by_row(isa: str, dim: int) -> None:
    """More queries than one pass over the keys takes; with wide heads a pass goes block by block of positions."""
    query, key, value = rows(0, 140, 2, dim), rows(1, 140, 1, dim), rows(2, 140, 1, dim)
    whole = core.kernel_attention(isa, query, key, value, scale=0.3)
    for i in (0, 15, 16, 127, 128, 139):
        row = core.kernel_attention(isa, query[i : i + 1], key[: i + 1], value[: i + 1], scale=0.3)
        assert same_bits(row[0], whole[i])


def test_wrong_shapes_are_refused() -> None:
    query, key, value = rows(0, 2, 4, 8), rows(1, 5, 2, 8), rows(2, 5, 2, 8)
    wrong = [
        (query[0], key, value),
        (query, key[:4], value),
        (query, key[:, :, :7], value),
        (query[:, :3].copy(), key, value),
        (rows(0, 6, 4, 8), key, value),
    ]
    for arrays in wrong:
        with pytest.raises(InvalidInputError):
            core.kernel_attention("scalar", *arrays, scale=1.0)
    with pytest.raises(InvalidInputError, match="page_order"):
        core.kernel_attention("scalar", query, key, value, scale=1.0, page_order=[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"causal": True},
        {"relative": rows(0, 5, 4, 3)},
        {"relative": rows(0, 5, 2, 3, 3)},
        {"buckets": np.float32([0, 3])},
        {"buckets": np.float32([0, 0.5])},
        {"buckets": np.float32([0, -1])},
        {"behind": 2},
    ],
)
def test_wrong_relative_scores_are_refused(wrong: dict[str, Any]) -> None:
    arrays = rows(0, 5, 4, 8), rows(1, 5, 2, 8), rows(2, 5, 2, 8)
    right = {"relative": rows(0, 5, 2, 4, 3), "buckets": np.float32([0, 2]), "behind": 1, "causal": False}
    core.kernel_attention("scalar", *arrays, scale=1.0, **right)
    with pytest.raises(InvalidInputError):
        core.kernel_attention("scalar", *arrays, scale=1.0, **(right | wrong))


def test_wrong_changes_of_scores_are_refused() -> None:
    query, key, value = rows(0, 2, 4, 8), rows(1, 5, 2, 8), rows(2, 5, 2, 8)
    wrong: list[dict[str, Any]] = [
        {"window": -1},
        {"prefix": -1},
        {"prefix": 6},
        {"soft_cap": -1.0},
        {"soft_cap": float("nan")},
        {"soft_cap": float("inf")},
        {"bias": rows(0, 3, 7)},
        {"bias": rows(0, 4, 7), "behind": 7},
        {"bias": rows(0, 4, 7), "behind": -1},
        {"bias": rows(0, 4, 4, 5)},
        {"bias": rows(0, 4, 5, 4)},
        {"bias": rows(0, 7)},
        {"bias": np.zeros((4, 7))},
        {"sinks": rows(0, 3)},
        {"sinks": rows(0, 4, 1)},
        {"relative": rows(0, 5, 2, 4, 3), "buckets": np.zeros(3, np.float32), "causal": False},  # two of five rows
    ]
    for options in wrong:
        with pytest.raises(InvalidInputError):
            core.kernel_attention("scalar", query, key, value, scale=1.0, **options)
