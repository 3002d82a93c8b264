"""One sequence of tokens in a session's caches."""

from __future__ import annotations

import weakref

from ..errors import InvalidInputError
from ..host.forks import ForkSafeLock
from .cache import PageTable


class Sequence:
    """One sequence in a session's caches: a decoder's history and, for an encoder-decoder, its source.

    `lock` is the session's: page counts change under it. Pages go back by `free`, or when the sequence is collected.
    """

    def __init__(self, tables: dict[str, PageTable], lock: ForkSafeLock, source_length: int = 0) -> None:
        self.tables, self._lock = tables, lock
        self.source_length = source_length
        self._finalizer = weakref.finalize(self, release, list(tables.values()))
        self._finalizer.atexit = False

    @property
    def length(self) -> int:
        """Positions in the decoder's cache."""
        return self.tables["self"].length

    def fork(self) -> Sequence:
        """A sequence with the same past; pages are shared until one of the two writes."""
        with self._lock:
            tables = {name: table.fork() for name, table in self.tables.items()}
        return Sequence(tables, self._lock, self.source_length)

    def truncate(self, length: int) -> None:
        """Forgets the positions from `length` on."""
        if not 0 <= length <= self.length:
            raise InvalidInputError(f"cannot truncate a sequence of {self.length} positions to {length}")
        with self._lock:
            self.tables["self"].truncate(length)

    def free(self) -> None:
        """Gives the pages back; the sequence cannot be used afterwards."""
        self._finalizer()


def release(tables: list[PageTable]) -> None:
    """Empties page tables, from any thread and from finalizers."""
    for table in tables:
        pages, table.pages, table.length = table.pages, [], 0
        table.pool.release_later(pages)
