"""The machine: what it is, and what it can do at best, measured beside the figures.

Peaks are operations from registers alone (two a multiply-add), reading is of memory many times any cache; both on one
thread and on all. Of several tries the best counts: a limit is what is never exceeded. One thread is timed by its own
clock, which stops while the system runs something else.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

from edgeformer._kernels import core
from edgeformer.tools.machine import cpu_name

from .rows import READ_BYTES
from .token_ids import seconds

TRIES = 12
TRY_SECONDS = 0.02
FIRST_ROUNDS, MOST_ROUNDS = 1 << 10, 1 << 22
CHUNKS = 16


def facts() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "isa": core.isa_names(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def clock_for(pool: core.Pool | None) -> Callable[[], float]:
    """The clock of what a pool runs, or this thread alone."""
    return time.thread_time if pool is None else time.perf_counter


def peak(isa: str, kind: str, pool: core.Pool | None = None, tries: int = TRIES) -> float:
    """Operations a second of an instruction set ("int8", "int4" or "float32"), on the pool's threads or this one."""
    chunks, clock = 1 if pool is None else CHUNKS, clock_for(pool)

    def count(rounds: int) -> float:
        counted: list[int] = []
        taken = seconds(lambda: counted.append(core.count_products(isa, kind, rounds, chunks, pool)), clock)
        return 2 * counted[0] / taken

    first = seconds(lambda: core.count_products(isa, kind, FIRST_ROUNDS, chunks, pool), clock)
    rounds = max(FIRST_ROUNDS, min(MOST_ROUNDS, int(FIRST_ROUNDS * TRY_SECONDS / first)))
    return max(count(rounds) for _ in range(tries))


def read_bandwidth(memory: core.ReadBuffer, pool: core.Pool | None = None) -> float:
    """Bytes a second."""
    return memory.nbytes / min(seconds(lambda: memory.checksum(None, pool), clock_for(pool)) for _ in range(TRIES))


def measure(threads: int) -> dict[str, Any]:
    """Both limits: `{"read_bandwidth": {threads: bytes/s}, "peaks": {isa: {kind: {threads: operations/s}}}}`."""
    memory = core.ReadBuffer(READ_BYTES)
    pools = {"1": None, str(threads): core.Pool(threads)} if threads > 1 else {"1": None}
    return {
        "read_bandwidth": {name: read_bandwidth(memory, pool) for name, pool in pools.items()},
        "peaks": {
            isa: {kind: {name: peak(isa, kind, pool) for name, pool in pools.items()} for kind in core.COUNT_KINDS}
            for isa in core.isa_names()
        },
    }


def lines(measured: dict[str, Any]) -> list[str]:
    """A measurement for people."""
    reading = ", ".join(f"{value / 1e9:.1f} GB/s on {name}" for name, value in measured["read_bandwidth"].items())
    found = [f"threads and limits: reads {reading}"]
    for isa, kinds in measured["peaks"].items():
        shown = (
            f"{kind} " + "/".join(f"{value / 1e9:.0f}" for value in values.values()) for kind, values in kinds.items()
        )
        found.append(f"  {isa}: Gop/s on {'/'.join(measured['read_bandwidth'])} threads: {', '.join(shown)}")
    return found
