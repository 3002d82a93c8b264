"""The page books against a plain model: every sequence always reads back exactly what it wrote, whoever forks, cuts
and frees.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
from edgeformer.engine import cache, sequence
from edgeformer.engine.cache import PAGE, SPAN, PagePool, PageTable, pages_of
from edgeformer.engine.sequence import release
from edgeformer.engine.session import Session
from edgeformer.errors import NotEnoughMemoryError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.small_models import llama

NUM_PAGES = 24


class Memory:
    """Stands for core.Cache: pages of sixteen written values."""

    num_pages, page_bytes = NUM_PAGES, PAGE

    def __init__(self) -> None:
        self.pages = [[-1] * PAGE for _ in range(NUM_PAGES)]

    def copy_page(self, source: int, target: int) -> None:
        self.pages[target] = list(self.pages[source])


class Books(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.pool = PagePool(self.memory)  # type: ignore[arg-type]
        self.tables: list[tuple[PageTable, list[int]]] = [(PageTable(self.pool), [])]
        self.next_value = 0

    @rule(index=st.integers(0, 7), count=st.integers(1, 3 * PAGE))
    def append(self, index: int, count: int) -> None:
        table, content = self.tables[index % len(self.tables)]
        begin, pages, free = table.length, list(table.pages), self.pool.num_free
        try:
            table.extend(count)
        except NotEnoughMemoryError:
            assert table.length == begin
            if not table.window:
                assert (table.pages, self.pool.num_free) == (pages, free)
            return
        for position in range(begin, begin + count):
            self.page_of(table, position)[position % PAGE] = self.next_value
            content.append(self.next_value)
            self.next_value += 1

    def page_of(self, table: PageTable, position: int) -> list[int]:
        return self.memory.pages[table.pages[(position - table.first) // PAGE]]

    @rule(window=st.integers(1, 60))
    def begin_with_a_window(self, window: int) -> None:
        if len(self.tables) < 6:
            self.tables.append((PageTable(self.pool, window), []))

    @rule(index=st.integers(0, 7))
    def fork(self, index: int) -> None:
        table, content = self.tables[index % len(self.tables)]
        if len(self.tables) < 6:
            self.tables.append((table.fork(), list(content)))

    @rule(index=st.integers(0, 7), fraction=st.floats(0, 1))
    def truncate(self, index: int, fraction: float) -> None:
        table, content = self.tables[index % len(self.tables)]
        length = int(table.length * fraction)
        if not 0 < length < table.least_length:
            table.truncate(length)
            del content[length:]

    @rule(index=st.integers(0, 7), count=st.integers(1, 4 * PAGE))
    def append_and_undo(self, index: int, count: int) -> None:
        """Several steps, which move a window on."""
        table, _ = self.tables[index % len(self.tables)]
        kept, before = table.fork(), (table.length, table.first, list(table.pages))
        try:
            for _ in range(4):
                table.extend(count)
        except NotEnoughMemoryError:
            pass
        table.restore(kept)
        assert (table.length, table.first, table.pages, kept.pages) == (*before, [])

    @rule(index=st.integers(0, 7))
    def free(self, index: int) -> None:
        table, _ = self.tables.pop(index % len(self.tables))
        self.pool.release_later(table.pages)
        if not self.tables:
            self.tables.append((PageTable(self.pool), []))

    @invariant()
    def reads_back_what_was_written(self) -> None:
        for table, content in self.tables:
            seen = range(table.first, table.length)
            assert [self.page_of(table, p)[p % PAGE] for p in seen] == content[table.first :]
            assert len(content) == table.length and len(table.pages) == pages_of(table.length - table.first)

    @invariant()
    def windows_hold_what_the_next_row_sees_and_little_more(self) -> None:
        for table, _ in self.tables:
            next_sees = max(table.length + 1 - table.window, 0) if table.window else 0
            assert table.first <= next_sees and table.first % SPAN == 0

    @invariant()
    def every_page_is_free_or_held(self) -> None:
        held = {page for table, _ in self.tables for page in table.pages}
        assert self.pool.num_free == NUM_PAGES - len(held)


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_a_full_cache_says_what_to_do() -> None:
    table = PageTable(PagePool(Memory()))  # type: ignore[arg-type]
    with pytest.raises(NotEnoughMemoryError, match="max_memory"):
        table.extend(NUM_PAGES * PAGE + 1)
    table.extend(NUM_PAGES * PAGE)


def interrupted(call: Callable[[], object], line: int, *files: str) -> bool:
    """Runs `call`, with Ctrl-C before the given of its lines in cache.py and these files; whether there are so many."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if frame.f_code.co_filename not in (cache.__file__, *files):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
        return False
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)


OPERATIONS: dict[str, Callable[[PageTable], object]] = {
    "extend": lambda table: table.extend(2 * PAGE),
    "truncate": lambda table: table.truncate(PAGE),
    "restore": lambda table: table.restore(table.fork()),
    "release": lambda table: (release([table]), table.pool.num_free),
}


@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("window", [0, 20])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_ctrl_c_at_any_line_never_leaves_a_page_to_two(operation: str, window: int, forked: bool) -> None:
    line, went_on = 1, True
    while went_on:
        pool = PagePool(Memory())  # type: ignore[arg-type]
        table = PageTable(pool, window)
        table.extend((SPAN + 3 * PAGE if window else 3 * PAGE) + 4)
        holders = [table, table.fork()] if forked else [table]
        went_on = interrupted(partial(OPERATIONS[operation], table), line)
        other = PageTable(pool)
        other.extend(pool.num_free * PAGE)
        listed = [page for holder in (*holders, other) for page in holder.pages]
        assert all(pool._references[page] >= listed.count(page) for page in listed), line
        line += 1
    assert line > 5


def test_a_sequence_that_is_freed_gives_its_pages_back_whenever_ctrl_c_comes(tmp_path: Path) -> None:
    """At once, or when it is collected; it cannot be used afterwards."""
    session = Session.open(llama().write(tmp_path / "a.gguf"), threads=1)
    (pool,) = session._runner.caches.pools.values()
    line, before, went_on = 1, pool.num_free, True
    while went_on:
        freed = session.new_sequence()
        session.forward([(freed, list(range(20)))])
        assert pool.num_free == before - 2, line
        went_on = interrupted(freed.free, line, sequence.__file__, weakref.__file__)
        assert freed.is_free or line == 1
        del freed
        line += 1
    assert line > 3 and pool.num_free == before
