"""What options do to logits, against transformers' processors (`tests/golden/processors.json`) and the formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeformer.errors import InvalidOptionError
from edgeformer.generation.adjustments import Adjustments, TextHistory
from edgeformer.generation.options import GenerationOptions, parse_options
from edgeformer.generation.sampling import Sampler
from edgeformer.host.exact import ordered_sum
from edgeformer.text.defaults import GenerationDefaults

CASES = json.loads((Path(__file__).parents[1] / "golden" / "processors.json").read_text())
ENDS = frozenset([3, 5])


def options_of(settings: dict[str, Any], vocab_size: int = 23) -> GenerationOptions:
    metadata = {"general.generation.json": json.dumps(settings)}
    defaults = GenerationDefaults.from_metadata(metadata, "model.gguf", vocab_size, "tokenizer.ggml.")
    assert not defaults.unsupported
    return parse_options("generate", {}, defaults)


def applied(logits: list[float], tokens: list[int], prompt: int, options: GenerationOptions) -> np.ndarray:
    adjustments = Adjustments(options, ENDS)
    history = adjustments.history().read(tokens, prompt)
    return adjustments.apply(np.array(logits, np.float32), history, len(tokens) - prompt)


@pytest.mark.parametrize("case", [case for case in CASES if not case["settings"].get("do_sample")], ids=str)
def test_logits_are_those_of_transformers(case):
    result = applied(case["logits"], case["tokens"], case["prompt"], options_of(case["settings"]))
    expected = np.array([-np.inf if value is None else value for value in case["result"]], np.float32)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case["settings"].get("do_sample")], ids=str)
def test_tokens_that_the_filters_leave_are_those_of_transformers(case, monkeypatch):
    options = options_of(case["settings"])
    logits = np.array(case["logits"], np.float32)
    sampler, drawn = Sampler(options, 0, ENDS), set()
    for number in np.arange(4000) / 4000:
        monkeypatch.setattr("edgeformer.generation.sampling.uniform", lambda seed, counter, number=number: number)
        drawn.add(sampler.choose(logits, case["tokens"], len(case["tokens"]) - case["prompt"]))
    left = {token: value for token, value in enumerate(case["result"]) if value is not None}
    weights = np.exp(np.array(list(left.values())) - max(left.values()))
    likely = {token for token, weight in zip(left, weights / weights.sum(), strict=True) if weight > 1e-3}
    assert likely <= drawn <= left.keys()


def test_presence_and_frequency_penalties_are_openais_over_the_new_tokens():
    logits = np.random.default_rng(0).normal(0, 2, 8)
    options = GenerationOptions(presence_penalty=0.7, frequency_penalty=-0.3)
    result = applied(list(logits), [1, 2, 2, 5, 5, 6, 5], 3, options)
    counts = np.array([0, 0, 0, 0, 0, 3, 1, 0])
    np.testing.assert_allclose(result, logits - counts * -0.3 - (counts > 0) * 0.7, rtol=1e-6)


def test_a_history_that_grows_is_a_history_read_at_once():
    tokens = np.random.default_rng(2).integers(0, 4, 60).tolist()
    growing = TextHistory(3)
    for length in range(len(tokens) + 1):
        growing.read(tokens[:length], 7)
        at_once = TextHistory(3).read(tokens[:length], 7)
        begun = tuple(tokens[max(length - 2, 0) : length])
        following = [tokens[place + 2] for place in range(length - 2) if tuple(tokens[place : place + 2]) == begun]
        assert growing.followers() == at_once.followers() == (following if length >= 2 else [])
        assert sorted(growing.seen().tolist()) == sorted(set(tokens[:length]))
        ids, counts = growing.counts()
        own = tokens[7:length]
        assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {token: own.count(token) for token in own}


def test_without_options_the_logits_are_the_same_object():
    logits = np.zeros(4, np.float32)
    adjustments = Adjustments(GenerationOptions(), ENDS)
    assert adjustments.idle and adjustments.apply(logits, adjustments.history(), 0) is logits


def test_logits_given_are_not_changed():
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    adjustments = Adjustments(GenerationOptions(suppressed_token_ids=frozenset([0, 99])), ())
    assert adjustments.apply(logits, adjustments.history(), 0).tolist() == [-np.inf, 2.0, 3.0]
    assert logits.tolist() == [1.0, 2.0, 3.0]


def test_options_that_leave_no_token_are_refused():
    options = GenerationOptions(bad_words=((0,), (1,)))
    with pytest.raises(InvalidOptionError, match="leave no token"):
        applied([1.0, 2.0], [], 0, options)


def test_a_processor_sees_the_context_and_what_the_other_options_left():
    seen = []

    def processor(ids, logits):
        seen.append((ids, logits.tolist()))
        logits[2] = -np.inf
        return logits

    options = GenerationOptions(logits_processor=processor, suppressed_token_ids=frozenset([0]))
    assert applied([5.0, 1.0, 2.0], [2, 1], 1, options).tolist() == [-np.inf, 1.0, -np.inf]
    assert seen == [([2, 1], [-np.inf, 1.0, 2.0])]


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda ids, logits: None, "returned nothing"),
        (lambda ids, logits: logits[:2], "3 logits, and returned an array of shape"),
        (lambda ids, logits: "text", "must return logits"),
        (lambda ids, logits: logits * np.nan, "nan for token 0"),
        (lambda ids, logits: np.array([0, np.inf, 0]), "inf for token 1"),
    ],
)
def test_a_processor_that_gives_no_logits_is_named(processor, message):
    with pytest.raises(InvalidOptionError, match=f"logits_processor: .*{message}"):
        applied([1.0, 2.0, 3.0], [1], 1, GenerationOptions(logits_processor=processor))


def test_what_a_processor_raises_comes_through():
    with pytest.raises(ZeroDivisionError):
        applied([1.0, 2.0], [1], 1, GenerationOptions(logits_processor=lambda ids, logits: 1 / 0))


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 5000])
def test_an_ordered_sum_adds_lanes_in_their_order(length):
    values = np.random.default_rng(length).normal(0, 1, length)
    lanes = [0.0] * 1024
    for place, value in enumerate(values.tolist()):
        lanes[place % 1024] += value
    total = 0.0
    for lane in lanes:
        total += lane
    assert ordered_sum(values) == total
