"""The paged key-value cache's books: which page holds which positions of which sequence.

Pages hold sixteen positions and are counted: a fork shares them, and a sequence that writes into a shared page gets a
copy of it first. Where all attention looks back through a window, pages that no later row sees are given back. The
pages' memory is `core.Cache`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from .._kernels import core
from ..errors import NotEnoughMemoryError

PAGE, SPAN = core.PAGE, core.SPAN  # positions; spans, whose borders results depend on, are whole pages
KV_TYPES = {"f32": core.EF_F32, "f16": core.EF_F16, "q8_0": core.EF_Q8_0}  # of keys and values


def pages_of(positions: int) -> int:
    """Pages that hold so many positions of one sequence."""
    return -(-positions // PAGE)


def first_pages(lengths: Iterable[int]) -> list[list[int]]:
    """Pages of sequences that are forgotten after a run: from the first on, one sequence after the other."""
    ends = list(accumulate(pages_of(length) for length in lengths))
    return [list(range(begin, end)) for begin, end in zip([0, *ends], ends, strict=False)]


class PagePool:
    """Free pages and reference counts of one cache. Used under the session's lock, but for `release_later`."""

    def __init__(self, memory: core.Cache) -> None:
        self.memory = memory
        self._free = list(range(memory.num_pages - 1, -1, -1))
        self._references = np.zeros(memory.num_pages, np.int32)
        self._released: deque[list[int]] = deque()

    @property
    def num_free(self) -> int:
        """Pages that can be allocated."""
        self._collect()
        return len(self._free)

    def allocate(self) -> int:
        """A page of one's own.

        Raises
        ------
        NotEnoughMemoryError
            Every page is held by some sequence.
        """
        self._collect()  # first of all, so that pages that were in use lately, warm and paid for, are used again
        if not self._free:
            held = self.memory.num_pages * self.memory.page_bytes
            raise NotEnoughMemoryError(
                "every page of the key-value cache is in use; close other generations, ask for fewer sequences or "
                "beams at a time, or load with a larger max_memory",
                held + self.memory.page_bytes,
                held,
            )
        page = self._free.pop()
        self._references[page] = 1
        return page

    def share(self, pages: list[int]) -> None:
        """One more holder of each page."""
        self._references[pages] += 1

    def release(self, pages: list[int]) -> None:
        """One holder less of each page."""
        for page in pages:
            self._references[page] -= 1
            if self._references[page] == 0:
                self._free.append(page)

    def release_later(self, pages: list[int]) -> None:
        """As `release`, from any thread and from a finalizer: taken at the next allocation."""
        self._released.append(pages)

    def _collect(self) -> None:
        while self._released:
            pages = self._released[0]
            while pages:
                self.release([pages.pop()])  # in this order Ctrl-C may lose a page, and never gives one back twice
            self._released.popleft()

    def is_shared(self, page: int) -> bool:
        """Whether somebody else holds the page, too."""
        return bool(self._references[page] > 1)


def windowed_pages(n_ctx: int, window: int, rows: int) -> int:
    """The most pages that one sequence of `n_ctx` positions holds of a cache with a window, fed `rows` at a time.

    A window and the rest of a span before the rows of a run; the same again before a call of several runs, for its
    undoing; and a page of which both have a copy.
    """
    return pages_of(min(n_ctx, rows + 2 * (window + SPAN + PAGE))) + 1


class PageTable:
    """The pages of one sequence in one cache.

    Parameters
    ----------
    pool : PagePool
    window : int
        A row sees so many positions at most, its own the last of them; 0: all.

    Attributes
    ----------
    length : int
        Positions so far.
    held : tuple of (int, list of int)
        `first` and `pages`: one object, so that Ctrl-C finds both changed or neither.
    """

    def __init__(self, pool: PagePool, window: int = 0) -> None:
        self.pool, self.window, self.length = pool, window, 0
        self.held: tuple[int, list[int]] = 0, []

    @property
    def first(self) -> int:
        """The first position that is kept, where a span begins."""
        return self.held[0]

    @property
    def pages(self) -> list[int]:
        """The pages from there on."""
        return self.held[1]

    @property
    def least_length(self) -> int:
        """What it can be truncated to, beside nothing: from there on rows see positions that are kept."""
        return self.first + self.window - 1 if self.first else 0

    def extend(self, count: int) -> None:
        """Makes room for `count` more positions, which become part of the length; on failure nothing has changed.

        Gives back what they do not see, which they would not if they were forgotten and others came.
        """
        if self.window:
            self._drop()
        first, pages = self.held
        before = len(pages)
        try:
            while first + len(pages) * PAGE < self.length + count:
                pages.append(self.pool.allocate())
            self._own_page_of(self.length - first, before)
        except BaseException:  # Ctrl-C, too
            self._keep(before)
            raise
        self.length += count

    def _drop(self) -> None:
        first, pages = self.held
        count = max(self.length + 1 - self.window - first, 0) // SPAN * (SPAN // PAGE)
        if count:
            self.held = first + count * PAGE, pages[count:]
            self.pool.release(pages[:count])

    def _own_page_of(self, offset: int, num_old: int) -> None:
        index, pages = offset // PAGE, self.pages
        if index < num_old and self.pool.is_shared(pages[index]):
            shared, mine = pages[index], self.pool.allocate()
            self.pool.memory.copy_page(shared, mine)
            pages[index] = mine
            self.pool.release([shared])

    def fork(self) -> PageTable:
        """A table of the same positions, every page shared."""
        other = PageTable(self.pool, self.window)
        other.held, other.length = (self.first, list(self.pages)), self.length
        self.pool.share(other.pages)
        return other

    def truncate(self, length: int) -> None:
        """Forgets the positions from `length` on, which is 0 or not below `least_length`."""
        self.length = length
        self._keep(pages_of(length - self.first) if length else 0)
        if length == 0:
            self.held = 0, []

    def restore(self, other: PageTable) -> None:
        """Becomes what `other`, a fork from before, is; that has nothing afterwards."""
        gone = self.pages
        self.length, self.held = other.length, other.held
        other.length, other.held = 0, (0, [])
        self.pool.release(gone)

    def _keep(self, count: int) -> None:
        """Gives all but the first `count` pages back: once they are no longer listed here, so that none which is listed
        can become somebody else's, whenever Ctrl-C comes.
        """
        gone = self.pages[count:]
        del self.pages[count:]
        self.pool.release(gone)
