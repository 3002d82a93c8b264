"""Kernels that sampling needs: the best of a row, weights of a draw and their sums, on every instruction set."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from hypothesis import given
from hypothesis import strategies as st
from support.kernel_inputs import EXTREMES, rows, same_bits, walks

LENGTHS = [*range(1, 20), 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2100]


def first_of_a_stable_sort(values: np.ndarray, count: int) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]


@given(
    st.lists(st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 2.0, 3.0]), min_size=1, max_size=300),
    st.integers(1, 310),
)
def test_top_is_the_first_of_a_stable_sort(values, count):
    for isa in core.isa_names():
        assert core.top(np.array(values, np.float32), count, isa).tolist() == first_of_a_stable_sort(values, count)


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal"])
@walks("top")
def test_top_of_long_rows(isa: str, order: str) -> None:
    for n in LENGTHS:
        values = rows(n, n) if order != "equal" else np.full(n, 2, np.float32)
        values = {"ascending": np.sort(values), "descending": -np.sort(-values)}.get(order, values)
        for count in (1, 2, 40, n):
            assert core.top(values, count, isa).tolist() == first_of_a_stable_sort(values, count), (n, count)


def test_top_of_a_row_with_nan_is_indices_of_the_row(isa: str) -> None:
    values = rows(1, 300)
    values[::3] = np.nan
    assert set(core.top(values, 20, isa).tolist()) <= set(range(300))


@walks("weigh")
def test_weights_and_sums_have_the_same_bits(other_isa: str) -> None:
    for n in LENGTHS:
        for values in (rows(n, n, scale=5), np.resize(EXTREMES, n)):
            for temperature, least in ((0.7, 0.0), (3.0, 0.01), (2e-38, 0.0)):
                found = core.weigh(values, values.max(), temperature, least, other_isa)
                expected = core.weigh(values, values.max(), temperature, least, "scalar")
                assert same_bits(found[0], expected[0])
                assert found[1].tolist() == expected[1].tolist()


@pytest.mark.parametrize("n", [1, 17, 1024, 5000])
def test_weights_are_close_to_float64_and_sums_are_theirs(n: int) -> None:
    values = rows(n, n, scale=4)
    weights, sums = core.weigh(values, values.max(), 0.8)
    expected = np.exp((values.astype(np.float64) - values.max()) / np.float32(0.8))
    np.testing.assert_allclose(weights, expected, rtol=4e-6)
    assert weights.max() == 1.0
    chunks = [weights[i : i + core.WEIGHT_CHUNK] for i in range(0, n, core.WEIGHT_CHUNK)]
    np.testing.assert_allclose(sums, [math.fsum(chunk) for chunk in chunks], rtol=1e-14)


@pytest.mark.parametrize("isa", core.isa_names())
@pytest.mark.parametrize("n", [1, 63, core.WEIGHT_CHUNK, 5 * core.WEIGHT_CHUNK + 7])
def test_likely_weights_are_those_of_all(isa: str, n: int) -> None:
    values = np.random.default_rng(n).normal(0, 2, n).astype(np.float32)
    for least, enough in ((0.0, 0.0), (0.0, 0.05), (0.1, 0.3), (0.0, 2.0)):
        weights, sums = core.weigh(values, values.max(), 0.8, least)
        expected = np.flatnonzero(weights >= np.float32(enough))
        found, places, likely = core.weigh_likely(values, values.max(), 0.8, least, enough, n, isa)
        assert places is not None and likely is not None
        assert (found == sums).all() and (places == expected).all() and same_bits(likely, weights[expected])
        if len(expected) > 1:
            too_few = core.weigh_likely(values, values.max(), 0.8, least, enough, len(expected) - 1, isa)
            assert too_few[1:] == (None, None) and (too_few[0] == sums).all()


def test_weights_below_the_least_are_nothing() -> None:
    values = rows(3, 3000)
    weights, _ = core.weigh(values, values.max(), 1.0)
    kept, sums = core.weigh(values, values.max(), 1.0, 0.1)
    assert same_bits(kept, np.where(weights < np.float32(0.1), np.float32(0), weights))
    np.testing.assert_allclose(sums.sum(), math.fsum(kept), rtol=1e-14)


@walks("log_sum_exp")
def test_log_sum_exp_is_close_to_float64_and_the_same_bits(isa: str) -> None:
    for n in LENGTHS:
        values = rows(n, n, scale=6)
        largest, log_sum = core.log_sum_exp(values, isa)
        assert largest == values.max()
        exact = np.log(np.exp(values.astype(np.float64) - largest).sum())
        np.testing.assert_allclose(log_sum, exact, rtol=1e-6, atol=1e-7)
        assert (largest, log_sum) == core.log_sum_exp(values, "scalar")


def test_the_likeliest_of_several_rows(isa: str) -> None:
    for n in (1, 17, 200):
        logits = rows(n, 3, n, scale=4)
        indices, log_probs = core.top_log_probs(logits, 8, isa)
        assert indices.tolist() == [first_of_a_stable_sort(row, 8) for row in logits]
        for row, chosen, found in zip(logits, indices, log_probs, strict=True):
            largest, log_sum = core.log_sum_exp(row, "scalar")
            assert same_bits(found, (row[chosen] - largest) - log_sum)


def test_threads_share_the_rows_and_change_nothing() -> None:
    pool = core.Pool(3)
    for count in (0, 1, 2, 40):
        logits = rows(count, count, 700, scale=4).reshape(count, 700)
        alone, shared = core.top_log_probs(logits, 5), core.top_log_probs(logits, 5, pool=pool)
        assert shared[0].shape == (count, 5)
        assert same_bits(alone[0], shared[0]) and same_bits(alone[1], shared[1])
    pool.close()


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_row_that_is_no_distribution_has_nan_for_log_probabilities(isa: str, bad: float) -> None:
    logits = rows(3, 2, 40)
    logits[1, 7] = bad
    _, log_probs = core.top_log_probs(logits, 4, isa)
    assert np.isnan(log_probs[1]).all() and np.isfinite(log_probs[0]).all()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@walks("is_finite")
def test_one_value_that_is_not_finite_is_found_wherever_it_is(isa: str, bad: float) -> None:
    for n in (1, 15, 16, 17, 40):
        values = np.resize(EXTREMES, n)
        assert core.is_finite(values, isa)
        for place in range(n):
            broken = values.copy()
            broken[place] = bad
            assert not core.is_finite(broken, isa)
    assert core.is_finite(np.zeros((2, 3), np.float32), isa)
    assert core.is_finite(np.zeros((0, 3), np.float32), isa)


@given(st.lists(st.floats(0, 1, width=32), max_size=40), st.floats(0, 20), st.floats(0, 5))
def test_reach_adds_in_order(values, target, start):
    totals = list(itertools.accumulate(values, initial=start))[1:]
    index = next((i for i, total in enumerate(totals) if total >= target), len(values))
    total = totals[min(index, len(values) - 1)] if values else start
    assert core.reach(np.array(values, np.float32), target, start) == (index, total)


def test_wrong_arguments_are_named_errors() -> None:
    values = rows(1, 8)
    for call in (
        lambda: core.top(values, 0),
        lambda: core.top(values[:0], 1),
        lambda: core.top(values.astype(np.float64), 1),
        lambda: core.weigh(values[::2], 1.0, 1.0),
        lambda: core.weigh(values, 1.0, 0.0),
        lambda: core.weigh_likely(values, 1.0, 0.0),
        lambda: core.weigh_likely(values[:0], 1.0, 1.0),
        lambda: core.weigh_likely(values, 1.0, 1.0, 0.0, 0.5, 0),
        lambda: core.weigh(values, 1.0, 1e-40),
        lambda: core.weigh(values, 1.0, math.nan),
        lambda: core.log_sum_exp(values[:0]),
        lambda: core.reach(values[None], 1.0),
    ):
        with pytest.raises(InvalidInputError):
            call()
