"""Memory that runs out in the middle of a call."""

from __future__ import annotations

from contextlib import ContextDecorator
from types import TracebackType

from ..errors import NotEnoughMemoryError


class ShortMemory(ContextDecorator):
    """Around a call, or as its decorator: what Python and NumPy raise for want of memory is a `NotEnoughMemoryError`.

    Parameters
    ----------
    what : str
        The call, as the error names it.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, MemoryError) and not isinstance(error, NotEnoughMemoryError):
            reason = str(error) or "the system gives no more memory"
            raise NotEnoughMemoryError(f"{self._what}: {reason}; take less at a time") from error
