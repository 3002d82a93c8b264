"""`agenerate`: the same results as `generate`, without holding up the event loop, and cancellation that waits."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

import pytest
from edgeformer.errors import InvalidOptionError
from support.bigram import FakeSession, model_of, says


def story() -> FakeSession:
    return FakeSession(says("abcdefghij"))


def slow_story(entered: threading.Event) -> FakeSession:
    """Every step takes a while, and `entered` tells that the first has begun."""
    session = story()

    def wait() -> None:
        entered.set()
        time.sleep(0.02)

    session.before_step = wait
    return session


def test_a_coroutine_with_the_same_result():
    model = model_of(story())
    assert inspect.iscoroutinefunction(model.agenerate)
    assert asyncio.run(model.agenerate("a")).text == "bcdefghij"
    results = asyncio.run(model.agenerate(["a", "h"], max_tokens=2))
    assert [result.text for result in results] == ["bc", "ij"]


def test_several_at_once():
    model = model_of(story())

    async def several() -> list[str]:
        return [result.text for result in await asyncio.gather(*(model.agenerate(letter) for letter in "abcd"))]

    assert asyncio.run(several()) == ["bcdefghij", "cdefghij", "defghij", "efghij"]


def test_the_event_loop_goes_on_meanwhile():
    model = model_of(slow_story(threading.Event()))

    async def count() -> int:
        task, ticks = asyncio.ensure_future(model.agenerate("a")), 0
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks

    assert asyncio.run(count()) > 10


def test_an_asynchronous_stream():
    model = model_of(story())

    async def collect() -> tuple[list[str], str]:
        stream = await model.agenerate("a", stream=True)
        return [chunk.text async for chunk in stream], stream.result.text

    pieces, text = asyncio.run(collect())
    assert "".join(pieces) == text == "bcdefghij"
    assert len(pieces) == 10


def test_leaving_an_asynchronous_stream_early():
    session = story()

    async def leave() -> str:
        async with await model_of(session).agenerate("a", stream=True) as stream:
            async for chunk in stream:
                assert session.live == 1
                return chunk.text
        return ""

    assert asyncio.run(leave()) == "b"
    assert (session.live, session.steps) == (0, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_stops_the_model_and_waits_for_it(stream):
    entered = threading.Event()
    session = slow_story(entered)

    async def use(model) -> None:
        result = await model.agenerate("a", stream=stream)
        if stream:
            async for _ in result:
                pass

    async def cancel() -> int:
        task = asyncio.ensure_future(use(model_of(session)))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session.live == 0
        steps = session.steps
        await asyncio.sleep(0.06)
        assert session.steps == steps
        return steps

    assert asyncio.run(cancel()) <= 2


def test_errors_come_out_of_the_coroutine():
    model = model_of(story())
    with pytest.raises(InvalidOptionError):
        asyncio.run(model.agenerate("a", tempo=1))
