"""One sequence of tokens in a session's caches."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping

from ..errors import InvalidInputError
from ..graph.graph import SEQUENCE, SOURCE
from .cache import PageTable
from .caches import Caches


class CachedSequence:
    """A history that grows row by row and, where the model reads sources, its source.

    Pages go back by `free`, or when the sequence is collected.

    Attributes
    ----------
    caches : Caches
        Of the session that made it.
    tables : dict of str to PageTable
        The pages in each cache that outlives a run, by the cache's name.
    length : int
        Rows so far.
    source_length : int
        Rows of the source; 0 without one.
    is_free : bool
        Whether `free` was called.
    """

    def __init__(self, caches: Caches, source_length: int = 0) -> None:
        self.caches, self.source_length = caches, source_length
        self._take(caches.tables(SEQUENCE, SOURCE), 0)

    def _take(self, tables: dict[str, PageTable], length: int) -> None:
        self.tables, self.length, self.is_free = tables, length, False
        self._growing = self.caches.of_lifetime(tables, SEQUENCE)
        self._finalizer = weakref.finalize(self, release, list(tables.values()))
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "freed" if self.is_free else f"{self.length} positions"
        source = f" after a source of {self.source_length}" if self.source_length else ""
        return f"<edgeformer sequence: {state}{source}>"

    def extend(self, count: int) -> None:
        """Makes room for `count` more rows; on failure nothing has changed."""
        before = self.length
        try:
            for table in self._growing:
                table.extend(count)
            self.length = before + count
        except BaseException:  # Ctrl-C, too
            self.cut(before)
            raise

    def cut(self, length: int, kept: Mapping[str, PageTable] | None = None) -> None:
        """Forgets the rows from `length` on, under the session's lock. `kept`: what `keep` gave at that length."""
        for name, table in (kept or {}).items():
            self.tables[name].restore(table)
        for table in self._growing:
            table.truncate(min(table.length, length))
        self.length = length

    def keep(self) -> dict[str, PageTable]:
        """Forks of the tables with windows, for `cut` after several runs, which move the windows on."""
        return {name: table.fork() for name, table in self.tables.items() if table.window}

    def fork(self) -> CachedSequence:
        """A sequence with the same past; pages are shared until one of the two writes.

        Raises
        ------
        InvalidInputError
            The sequence was freed.
        """
        with self.caches.lock:
            self._check()
            other = CachedSequence.__new__(CachedSequence)
            other.caches, other.source_length = self.caches, self.source_length
            other._take({name: table.fork() for name, table in self.tables.items()}, self.length)
        return other

    def truncate(self, length: int) -> None:
        """Forgets the rows from `length` on.

        Raises
        ------
        InvalidInputError
            The sequence has fewer rows, or was freed, or the windows of the model's attention have moved on: what rows
            after `length` would see is no longer there. To 0 it can always be truncated.
        """
        with self.caches.lock:
            self._check()
            if not 0 <= length <= self.length:
                raise InvalidInputError(f"cannot truncate a sequence of {self.length} positions to {length}")
            least = max((table.least_length for table in self._growing), default=0)
            if 0 < length < least:
                raise InvalidInputError(
                    f"cannot truncate a sequence of {self.length} positions to {length}: its cache keeps a window, and "
                    f"{least} is the least; truncate to 0 and feed the beginning again, or fork before"
                )
            self.cut(length)

    def free(self) -> None:
        """Gives the pages back; the sequence cannot be used afterwards."""
        self.is_free = True  # first of all: whenever Ctrl-C comes, the pages go back now or when this is collected
        release(self.tables.values())
        self._finalizer.detach()

    def _check(self) -> None:
        if self.is_free:
            raise InvalidInputError("the sequence was freed; make a new one")


def release(tables: Iterable[PageTable]) -> None:
    """Gives back the pages of tables that nobody uses any more, from any thread and finalizer; twice is as once."""
    for table in tables:
        table.pool.release_later(table.pages)
