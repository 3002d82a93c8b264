"""Locks that a fork never copies in the middle of something.

A fork copies memory but only the calling thread. If another thread were inside a session at that moment, the child
would inherit a lock that nobody opens and books that are half written. So a fork first takes every session's lock,
which waits for the run in progress, and both processes let go of them afterwards.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref

_numbers = itertools.count()
_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_held: list[ForkSafeLock] = []
_forking = threading.Lock()  # one fork at a time, so that locks are taken in one order


class ForkSafeLock:
    """A re-entrant lock for `with`; re-entrant so that a signal handler that forks does not wait for its own thread."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def fork_safe_lock() -> ForkSafeLock:
    """A new lock that forks respect."""
    lock = ForkSafeLock()
    _locks.add(lock)
    return lock


def _take_all() -> None:
    _forking.acquire()
    for lock in sorted(_locks, key=lambda lock: lock.number):
        lock.__enter__()
        _held.append(lock)


def _let_go() -> None:
    while _held:
        _held.pop().__exit__()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take_all, after_in_parent=_let_go, after_in_child=_let_go)
