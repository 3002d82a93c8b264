"""Beam search against an exhaustive search and against the rule written down a second time over whole arrays."""

from __future__ import annotations

import decimal
import itertools
import math

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import NumericError
from edgeformer.host.exact import power
from support.bigram import FakeSession, model_of

END, START = 0, 1
METADATA = {"general.architecture": "bigram", "general.generation.json": f'{{"eos_token_id": {END}}}'}


def log_softmax(table: np.ndarray) -> np.ndarray:
    table = table.astype(np.float64)
    return table - np.log(np.exp(table).sum(1, keepdims=True))


def table_of(seed: int, size: int, spread: float = 1.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (size, size)).astype(np.float32)


def search(table: np.ndarray, prompt: list, **options):
    session = FakeSession(table, metadata=METADATA)
    result = model_of(session).generate(prompt, **options)
    assert session.live == 0
    return result


def by_the_rule(table: np.ndarray, beams: int, max_tokens: int, penalty: float) -> list[tuple[list[int], float]]:
    """(tokens without the end token, log_prob / length ** penalty), best first."""
    log_probs, size = log_softmax(table), len(table)
    texts, scores, done = [[START]], np.zeros(1), []
    for step in range(1, max_tokens + 1):
        totals = (scores[:, None] + log_probs[[text[-1] for text in texts]]).ravel()
        best = np.argsort(-totals, kind="stable")[: 2 * beams]
        continued = [(texts[flat // size], flat % size, totals[flat]) for flat in best]
        kept, reserve = [], [entry for entry in continued[beams:] if entry[1] != END]
        for text, token, total in continued[:beams]:
            if token == END or step == max_tokens:
                done.append((text[1:] if token == END else [*text[1:], token], total / step**penalty))
                kept += [reserve.pop(0)] if reserve else []
            else:
                kept.append((text, token, total))
        if len(done) >= beams:
            break
        texts, scores = [[*text, token] for text, token, _ in kept], np.array([total for *_, total in kept])
    return sorted(done, key=lambda entry: -entry[1])[:beams]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (4, 1.0), (4, 0.0), (5, 2.0), (3, -0.5)])
def test_hypotheses_follow_the_rule(seed, beams, penalty):
    table = table_of(seed, 9)
    result = search(table, [START], num_beams=beams, length_penalty=penalty, max_tokens=12)
    expected = by_the_rule(table, beams, 12, penalty)
    assert [beam.token_ids for beam in result.hypotheses] == [tokens for tokens, _ in expected]
    np.testing.assert_allclose([beam.score for beam in result.hypotheses], [score for _, score in expected], rtol=1e-5)
    assert result.token_ids == result.hypotheses[0].token_ids


@pytest.mark.parametrize("seed", range(5))
def test_enough_beams_find_the_best_text_of_all(seed):
    table, length = table_of(seed, 4), 4
    table[:, END] = -30.0  # no text ends early, so all have one length and the greatest sum wins
    log_probs = log_softmax(table)
    sums = {
        text: sum(log_probs[a, b] for a, b in zip((START, *text), text, strict=False))
        for text in itertools.product(range(1, 4), repeat=length)
    }
    result = search(table, [START], num_beams=64, max_tokens=length)
    best = max(sums, key=sums.get)
    assert tuple(result.token_ids) == best
    assert math.isclose(result.log_prob, sums[best], rel_tol=1e-5)
    assert {beam.finish_reason for beam in result.hypotheses} == {"length"}


def test_one_beam_is_greedy():
    table = table_of(3, 9)
    assert search(table, [START], num_beams=1, max_tokens=8).hypotheses is None


def test_a_batch_gives_what_each_prompt_gives_alone():
    table = table_of(5, 12)
    prompts = [[START], [3, 4], [7]]
    together = search(table, prompts, num_beams=3, max_tokens=10)
    alone = [search(table, prompt, num_beams=3, max_tokens=10) for prompt in prompts]
    assert [result.hypotheses for result in together] == [result.hypotheses for result in alone]


def test_all_beams_of_all_prompts_run_in_one_forward_a_step():
    session = FakeSession(table_of(5, 12), metadata=METADATA)
    results = model_of(session).generate([[1], [3], [7]], num_beams=3, max_tokens=10)
    assert session.steps == max(result.usage.completion_tokens for result in results)


def test_the_repetition_penalty_applies_to_every_beam():
    table = np.full((4, 4), -5.0, np.float32)
    table[:, 2], table[:, 3] = 3.0, 2.9
    assert search(table, [START], num_beams=2, max_tokens=4).token_ids == [2, 2, 2, 2]
    assert search(table, [START], num_beams=2, max_tokens=4, repeat_penalty=50.0).token_ids[:2] == [2, 3]


def test_a_vocabulary_smaller_than_the_beams():
    result = search(table_of(1, 3), [START], num_beams=8, max_tokens=5)
    assert 1 <= len(result.hypotheses) <= 8


def test_the_end_of_the_context_ends_the_search():
    table = table_of(2, 6)
    table[:, END] = -40.0
    session = FakeSession(table, n_ctx=7, metadata=METADATA)
    result = model_of(session).generate([START, 2], num_beams=3)
    assert len(result.token_ids) == 5
    assert result.finish_reason == "length"
    assert session.live == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_stops_a_step_nothing_is_held(error):
    session = FakeSession(table_of(2, 6), metadata=METADATA)

    def fail() -> None:
        if session.steps == 3:
            raise error

    session.before_step = fail
    with pytest.raises(error):
        model_of(session).generate([[START], [2]], num_beams=3, max_tokens=30)
    assert session.live == 0


def test_a_flag_that_is_set_ends_the_search():
    session, flag = FakeSession(table_of(2, 6), metadata=METADATA), core.CancelFlag()
    flag.set()
    result = model_of(session).generate([START], num_beams=3, cancel=flag)
    assert (result.finish_reason, result.text, session.live) == ("cancelled", "", 0)


@pytest.mark.parametrize("penalty", [1.0, 0.6, 0.2, 2.0, -0.5, 0.0, 1.1])
def test_lengths_are_raised_to_the_penalty_with_correct_rounding(penalty):
    for length in [*range(1, 100), 511, 32768]:
        # The float nearest to the power: no other lies within half a step of a value of 60 digits.
        with decimal.localcontext(decimal.Context(prec=60)):
            exact = decimal.Decimal(length) ** decimal.Decimal(penalty)
            nearest = decimal.Decimal(power(length, penalty))
            assert abs(nearest - exact) <= decimal.Decimal(math.ulp(float(exact))) / 2


def test_nan_is_a_named_error():
    table = table_of(2, 6)
    table[START, 3] = np.nan
    session = FakeSession(table, metadata=METADATA)
    with pytest.raises(NumericError, match="token 3"):
        model_of(session).generate([START], num_beams=3)
    assert session.live == 0


def test_beams_of_the_file_give_way_to_what_excludes_them():
    metadata = {**METADATA, "general.generation.json": f'{{"eos_token_id": {END}, "num_beams": 3}}'}
    model = model_of(FakeSession(table_of(4, 8), metadata=metadata))
    assert len(model.generate([START], max_tokens=6).hypotheses) == 3
    assert model.generate([START], max_tokens=6, temperature=1.0).hypotheses is None
    assert model.generate([START], max_tokens=6, logprobs=1).hypotheses is None
    assert all(chunk.token_ids or chunk.finish_reason for chunk in model.generate([START], max_tokens=6, stream=True))
