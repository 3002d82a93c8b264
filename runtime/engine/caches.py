"""All caches of a loaded model: by name for the programs, by lifetime for everybody else."""

from __future__ import annotations

from collections.abc import Mapping

from .._kernels import core
from ..graph.graph import PASS, CacheSpec
from ..host.forks import fork_safe_lock
from .cache import PagePool, PageTable


class Caches:
    """The memory of every cache, the books of those that outlive a run, and the lock under which these change.

    Parameters
    ----------
    specs : mapping of str to CacheSpec
    memories : mapping of str to core.Cache
    contexts : int
        Whole contexts that all caches which outlive a run have pages for.
    windows : mapping of str to int
        How many positions rows see of those that all attention sees a window of.

    Attributes
    ----------
    run_pages : int or None
        Pages that the sequences of one run share in a cache that is forgotten after it; None where there is none.
    """

    def __init__(
        self,
        specs: Mapping[str, CacheSpec],
        memories: Mapping[str, core.Cache],
        contexts: int,
        windows: Mapping[str, int],
    ) -> None:
        self.lock = fork_safe_lock()
        self.contexts = contexts
        self.memories, self.windows = dict(memories), dict(windows)
        self._lifetimes = {name: spec.lifetime for name, spec in specs.items()}
        of_runs = [memory.num_pages for name, memory in memories.items() if self._lifetimes[name] == PASS]
        self.run_pages = min(of_runs, default=None)
        self.pools = {name: PagePool(memory) for name, memory in memories.items() if self._lifetimes[name] != PASS}

    def tables(self, *lifetimes: str) -> dict[str, PageTable]:
        """An empty page table in each cache of these lifetimes."""
        return {
            name: PageTable(pool, self.windows.get(name, 0))
            for name, pool in self.pools.items()
            if self._lifetimes[name] in lifetimes
        }

    def of_lifetime(self, tables: Mapping[str, PageTable], lifetime: str) -> list[PageTable]:
        """Those of `tables` whose cache has this lifetime."""
        return [table for name, table in tables.items() if self._lifetimes[name] == lifetime]
