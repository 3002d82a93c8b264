"""Generated text as it comes: the iterator behind `stream=True`, and the asynchronous faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..errors import InvalidInputError
from ..host.forks import ForkSafeLock
from ..host.memory import ShortMemory
from .results import GenerationChunk, GenerationResult

if TYPE_CHECKING:
    from .._kernels.core import CancelFlag

__all__ = ["AsyncGenerationStream", "GenerationStream", "run_in_thread"]

Result = TypeVar("Result")


def _progress_of(results: list[GenerationResult]) -> str:
    """How far the texts of a stream are, for people."""
    if not results:
        return "nothing asked for yet"
    tokens = sum(result.usage.completion_tokens for result in results)
    states = Counter(result.finish_reason or "running" for result in results)
    return f"{', '.join(f'{count} {state}' for state, count in states.items())}, {tokens} tokens"


class GenerationStream(Iterator[GenerationChunk]):
    """An iterator of chunks. Closing it, from any thread, stops the model within one token and frees its memory; so
    does dropping the last reference.

    Use it plainly, or where the loop may be left early, as ``with model.generate(..., stream=True) as stream:``
    (``contextlib.closing`` works too).

    Parameters
    ----------
    chunks : generator of GenerationChunk
    cancel : CancelFlag
        The stream's own; ends a step that is being computed.
    snapshot : callable
        Gives the results so far.
    """

    def __init__(
        self,
        chunks: Generator[GenerationChunk, None, None],
        cancel: CancelFlag,
        snapshot: Callable[[], list[GenerationResult]],
    ) -> None:
        self._chunks = chunks
        self._cancel = cancel
        self._snapshot = snapshot
        # Re-entrant, so that a signal handler that closes the stream it interrupted gets an error and no deadlock.
        self._lock = ForkSafeLock()

    def __next__(self) -> GenerationChunk:
        with self._lock, ShortMemory("generate"):
            return next(self._chunks)

    @property
    def results(self) -> list[GenerationResult]:
        """Everything so far, for each prompt, as `generate` without `stream` gives it: none before the first chunk.
        `finish_reason` is None while the stream runs, "cancelled" if it was closed early, "error" if it raised.
        """
        return self._snapshot()

    @property
    def result(self) -> GenerationResult:
        """The result so far of a stream of one prompt.

        Raises
        ------
        InvalidInputError
            If there is not exactly one: nothing was asked of the stream yet, or it has several prompts.
        """
        results = self.results
        if len(results) != 1:
            raise InvalidInputError(f"the stream has {len(results)} results; .results lists them")
        return results[0]

    def cancel(self) -> None:
        """Let the stream end within one token, with a last chunk whose `finish_reason` is "cancelled"."""
        self._cancel.set()

    def close(self) -> None:
        """Stop at once and free the memory; nothing more comes. May be called again."""
        self._cancel.set()
        with self._lock:
            self._chunks.close()

    def __repr__(self) -> str:
        return f"<edgeformer.GenerationStream: {_progress_of(self.results)}>"

    def __enter__(self) -> GenerationStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncGenerationStream(AsyncIterator[GenerationChunk]):
    """`GenerationStream` for ``async for``: every step runs in a thread of the loop's default executor."""

    def __init__(self, stream: GenerationStream) -> None:
        self._stream = stream

    @property
    def results(self) -> list[GenerationResult]:
        """See `GenerationStream.results`."""
        return self._stream.results

    @property
    def result(self) -> GenerationResult:
        """See `GenerationStream.result`."""
        return self._stream.result

    async def __anext__(self) -> GenerationChunk:
        from asyncio import CancelledError

        # StopIteration cannot pass through a future, so the end of the stream travels as None.
        try:
            chunk = await run_in_thread(lambda: next(self._stream, None), self._stream.cancel)
        except CancelledError:
            self._stream.close()
            raise
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def __repr__(self) -> str:
        return f"<edgeformer.AsyncGenerationStream: {_progress_of(self.results)}>"

    async def aclose(self) -> None:
        """Stop within one token and free the memory."""
        self._stream.cancel()
        await run_in_thread(self._stream.close, self._stream.cancel)

    async def __aenter__(self) -> AsyncGenerationStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def run_in_thread(function: Callable[[], Result], cancel: Callable[[], None]) -> Result:
    """Await `function` run in the loop's default executor. If the awaiting task is cancelled, call `cancel` and wait
    until `function` is over before the cancellation goes on: nothing is left running behind the caller's back.
    """
    import asyncio  # whoever runs coroutines has it; others need not wait for it

    future = asyncio.get_running_loop().run_in_executor(None, function)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue  # cancelled again; the thread still has to end
        if not future.cancelled():
            future.exception()  # seen: asyncio would complain of it otherwise
        raise
