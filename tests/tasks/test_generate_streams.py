"""Streams of generated text, and what ends a generation early: flags, closed streams, errors."""

from __future__ import annotations

import pytest
from edgeformer._kernels import core
from edgeformer.engine.memory_plan import MAX_SEQUENCES
from edgeformer.errors import InvalidInputError
from support.bigram import FakeSession, model_of, says


def story(**options) -> FakeSession:
    return FakeSession(says("abcdefghij"), **options)


def test_a_stream_never_shows_part_of_a_stop_string():
    chunks = list(model_of(story()).generate("a", stop="efgx", stream=True))
    assert [chunk.text for chunk in chunks] == ["b", "c", "d", "efgh", "i", "j", ""]
    chunks = list(model_of(story()).generate("a", stop="efg", stream=True))
    assert [chunk.text for chunk in chunks] == ["b", "c", "d", ""]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert [token for chunk in chunks for token in chunk.token_ids] == list(b"bcdefg")


def test_streams_give_whole_characters():
    text = "é漢😀"
    chunks = list(model_of(FakeSession(says(text))).generate("", stream=True))
    assert [chunk.text for chunk in chunks if chunk.text] == ["é", "漢", "😀"]


def test_a_text_that_ends_inside_a_character_says_so():
    assert model_of(FakeSession(says("é漢"))).generate("", max_tokens=4).text == "é\ufffd"


def test_cancelling_a_long_list_ends_every_text():
    session, flag = story(), core.CancelFlag()
    session.before_step = lambda: flag.set() if session.steps == 2 else None
    results = model_of(session).generate(["a"] * 100, cancel=flag)
    assert [result.finish_reason for result in results] == ["cancelled"] * 100
    assert [result.text for result in results] == ["b"] * MAX_SEQUENCES + [""] * (100 - MAX_SEQUENCES)
    flag.clear()
    session.steps = -1000
    assert len(list(model_of(session).generate(["h"] * 100, stream=True))) == 300


def test_a_flag_that_is_set_ends_the_text():
    session, flag = story(), core.CancelFlag()
    session.before_step = lambda: flag.set() if session.steps == 4 else None
    result = model_of(session).generate("a", cancel=flag)
    assert (result.text, result.finish_reason) == ("bcd", "cancelled")
    assert session.live == 0


def test_a_stream_leaves_the_callers_flag_alone():
    flag = core.CancelFlag()
    model = model_of(story())
    with model.generate("a", stream=True, cancel=flag) as stream:
        next(stream)
    assert not flag.is_set()
    stream.cancel()
    assert not flag.is_set()
    assert model.generate("a", cancel=flag).text == "bcdefghij"


def test_the_callers_flag_ends_all_streams_that_have_it():
    flag, other = core.CancelFlag(), core.CancelFlag()
    model = model_of(story())
    streams = [model.generate("a", stream=True, cancel=cancel) for cancel in (flag, flag, other)]
    assert [next(stream).text for stream in streams] == ["b", "b", "b"]
    flag.set()
    assert [next(stream).finish_reason for stream in streams] == ["cancelled", "cancelled", None]


def test_closing_a_stream_stops_the_model():
    session = story()
    with model_of(session).generate("a", stream=True) as stream:
        assert session.steps == 0
        assert next(stream).text == "b"
        assert session.live == 1
    assert (session.live, session.steps) == (0, 1)
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text == "b"
    assert next(stream, None) is None
    stream.close()


def test_dropping_a_stream_frees_it():
    session = story()
    stream = model_of(session).generate("a", stream=True)
    next(stream)
    del stream
    assert session.live == 0


def test_cancelling_a_stream_gives_a_last_chunk():
    session = story()
    stream = model_of(session).generate("a", stream=True)
    next(stream)
    stream.cancel()
    assert [(chunk.text, chunk.finish_reason) for chunk in stream] == [("", "cancelled")]


def test_a_stream_has_the_result_of_the_call():
    model = model_of(story())
    stream = model.generate(["a", "h"], stream=True)
    texts = ["", ""]
    for chunk in stream:
        texts[chunk.index] += chunk.text
    plain = model.generate(["a", "h"])
    assert texts == [result.text for result in plain] == [result.text for result in stream.results]
    assert stream.results[0].usage == plain[0].usage
    with pytest.raises(InvalidInputError, match="2 results"):
        _ = stream.result


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_whatever_stops_a_step_nothing_is_held(error):
    session = story()

    def fail() -> None:
        if session.steps == 3:
            raise error

    session.before_step = fail
    with pytest.raises(error):
        model_of(session).generate(["a", "b"])
    assert session.live == 0
    session.before_step = lambda: None
    assert model_of(session).generate("a").text == "bcdefghij"


def test_texts_that_an_error_left_unfinished_say_so():
    session = story()
    stream = model_of(session).generate(["a", "i"], stream=True, max_tokens=5)
    for chunk in stream:
        if chunk.finish_reason is not None:
            break

    def fail() -> None:
        raise RuntimeError

    session.before_step = fail
    with pytest.raises(RuntimeError):
        next(stream)
    assert [result.finish_reason for result in stream.results] == ["error", "stop"]
