"""The paged key-value cache's books: which page holds which positions of which sequence.

Pages hold sixteen positions and are counted: a fork shares them, and a sequence that writes into a shared page gets a
copy of it first. The pages' memory is `core.Cache`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

from .._kernels import core
from ..errors import NotEnoughMemoryError

PAGE = core.PAGE  # positions
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


class PageTable:
    """The pages of one sequence in one cache."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self.pages: list[int] = []
        self.length = 0

    def extend(self, count: int) -> None:
        """Makes room for `count` more positions, which become part of the length; on failure nothing has changed."""
        before = len(self.pages)
        try:
            while len(self.pages) * PAGE < self.length + count:
                self.pages.append(self.pool.allocate())
            self._own_page_of(self.length, before)
        except BaseException:  # Ctrl-C, too
            self._keep(before)
            raise
        self.length += count

    def _own_page_of(self, position: int, num_old: int) -> None:
        index = position // PAGE
        if index < num_old and self.pool.is_shared(self.pages[index]):
            shared, mine = self.pages[index], self.pool.allocate()
            self.pool.memory.copy_page(shared, mine)
            self.pages[index] = mine
            self.pool.release([shared])

    def fork(self) -> PageTable:
        """A table of the same positions, every page shared."""
        other = PageTable(self.pool)
        other.pages, other.length = list(self.pages), self.length
        self.pool.share(other.pages)
        return other

    def truncate(self, length: int) -> None:
        """Forgets the positions from `length` on."""
        self.length = length
        self._keep(pages_of(length))

    def _keep(self, count: int) -> None:
        """Gives all but the first `count` pages back: once they are no longer listed here, so that none which is listed
        can become somebody else's, whenever Ctrl-C comes.
        """
        gone = self.pages[count:]
        del self.pages[count:]
        self.pool.release(gone)
