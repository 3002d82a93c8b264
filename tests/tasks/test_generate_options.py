"""Options of `generate` over a session whose answers are known: penalties, bans, several texts of a prompt, echo."""

from __future__ import annotations

import json

import numpy as np
import pytest
from edgeformer.engine.memory_plan import MAX_SEQUENCES
from edgeformer.errors import InvalidOptionError
from edgeformer.generation.options import parse_options
from edgeformer.text.defaults import GenerationDefaults
from support.bigram import BOS, EOS, VOCABULARY, FakeSession, byte_metadata, model_of, says

RANDOM_TABLE = np.random.default_rng(1).normal(0, 2, (VOCABULARY, VOCABULARY)).astype(np.float32)


def story(**options) -> FakeSession:
    return FakeSession(says("abcdefghij"), **options)


def test_min_tokens_keeps_the_end_away():
    result = model_of(story()).generate("ij", min_tokens=3, max_tokens=5)
    assert len(result.token_ids) >= 3
    assert model_of(story()).generate("ij", max_tokens=5).token_ids == []


def test_min_length_of_the_file_counts_the_prompt_and_gives_way_to_min_tokens():
    metadata = byte_metadata(**{"general.generation.json": json.dumps({"min_length": 5})})
    model = model_of(FakeSession(says("abcdefghij"), metadata=metadata))
    assert len(model.generate("ij", max_tokens=9).token_ids) > 1  # <s> i j are three
    assert model.generate("ghij", max_tokens=9).token_ids == []
    assert model.generate("ij", max_tokens=9, min_tokens=0).token_ids == []


def test_min_tokens_and_max_tokens_contradict():
    with pytest.raises(InvalidOptionError, match="min_tokens=5 is more than max_tokens=4"):
        model_of(story()).generate("a", min_tokens=5, max_tokens=4)


def test_a_bad_word_is_not_written():
    table = says("abcdefghij")
    table[ord("d"), ord("x")] = 5.0  # second best after d
    model = model_of(FakeSession(table))
    assert model.generate("abc", max_tokens=2).text == "de"
    assert model.generate("abc", max_tokens=2, bad_words=["de"]).text == "dx"
    assert model.generate("abc", max_tokens=2, bad_words=[[ord("d"), ord("e")]]).text == "dx"
    assert model.generate("abc", max_tokens=2, bad_words=["xde"]).text == "de"


def test_a_bad_word_is_banned_after_a_space_too():
    table = says("ab cd")
    model = model_of(FakeSession(table))
    assert model.generate("a", max_tokens=3).text == "b c"
    assert model.generate("a", max_tokens=3, bad_words=["c"]).text[:3] != "b c"


def test_logit_bias_is_added():
    model = model_of(story())
    assert model.generate("a", max_tokens=1, logit_bias={ord("z"): 10.5}).text == "z"
    assert model.generate("a", max_tokens=1, logit_bias={ord("z"): 9.5}).text == "b"
    assert model.generate("a", max_tokens=1, logit_bias={ord("b"): -100}).text != "b"


def test_a_processor_chooses():
    lengths = []

    def only_z(ids, logits):
        lengths.append(len(ids))
        logits[:] = -np.inf
        logits[ord("z")] = 0.0
        return logits

    assert model_of(story()).generate("ab", max_tokens=3, logits_processor=only_z).text == "zzz"
    assert lengths == [3, 4, 5]


def test_logprobs_true_is_nought_alternatives():
    model = model_of(story())
    assert model.generate("a", logprobs=True).logprobs == model.generate("a", logprobs=0).logprobs
    assert model.generate("a", logprobs=False).logprobs is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"presence_penalty": "much"}, "presence_penalty: a number"),
        ({"frequency_penalty": 1e3}, "frequency_penalty: from -100 to 100"),
        ({"typical_p": -0.1}, "typical_p: from 0 to 1"),
        ({"top_n_sigma": -1}, "top_n_sigma: from 0"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size: an integer"),
        ({"min_tokens": -1}, "min_tokens: from 0"),
        ({"bad_words": "abc"}, "bad_words: a list"),
        ({"bad_words": [""]}, "bad_words: a text of no tokens"),
        ({"bad_words": [[VOCABULARY]]}, f"bad_words: token id {VOCABULARY} is outside"),
        ({"bad_words": [5]}, "bad_words: a list of token ids"),
        ({"logit_bias": [1]}, "logit_bias: a dict"),
        ({"logit_bias": {"a": 1}}, "logit_bias: an integer"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias: from"),
        ({"logit_bias": {VOCABULARY: 1}}, f"logit_bias: token id {VOCABULARY} is outside"),
        ({"logits_processor": 5}, "logits_processor: a function"),
        ({"echo": 1}, "echo: True or False"),
        ({"echo": True, "num_beams": 2}, "echo cannot be combined"),
        ({"typical_p": 0.5, "num_beams": 2}, "typical_p cannot be combined"),
        ({"n": 0, "temperature": 1.0}, "n: from 1"),
        ({"n": 2}, "give a temperature"),
        ({"n": 2, "num_beams": 3}, "n=2 cannot be combined with num_beams > 1"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        model_of(story()).generate("a", **options)


def test_a_text_as_a_bad_word_needs_a_tokenizer():
    with pytest.raises(InvalidOptionError, match="bad_words: the file carries no tokenizer"):
        parse_options("generate", {"bad_words": ["a"]}, GenerationDefaults())


def test_echo_puts_the_prompt_in_front():
    model = model_of(story())
    assert model.generate("abc", echo=True).text == "abcdefghij"
    assert model.generate([BOS, ord("a"), ord("b")], echo=True).text == "abcdefghij"
    result = model.generate(["ab", "xx"], echo=True, max_tokens=2, stop="b")
    assert result[0].text == "abcd" and result[1].text.startswith("xx")  # stop strings are of the new text
    assert result[0].token_ids == list(b"cd")
    stream = model.generate("abc", echo=True, stream=True)
    assert "".join(chunk.text for chunk in stream) == "abcdefghij" == stream.result.text


def test_an_encoder_decoder_has_nothing_to_echo():
    session = FakeSession(says("abc"), family="encoder-decoder")
    with pytest.raises(InvalidOptionError, match=r"echo: .* source"):
        model_of(session).generate("a", echo=True)


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_several_texts_of_a_prompt_are_those_of_their_seeds(family):
    session = FakeSession(RANDOM_TABLE, family=family)
    model = model_of(session)
    options = {"temperature": 1.0, "max_tokens": 12}
    alone = [model.generate("ab", seed=seed, **options).token_ids for seed in (7, 8, 9)]
    steps, session.steps, session.most = session.steps, 0, 0
    several = model.generate("ab", n=3, seed=7, **options)
    assert [result.token_ids for result in several] == alone
    assert [result.seed for result in several] == [7, 8, 9]
    assert session.steps <= 12 < steps and session.most <= 3
    assert session.live == 0
    assert len({tuple(result.token_ids) for result in model.generate("ab", n=4, **options)}) > 1


def test_texts_of_several_prompts_come_by_prompt():
    model = model_of(FakeSession(RANDOM_TABLE))
    options = {"temperature": 1.0, "max_tokens": 6}
    lists = model.generate(["ab", "cd"], n=2, seed=[1, 5], **options)
    assert [[result.seed for result in of_one] for of_one in lists] == [[1, 2], [5, 6]]
    assert lists[1][1].token_ids == model.generate("cd", seed=6, **options).token_ids
    assert model.generate([], n=2, **options) == []
    one = model.generate("ab", n=1, seed=1, **options)
    assert [result.token_ids for result in one] == [lists[0][0].token_ids]


def test_a_stream_tells_the_texts_of_a_prompt_apart():
    model = model_of(FakeSession(RANDOM_TABLE))
    options = {"temperature": 1.0, "max_tokens": 5, "n": 2, "seed": 3}
    stream = model.generate(["ab", "cd"], stream=True, **options)
    texts = {}
    for chunk in stream:
        texts[chunk.index] = texts.get(chunk.index, "") + chunk.text
    expected = [result.text for of_one in model.generate(["ab", "cd"], **options) for result in of_one]
    assert [texts[index] for index in range(4)] == expected == [result.text for result in stream.results]


def test_the_prompt_of_several_texts_is_read_once():
    fed = []

    class Counting(FakeSession):
        def forward(self, feeds, **options):
            fed.append([len(ids) for _, ids in feeds])
            return super().forward(feeds, **options)

    model_of(Counting(RANDOM_TABLE)).generate("abcdefgh", n=5, temperature=1.0, max_tokens=3, logit_bias={EOS: -50})
    assert fed == [[9], [1] * 5, [1] * 5]


def test_more_texts_than_run_at_a_time():
    count = 2 * MAX_SEQUENCES + 3
    session = FakeSession(RANDOM_TABLE)
    results = model_of(session).generate("ab", n=count, temperature=1.0, max_tokens=2, seed=0)
    assert [result.seed for result in results] == list(range(count))
    assert session.most <= MAX_SEQUENCES and session.live == 0


def test_one_text_may_end_at_its_first_token():
    table = np.zeros((VOCABULARY, VOCABULARY), np.float32)
    table[:, EOS] = table[:, ord("x")] = 12.0
    session = FakeSession(table)
    results = model_of(session).generate("ab", n=8, temperature=1.0, max_tokens=4, seed=1)
    ended = [result for result in results if not result.token_ids]
    assert ended and len(ended) < 8 and session.live == 0
    assert all(result.finish_reason == "stop" for result in ended)


def test_beams_of_the_file_give_way_to_n():
    metadata = byte_metadata(**{"general.generation.json": json.dumps({"num_beams": 4})})
    model = model_of(FakeSession(RANDOM_TABLE, metadata=metadata))
    assert len(model.generate("ab", max_tokens=2, n=1)) == 1
    assert model.generate("ab", max_tokens=2, n=1)[0].hypotheses is None


@pytest.mark.parametrize(
    "options",
    [
        {"min_tokens": 4},
        {"no_repeat_ngram_size": 1},
        {"presence_penalty": 3.0, "frequency_penalty": 1.0},
        {"bad_words": ["a", "bc"], "logit_bias": {70: 2.0}},
        {"logits_processor": lambda ids, logits: logits * (1 + len(ids) % 2)},
    ],
)
def test_beams_follow_the_same_steps(options):
    """One beam is the greedy text; each hypothesis of several obeys what all texts obey."""
    model = model_of(FakeSession(RANDOM_TABLE))
    for beam in model.generate("ab", num_beams=3, max_tokens=6, **options).hypotheses:
        ids = [BOS, *b"ab", *beam.token_ids]
        if "min_tokens" in options:
            assert len(beam.token_ids) >= 4
        if "no_repeat_ngram_size" in options:
            assert len(set(ids)) == len(ids)
        if "bad_words" in options:
            assert "a" not in beam.text and "bc" not in beam.text
    greedy = model.generate("ab", max_tokens=6, num_beams=1, **options)
    best = model.generate("ab", max_tokens=6, num_beams=2, **options)
    scored = model.generate("ab", max_tokens=6, logprobs=0, **options)
    assert greedy.token_ids == scored.token_ids and best.log_prob is not None


def test_a_batch_is_penalized_text_by_text():
    model = model_of(FakeSession(RANDOM_TABLE))
    options = {"max_tokens": 12, "frequency_penalty": 2.0, "no_repeat_ngram_size": 2, "bad_words": ["e"]}
    prompts = ["ab", "c", "defg"]
    assert [result.token_ids for result in model.generate(prompts, **options)] == [
        model.generate(prompt, **options).token_ids for prompt in prompts
    ]
