"""The forms in which verbs take their arguments, and what signatures and reprs tell."""

from __future__ import annotations

import asyncio
import inspect

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.errors import InvalidInputError, InvalidOptionError
from edgeformer.generation.options import GenerationArguments
from edgeformer.tools.demo import CHECKPOINT
from support.bigram import FakeSession, byte_metadata, model_of, says


def story(**options) -> FakeSession:
    return FakeSession(says("abcdefghij"), **options)


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("forms") / "dates.gguf"
    convert(CHECKPOINT, path, type="f32")
    return str(path)


@pytest.mark.parametrize("verb", ["generate", "agenerate", "translate"])
def test_signatures_name_every_option(verb):
    for function in (getattr(edgeformer.Model, verb), getattr(model_of(story()), verb)):
        parameters = inspect.signature(function).parameters
        assert GenerationArguments.__annotations__.keys() < parameters.keys()
        assert inspect.Parameter.VAR_KEYWORD not in {entry.kind for entry in parameters.values()}
        assert ("stream" in parameters) == (verb != "translate")
        assert (parameters["max_tokens"].default, parameters["max_tokens"].annotation) == (None, "int | None")


@pytest.mark.parametrize("dtype", [None, object])
def test_an_array_of_strings_is_a_list_of_them(dtype, dates):
    texts = np.array(["a", "h"], dtype)
    model = model_of(story())
    assert [result.text for result in model.generate(texts)] == ["bcdefghij", "ij"]
    assert model.tokenize(texts) == [model.tokenize("a"), model.tokenize("h")]
    assert len(model.logits(texts)) == 2
    encoder = model_of(FakeSession(says("ab"), family="encoder", metadata=byte_metadata()))
    np.testing.assert_array_equal(encoder.encode(texts), encoder.encode(["a", "h"]))
    with edgeformer.load(dates) as translator:
        assert translator.translate(np.array(["4 March 1997", "5.5.2001"], dtype)) == ["1997-03-04", "2001-05-05"]


@pytest.mark.parametrize("wrong", [np.array("a"), np.array([b"a"]), iter(["a"]), {"a"}])
def test_other_forms_are_refused_by_name(wrong):
    model = model_of(story())
    for verb in (model.generate, model.tokenize, model.logits):
        with pytest.raises(InvalidInputError, match="a str"):
            verb(wrong)


def test_logits_of_a_list_are_those_of_its_items():
    model = model_of(story())
    several = model.logits(["abc", [97, 98], "h"])
    for one, prompt in zip(several, ("abc", [97, 98], "h"), strict=True):
        np.testing.assert_array_equal(one, model.logits(prompt))
    assert model.logits([]) == [] == model.tokenize([])
    with pytest.raises(InvalidInputError, match=r"prompt\[1\]"):
        model.logits(["a", 7.5])
    with pytest.raises(InvalidInputError, match="only an encoder-decoder"):
        model.logits(["a"], ["b"])


def test_logits_of_sources_have_a_target_each(dates):
    with edgeformer.load(dates) as model:
        sources, targets = ["4 March 1997", "5.5.2001"], ["1997", "2001-05"]
        several = model.logits(sources, targets)
        for one, source, target in zip(several, sources, targets, strict=True):
            np.testing.assert_array_equal(one, model.logits(source, target))
        for wrong in (["1997"], "1997", [1, 2]):
            with pytest.raises(InvalidInputError, match="target"):
                model.logits(sources, wrong)
        with pytest.raises(InvalidInputError, match=r"target\[0\]"):
            model.logits(sources)


def test_tokenize_passes_its_options_on_to_every_text():
    model = model_of(story())
    assert model.tokenize(["<e>"], add_special_tokens=False, parse_special=True) == [[257]]
    with pytest.raises(InvalidInputError, match="text: a str"):
        model.tokenize(["a", 5])


def test_encode_takes_what_calls_of_sentence_transformers_have():
    encoder = model_of(FakeSession(says("ab"), family="encoder", metadata=byte_metadata()))
    plain = encoder.encode(["ab", "a"])
    for bar in (True, False, None):
        same = encoder.encode(["ab", "a"], convert_to_numpy=True, show_progress_bar=bar)
        np.testing.assert_array_equal(same, plain)
    with pytest.raises(InvalidOptionError, match="convert_to_numpy"):
        encoder.encode("a", convert_to_numpy=False)


def test_a_model_is_an_asynchronous_context():
    session = story()

    async def use() -> str:
        async with model_of(session) as model:
            text = (await model.agenerate("a")).text
            assert not session.closed
        return text

    assert asyncio.run(use()) == "bcdefghij"
    assert session.closed


def test_streams_say_how_far_they_are():
    model = model_of(story())
    stream = model.generate(["a", "h"], stream=True)
    assert repr(stream) == "<edgeformer.GenerationStream: nothing asked for yet>"
    next(stream)
    assert repr(stream) == "<edgeformer.GenerationStream: 2 running, 2 tokens>"
    list(stream)
    assert repr(stream) == "<edgeformer.GenerationStream: 2 stop, 13 tokens>"

    async def asynchronous() -> str:
        return repr(await model.agenerate("a", stream=True))

    assert asyncio.run(asynchronous()) == "<edgeformer.AsyncGenerationStream: nothing asked for yet>"


def test_what_a_model_is_made_of_says_what_it_is(dates):
    with edgeformer.load(dates, threads=1) as model:
        session = model.session
        assert repr(session).startswith("<edgeformer.Session: transformer encoder-decoder, n_ctx=64, threads=1, isa=")
        assert repr(model.tokenizer) == (
            f"<edgeformer.Tokenizer: {model.tokenizer.vocab_size} tokens, decoded as 'plain', "
            f"bos {model.tokenizer.bos_token_id}, ends {sorted(model.tokenizer.end_token_ids)}>"
        )
        (sequence,) = session.encode_source([model.tokenize("4 March")])
        assert repr(sequence) == "<edgeformer sequence: 0 positions after a source of 7>"
        sequence.free()
        assert "freed" in repr(sequence)
    assert repr(session) == "<edgeformer.Session: transformer encoder-decoder, closed>"
