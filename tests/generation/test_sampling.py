"""Sampling: filters and penalties against their definitions in float64, and draws that never change."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import NumericError
from edgeformer.generation.options import GenerationOptions
from edgeformer.generation.sampling import Sampler, best_token, log_probs_of, uniform
from hypothesis import given, settings
from hypothesis import strategies as st


def splitmix64(seed: int):
    """The generator as it is published, one number after the other."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        mixed = state
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        yield mixed ^ (mixed >> 31)


def kept_tokens(logits: np.ndarray, options: GenerationOptions) -> set[int]:
    """Which tokens the options leave, straight from the definitions, in float64."""
    scaled = logits.astype(np.float64) / options.temperature
    order = sorted(range(len(logits)), key=lambda i: (-scaled[i], i))
    if options.top_k:
        order = order[: options.top_k]
    weights = np.exp(scaled[order] - scaled[order[0]])
    weights /= weights.sum()
    count = 1
    while count < len(weights) and weights[:count].sum() < options.top_p:
        count += 1
    order, weights = order[:count], weights[:count]
    return {token for token, weight in zip(order, weights, strict=True) if weight >= options.min_p * weights[0]}


def drawn_tokens(logits: np.ndarray, options: GenerationOptions, draws: int = 400) -> list[int]:
    sampler = Sampler(options, seed=5)
    return [sampler.choose(logits, [], step) for step in range(draws)]


def test_uniform_is_splitmix64_keyed_by_its_own_first_output():
    assert next(splitmix64(0)) == 0xE220A8397B1DCDAF  # published test vector
    for seed in (0, 1, 12345, 2**64 - 1):
        stream = splitmix64(next(splitmix64(seed)))
        for counter in range(20):
            assert uniform(seed, counter) == (next(stream) >> 11) / 2**53


def test_uniform_is_uniform():
    numbers = np.array([uniform(seed, counter) for seed in range(50) for counter in range(200)])
    assert numbers.min() >= 0 and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert np.sum((counts - 500) ** 2 / 500) < 45  # chi-square, 19 degrees of freedom, p about 0.001


def test_greedy_takes_the_lowest_of_equals():
    logits = np.array([0.0, 7.0, 7.0, 1.0], np.float32)
    assert Sampler(GenerationOptions(), 0).choose(logits, [], 0) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_broken_logit_is_a_named_error(bad, temperature):
    logits = np.array([0.0, bad, 1.0], np.float32)
    with pytest.raises(NumericError, match="token 1"):
        Sampler(GenerationOptions(temperature=temperature), 0).choose(logits, [], 0)


def test_all_tokens_suppressed_is_a_named_error():
    with pytest.raises(NumericError):
        best_token(np.full(3, -np.inf, np.float32))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 3, 100]),
    top_p=st.sampled_from([0.0, 0.4, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_only_tokens_that_the_filters_leave_are_drawn(seed, temperature, top_k, top_p, min_p):
    logits = np.random.default_rng(seed).normal(0, 2, 30).astype(np.float32)
    options = GenerationOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    allowed = kept_tokens(logits, options)
    assert set(drawn_tokens(logits, options, 60)) <= allowed


def drawn_by_the_rule(logits: np.ndarray, options: GenerationOptions, number: float) -> int:
    """The token that `number` draws, from the definitions over whole sorted rows, in float64 but for the weights."""
    best = logits.max()
    tokens = np.argsort(-logits, kind="stable")[: options.top_k] if options.top_k else np.arange(len(logits))
    weights = core.weigh(logits[tokens], best, options.temperature)[0].astype(np.float64)
    if options.top_p < 1.0:
        order = np.argsort(-weights, kind="stable")
        tokens, weights = tokens[order], weights[order]
        count = int(np.searchsorted(np.cumsum(weights), options.top_p * math.fsum(weights))) + 1
        tokens, weights = tokens[:count], weights[:count]
    tokens, weights = tokens[weights >= np.float32(options.min_p)], weights[weights >= np.float32(options.min_p)]
    cumulative = np.cumsum(weights)
    return int(tokens[np.searchsorted(cumulative, number * cumulative[-1], side="right")])


@pytest.mark.parametrize("spread", [0.0, 0.05, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [0, 50])
@pytest.mark.parametrize("top_p", [0.001, 0.5, 0.99, 0.999999, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.02, 1.0])
def test_a_large_vocabulary_is_drawn_from_by_the_rule(spread, top_k, top_p, min_p):
    logits = np.random.default_rng(4).normal(0, spread, 5000).astype(np.float32)
    logits[::7] = logits[3]  # many equals
    logits[100:2100] = -np.inf  # more than a chunk of them
    options = GenerationOptions(temperature=0.9, top_k=top_k, top_p=top_p, min_p=min_p)
    expected = [drawn_by_the_rule(logits, options, uniform(5, step)) for step in range(60)]
    assert drawn_tokens(logits, options, 60) == expected


@pytest.mark.parametrize("options", [{}, {"top_k": 8}, {"top_p": 0.999}, {"top_p": 1 - 1e-16}, {"min_p": 1e-30}])
def test_the_greatest_number_draws_a_token_that_may_be_drawn(options, monkeypatch):
    monkeypatch.setattr("edgeformer.generation.sampling.uniform", lambda seed, counter: 1 - 2.0**-53)
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(0, 1, 3000).astype(np.float32)
        logits[1000:] = -np.inf
        assert Sampler(GenerationOptions(temperature=1.0, **options), 0).choose(logits, [], 0) < 1000


def test_draws_have_the_probabilities_of_the_softmax():
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
    counts = np.bincount(drawn_tokens(logits, GenerationOptions(temperature=1.0), 4000), minlength=4)
    expected = 4000 * np.array([0.5, 0.25, 0.15, 0.1])
    assert np.sum((counts - expected) ** 2 / expected) < 16.3  # chi-square, 3 degrees of freedom, p about 0.001


def test_temperature_sharpens_and_flattens():
    logits = np.log(np.array([0.6, 0.4], np.float32))
    share = [np.mean(np.array(drawn_tokens(logits, GenerationOptions(temperature=t), 1000)) == 0) for t in (0.2, 1, 5)]
    assert share[0] > share[1] > share[2] > 0.5


def test_the_smallest_temperatures_are_greedy_and_quiet():
    logits = np.array([3.0, -80.0, 3.5], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for temperature in (1e-60, 1e-45, 1e-38, 1e-6):
            assert set(drawn_tokens(logits, GenerationOptions(temperature=temperature), 20)) == {2}


def test_draws_do_not_depend_on_what_was_drawn_before():
    logits = np.random.default_rng(0).normal(0, 1, 50).astype(np.float32)
    sampler = Sampler(GenerationOptions(temperature=1.0), seed=9)
    forward = [sampler.choose(logits, [], step) for step in range(20)]
    assert [sampler.choose(logits, [], step) for step in reversed(range(20))] == forward[::-1]


def test_a_seed_gives_these_tokens_for_ever():
    logits = (np.arange(64, dtype=np.float32) * 7 % 13) / 4
    options = GenerationOptions(temperature=0.9, top_k=40, top_p=0.95, min_p=0.02)
    sampler = Sampler(options, seed=42)
    assert [sampler.choose(logits, [], step) for step in range(12)] == [22, 53, 61, 24, 5, 24, 50, 31, 24, 31, 59, 50]


def test_the_penalty_follows_a_text_as_it_grows():
    logits = np.array([3.0, 2.9, 2.8, -1.0], np.float32)
    sampler, history = Sampler(GenerationOptions(repeat_penalty=1.5), 0), [3]
    for step in range(4):
        history.append(sampler.choose(logits, history, step))
    assert history == [3, 0, 1, 2, 0]


def test_log_probabilities_are_those_of_the_softmax():
    logits = np.random.default_rng(1).normal(0, 3, 700).astype(np.float32)
    tokens = np.array([5, 699, 0])
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    np.testing.assert_allclose(log_probs_of(logits, tokens), exact[tokens], rtol=1e-6)


def test_suppressed_tokens_are_never_chosen():
    logits = np.array([5.0, 4.0, 1.0], np.float32)
    options = GenerationOptions(temperature=1.0, suppressed_token_ids=frozenset([0, 99]))
    assert 0 not in drawn_tokens(logits, options)
    assert Sampler(GenerationOptions(suppressed_token_ids=frozenset([0])), 0).choose(logits, [], 0) == 1


def test_top_n_sigma_leaves_what_is_near_the_best_in_standard_deviations():
    for seed in range(10):
        logits = np.random.default_rng(seed).normal(0, 2, 3000).astype(np.float32)
        logits[:50] = -np.inf  # banned: not part of the deviation
        exact = logits[50:].astype(np.float64)
        kept = 50 + np.flatnonzero(exact >= exact.max() - 1.0 * exact.std())
        options = GenerationOptions(temperature=2.5, top_n_sigma=1.0)
        drawn = set(drawn_tokens(logits, options, 2000))
        assert drawn <= set(kept.tolist()) and len(drawn) > len(kept) / 2


def test_top_n_sigma_of_equal_logits_leaves_all():
    logits = np.full(40, 3.25, np.float32)
    assert set(drawn_tokens(logits, GenerationOptions(temperature=1.0, top_n_sigma=0.5), 1000)) == set(range(40))


def test_typical_draws_have_the_probabilities_of_what_is_left():
    probabilities = np.array([0.4, 0.2, 0.15, 0.15, 0.1])
    logits = np.log(probabilities).astype(np.float32)
    # The entropy is 1.49; surprisals differ from it by 0.57, 0.12, 0.41, 0.41 and 0.82: tokens 1, 2, 3 make 0.5.
    drawn = drawn_tokens(logits, GenerationOptions(temperature=1.0, typical_p=0.4), 3000)
    counts, expected = np.bincount(drawn, minlength=5), 3000 * np.array([0, 0.4, 0.3, 0.3, 0])
    assert counts[0] == counts[4] == 0
    assert np.sum((counts - expected)[1:4] ** 2 / expected[1:4]) < 13.8  # chi-square, 2 degrees, p about 0.001


@pytest.mark.parametrize("options", [{"typical_p": 0.9}, {"top_n_sigma": 1.5}, {"typical_p": 0.5, "top_k": 7}])
def test_the_greatest_number_draws_a_token_that_the_new_filters_leave(options, monkeypatch):
    monkeypatch.setattr("edgeformer.generation.sampling.uniform", lambda seed, counter: 1 - 2.0**-53)
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(0, 1, 3000).astype(np.float32)
        logits[1000:] = -np.inf
        assert Sampler(GenerationOptions(temperature=1.0, **options), 0).choose(logits, [], 0) < 1000


def test_the_new_filters_give_these_tokens_for_ever():
    logits = (np.arange(64, dtype=np.float32) * 7 % 13) / 4
    options = GenerationOptions(temperature=0.9, typical_p=0.6, top_n_sigma=2.0, min_p=0.02)
    sampler = Sampler(options, seed=42)
    assert [sampler.choose(logits, [], step) for step in range(12)] == [9, 29, 48, 24, 33, 24, 50, 59, 24, 59, 20, 37]
