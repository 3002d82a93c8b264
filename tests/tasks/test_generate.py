"""Generation over a session whose answers are known: lengths, ends, stop strings, batches, options and results."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from edgeformer.engine.memory_plan import MAX_SEQUENCES
from edgeformer.errors import (
    ContextOverflowError,
    EdgeformerError,
    InvalidInputError,
    InvalidOptionError,
    ModelFormatError,
    UnsupportedModelError,
)
from support.bigram import BOS, EOS, VOCABULARY, FakeSession, byte_metadata, model_of, says

TEXT = "The quick brown fx."  # no byte twice
RANDOM_TABLE = np.random.default_rng(1).normal(0, 2, (VOCABULARY, VOCABULARY)).astype(np.float32)


def story(**options) -> FakeSession:
    return FakeSession(says("abcdefghij"), **options)


def test_text_goes_on_to_the_end_token():
    session = story()
    result = model_of(session).generate("ab")
    assert result.text == "cdefghij"
    assert result.token_ids == list(b"cdefghij")
    assert (result.finish_reason, result.stop) == ("stop", None)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (3, 9)
    assert session.live == 0


@pytest.mark.parametrize("name", ["max_tokens", "max_new_tokens", "max_completion_tokens"])
def test_max_tokens_and_its_other_names(name):
    result = model_of(story()).generate("ab", **{name: 3})
    assert (result.text, result.finish_reason, result.usage.completion_tokens) == ("cde", "length", 3)


def test_other_names_may_agree_and_not_differ():
    model = model_of(story())
    assert model.generate("ab", max_tokens=2, max_new_tokens=2).text == "cd"
    with pytest.raises(InvalidOptionError, match="max_tokens=2, max_new_tokens=3"):
        model.generate("ab", max_tokens=2, max_new_tokens=3)


def test_an_empty_prompt_begins_a_text():
    model = model_of(story())
    assert model.generate("").text == model.generate([BOS]).text == "abcdefghij"
    assert model.generate("").usage.prompt_tokens == 1


def test_an_empty_prompt_without_a_start_token_is_refused():
    metadata = byte_metadata()
    del metadata["tokenizer.ggml.bos_token_id"], metadata["tokenizer.ggml.add_bos_token"]
    with pytest.raises(InvalidInputError, match="empty"):
        model_of(FakeSession(says("ab"), metadata=metadata)).generate("")


def test_the_end_of_the_context_ends_the_text():
    session = FakeSession(np.eye(VOCABULARY), n_ctx=10)
    result = model_of(session).generate("ab")
    assert (result.text, result.finish_reason) == ("b" * 7, "length")


def test_a_context_that_is_too_small_is_told():
    model = model_of(story(n_ctx=10))
    for options, needed in [({"max_tokens": 8}, 11), ({"max_tokens": 100}, 103)]:
        with pytest.raises(ContextOverflowError) as caught:
            model.generate("ab", **options)
        assert (caught.value.needed, caught.value.available) == (needed, 10)
    with pytest.raises(ContextOverflowError, match="truncate='left'") as caught:
        model.generate("ab" * 10)
    assert (caught.value.largest, caught.value.new_tokens) == (64, 0)
    with pytest.raises(ContextOverflowError) as caught:
        model.generate("ab" * 10, max_tokens=30, truncate="left")
    assert (caught.value.truncate, caught.value.new_tokens) == (None, 30)
    assert model.generate("ab", max_tokens=7).finish_reason == "length"


def test_truncation_on_the_left_keeps_the_start_token_and_the_newest():
    session = story(n_ctx=10)
    result = model_of(session).generate("zzzzzzzzzzzzzab", max_tokens=4, truncate="left")
    assert result.text == "cdef"
    assert (result.usage.prompt_tokens, result.usage.truncated_tokens) == (6, 10)
    with pytest.raises(InvalidOptionError, match="truncate"):
        model_of(session).generate("ab", truncate="right")


def test_stop_strings_across_tokens():
    result = model_of(story()).generate("a", stop=["ef", "zz"])
    assert (result.text, result.stop, result.finish_reason) == ("bcd", "ef", "stop")
    assert result.token_ids == list(b"bcdef")
    assert model_of(story()).generate("a", stop="jk").text == "bcdefghij"


def test_a_batch_gives_what_each_prompt_gives_alone():
    session = FakeSession(RANDOM_TABLE)
    model = model_of(session)
    prompts = ["a", "xyz", [BOS], [1, 2, 3]]
    for options in ({}, {"temperature": 1.5, "seed": 7}, {"repeat_penalty": 1.3}, {"stop": "q"}):
        together = model.generate(prompts, max_tokens=12, **options)
        alone = [model.generate(prompt, max_tokens=12, **options) for prompt in prompts]
        assert [r.token_ids for r in together] == [r.token_ids for r in alone]
        assert [r.text for r in together] == [r.text for r in alone]
    assert model.generate([]) == []
    assert session.live == 0


def test_texts_of_a_batch_end_by_themselves():
    session = story()
    results = model_of(session).generate(["a", "hi", "j"])
    assert [result.text for result in results] == ["bcdefghij", "j", ""]
    assert session.steps == 10


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_long_lists_run_in_groups_that_the_caches_hold(options):
    session = FakeSession(RANDOM_TABLE)
    prompts = [[index % 200, 7] for index in range(150)]
    results = model_of(session).generate(prompts, max_tokens=4, **options)
    assert session.most <= MAX_SEQUENCES
    session.table[7] = -session.table[7]
    other = model_of(session).generate(prompts[:1], max_tokens=4, **options)
    assert len(results) == 150 and results[0].token_ids != other[0].token_ids
    assert all(result.token_ids == results[0].token_ids for result in results)


def test_seeds():
    model = model_of(FakeSession(RANDOM_TABLE))
    first, second = model.generate(["a", "a"], temperature=2, max_tokens=9, seed=[3, 4])
    assert first.token_ids == model.generate("a", temperature=2, max_tokens=9, seed=3).token_ids
    assert first.token_ids != second.token_ids
    fresh = model.generate("a", temperature=2, max_tokens=9)
    again = model.generate("a", temperature=2, max_tokens=9, seed=fresh.seed)
    assert fresh.token_ids == again.token_ids
    assert model.generate("a", max_tokens=2).seed is None
    with pytest.raises(InvalidOptionError, match="2 seeds for 1"):
        model.generate("a", temperature=1, seed=[1, 2])


def test_log_probabilities_are_those_of_the_model():
    model = model_of(FakeSession(RANDOM_TABLE))
    result = model.generate([5], max_tokens=4, temperature=1.0, seed=1, top_k=5, logprobs=2)
    rows = RANDOM_TABLE[[5, *result.token_ids[:-1]]].astype(np.float64)
    expected = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    for entry, token, row in zip(result.logprobs, result.token_ids, expected, strict=True):
        assert entry.token_id == token
        assert math.isclose(entry.logprob, row[token], rel_tol=1e-5)
        assert [top.token_id for top in entry.top] == np.argsort(-row)[:2].tolist()
    assert math.isclose(result.log_prob, sum(entry.logprob for entry in result.logprobs), rel_tol=1e-6)
    assert model.generate([5], max_tokens=1, logprobs=0).logprobs[0].top == ()
    assert model.generate([5], max_tokens=1).logprobs is None


def test_defaults_come_from_the_file():
    config = {"do_sample": True, "temperature": 0.5, "top_k": 3, "eos_token_id": [ord("e"), EOS]}
    config["suppress_tokens"] = [ord("c")]
    metadata = byte_metadata(**{"general.generation.json": json.dumps(config)})
    table = says("abde") + RANDOM_TABLE * 1e-3
    table[:, ord("c")] = 99.0
    result = model_of(FakeSession(table, metadata=metadata)).generate("")
    assert (result.text, result.finish_reason) == ("abd", "stop")
    assert result.seed is not None
    assert model_of(FakeSession(table, metadata=metadata)).generate("", temperature=0).seed is None


@pytest.mark.parametrize(
    "config", ["[]", "{", '{"temperature": "hot"}', '{"top_k": -4}', '{"eos_token_id": "x"}', "[" * 100_000, "3"]
)
def test_broken_defaults_are_a_fault_of_the_file(config):
    with pytest.raises(ModelFormatError, match=r"general\.generation\.json"):
        model_of(FakeSession(RANDOM_TABLE, metadata=byte_metadata(**{"general.generation.json": config})))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"max_token": 1}, "did you mean 'max_tokens'"),
        ({"do_sample": True}, "it knows"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 2.5}, "top_k"),
        ({"min_p": -1}, "min_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"repeat_penalty": 0}, "repeat_penalty"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": 3}, "stop"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 1.5}, "logprobs"),
        ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 2, "temperature": 0.5}, "temperature"),
        ({"num_beams": 2, "stop": "x"}, "stop"),
        ({"num_beams": 2, "stream": True}, "stream"),
        ({"length_penalty": 2.0}, "num_beams"),
        ({"cancel": True}, "CancelFlag"),
        ({"temperature": 10**400}, "temperature: from 0 to 1e\\+06"),
        ({"temperature": 10**5000}, "int too long to spell"),
        ({"max_tokens": 10**5000}, "int too long to spell"),
    ],
)
def test_a_wrong_option_is_told(options, message):
    session = FakeSession(RANDOM_TABLE)
    with pytest.raises(InvalidOptionError, match=message):
        model_of(session).generate("a", **options)
    assert session.steps == session.live == 0


@pytest.mark.parametrize("prompt", [None, 3, {"a": 1}, [None], ["a", 3.5], [1.5], [True], b"ab", "\ud800"])
def test_a_wrong_prompt_is_told(prompt):
    with pytest.raises(InvalidInputError):
        model_of(FakeSession(RANDOM_TABLE)).generate(prompt)


def test_prompts_may_be_arrays():
    model = model_of(story())
    assert model.generate(np.array([BOS, ord("a")])).text == "bcdefghij"
    assert [result.text for result in model.generate(np.array([[1, 97], [2, 98]]))] == ["bcdefghij", "cdefghij"]


def test_a_filter_asks_for_sampling():
    model = model_of(FakeSession(RANDOM_TABLE))
    assert model.generate("a", max_tokens=3, top_k=5).seed is not None
    assert model.generate("a", max_tokens=3, top_k=5, temperature=0).seed is None


def test_without_a_tokenizer_ids_go_in_and_out():
    session = story(metadata={"general.generation.json": f'{{"eos_token_id": {EOS}}}'})
    result = model_of(session).generate([97])
    assert (result.text, result.token_ids, result.finish_reason) == ("", list(b"bcdefghij"), "stop")
    assert len(list(model_of(session).generate([97], stream=True))) == 10
    with pytest.raises(InvalidInputError, match="tokenizer"):
        model_of(session).generate("a")


def test_rates_of_a_list_that_runs_in_several_groups(monkeypatch):
    clock = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    session = story()

    def second() -> None:
        nonlocal clock
        clock += 1.0

    session.before_step = second
    results = model_of(session).generate(["a"] * 130)  # each: two prompt tokens, ten new ones
    groups = session.steps / 10
    assert groups > 1
    timings = results[0].timings
    assert timings.prompt_tokens_per_second == pytest.approx(130 * 2 / groups)
    assert timings.tokens_per_second == pytest.approx(130 * 9 / (groups * 9))
    assert (timings.time_to_first_token_ms, timings.total_ms) == (1000.0, groups * 10_000)


def test_times_and_rates():
    timings = model_of(story()).generate("a").timings
    assert 0 < timings.time_to_first_token_ms <= timings.total_ms
    assert timings.tokens_per_second > 0 and timings.prompt_tokens_per_second > 0
    assert timings.peak_memory_bytes > 1 << 20


def test_a_family_says_which_verbs_it_has():
    encoder = model_of(story(family="encoder"))
    with pytest.raises(UnsupportedModelError, match="encode, similarity, hidden_states"):
        encoder.generate("a")
    with pytest.raises(UnsupportedModelError, match="decoder model"):
        model_of(story()).translate("a")
    with pytest.raises(UnsupportedModelError):
        model_of(story()).encode("a")


def test_a_closed_model_says_so():
    model = model_of(story())
    with model:
        assert not model.closed
    assert model.closed
    assert "closed" in repr(model)
    for verb in (model.generate, model.tokenize, model.logits):
        with pytest.raises(EdgeformerError, match="closed"):
            verb("a")
