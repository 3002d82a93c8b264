"""The threads that sessions compute with."""

from __future__ import annotations

from weakref import WeakValueDictionary

from .._kernels import core
from ..host.forks import fork_safe_lock
from ..host.limits import default_threads


class Threads:
    """A pool of threads, and whose turn it is: one run at a time, in the order in which they were asked for.

    They end with the last session that has them.
    """

    def __init__(self, count: int) -> None:
        self.turn = fork_safe_lock()
        self.pool = core.Pool(count)


_making = fork_safe_lock()
_shared: WeakValueDictionary[int, Threads] = WeakValueDictionary()  # by their number


def threads_for(count: int | None) -> Threads:
    """So many threads of one's own; without a number, those that all who gave none share.

    Two pools of all processors would spin on the same ones: whoever waits for its own threads takes the time of others.
    """
    if count is not None:
        return Threads(count)
    with _making:
        count = default_threads()
        threads = _shared.get(count)
        if threads is None:
            threads = _shared[count] = Threads(count)
        return threads
