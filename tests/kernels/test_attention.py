"""Attention through the paged cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from hypothesis import given
from hypothesis import strategies as st
from support.kernel_inputs import Floats, rows, same_bits, walks


def attention64(query: Floats, key: Floats, value: Floats, scale: float, causal: bool, window: int) -> np.ndarray:
    """Attention in float64, one row and head after the other."""
    n, heads, _ = query.shape
    m, kv_heads, value_dim = value.shape
    result = np.zeros((n, heads, value_dim))
    for i in range(n):
        last = m - n + i + 1 if causal else m
        first = max(0, last - window) if window else 0
        for head in range(heads):
            group = head * kv_heads // heads
            scores = key[first:last, group].astype(np.float64) @ query[i, head].astype(np.float64) * scale
            weights = np.exp(scores - scores.max())
            result[i, head] = weights / weights.sum() @ value[first:last, group]
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


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[Floats, Floats, Floats], dict[str, Any]]:
    """Shapes around all the edges: tiles of pages, spans of positions, groups of heads, windows."""
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
    causal = draw(st.booleans())
    window = draw(st.sampled_from([0, 1, 2, 16, 130])) if causal else 0
    options = {
        "scale": float(key_dim) ** -0.5,
        "causal": causal,
        "window": window,
        "type": draw(st.sampled_from([core.EF_F32, core.EF_F16, core.EF_Q8_0])),
        "page_order": list(np.random.default_rng(seed).permutation(-(-m // 16))),
    }
    return arrays, options


@given(cases())
def test_scalar_is_close_to_float64(case: tuple[tuple[Floats, Floats, Floats], dict[str, Any]]) -> None:
    (query, key, value), options = case
    result = core.kernel_attention("scalar", query, key, value, **options)
    query, key, value = as_attended(query, key, value, options["type"])
    wanted = attention64(query, key, value, options["scale"], options["causal"], options["window"])
    assert np.allclose(result, wanted, rtol=1e-5, atol=2e-5)


@given(cases())
@walks("store_kv", "attention")
def test_same_bits_on_every_instruction_set(case: tuple[tuple[Floats, Floats, Floats], dict[str, Any]]) -> None:
    arrays, options = case
    wanted = core.kernel_attention("scalar", *arrays, **options)
    for isa in core.isa_names():
        assert same_bits(core.kernel_attention(isa, *arrays, **options), wanted), isa


@given(cases(), st.data())
def test_rows_do_not_depend_on_how_they_are_cut(
    case: tuple[tuple[Floats, Floats, Floats], dict[str, Any]], data: st.DataObject
) -> None:
    arrays, options = case
    n = len(arrays[0])
    cut = data.draw(st.integers(0, n))
    whole = core.kernel_attention(None, *arrays, **options)
    low, high = (core.kernel_attention(None, *arrays, rows=part, **options) for part in ((0, cut), (cut, n)))
    assert same_bits(np.concatenate([low[:cut], high[cut:]]), whole)
    assert not low[cut:].any() and not high[:cut].any()


@given(cases(), st.integers(1, 3))
@walks("attention_split", "attention_join")
def test_spans_computed_apart_give_the_same_bits(
    case: tuple[tuple[Floats, Floats, Floats], dict[str, Any]], spans: int
) -> None:
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
    wanted = attention64(*as_attended(query, key, value, kind), 0.125, True, 0)
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
    assert np.allclose(result, attention64(query, key, value, scale, True, 0), rtol=1e-4, atol=1e-4)


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
