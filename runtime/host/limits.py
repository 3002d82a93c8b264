"""What this machine is, and what it leaves a process: memory and threads, now.

A process belongs to control groups (cgroups), of version 1 or 2, each inside another. Every group on the way to the
root limits it, so a limit of a service (systemd's MemoryMax=, CPUQuota=) or of a container counts wherever it is set.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .._kernels import core

CGROUPS, PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self")
# Of each version: the files of a group that limit memory, the one that says what it uses, and how memory.stat calls
# cached pages of files that can be dropped at once.
MEMORY_FILES = {
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
}


def page_size() -> int:
    """Bytes of a page of memory: what the system maps, and a cache of keys and values grows by."""
    return os.sysconf("SC_PAGE_SIZE")


def total_memory() -> int:
    """Bytes of memory that the machine has, whoever uses them."""
    return os.sysconf("SC_PHYS_PAGES") * page_size()


def available_memory() -> int:
    """Bytes that this process may still take: the least of what the system, its control groups and its limits leave.

    Cached pages of files that a group can drop at once count as free. Of the limits on addresses and data half is left
    to the stacks of threads and to Python.
    """
    return min([_system_memory(), *_in_groups("memory", _group_memory), *_resource_memory()])


def default_threads() -> int:
    """How many threads to use when nobody says: the CPUs that this process may run on, the quotas of its control groups
    rounded up, and ``OMP_NUM_THREADS``, whichever is least.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        count = min(count, int(wanted))
    return max(1, min(count, core.MAX_THREADS, *map(math.ceil, _in_groups("cpu", _group_cpus))))


def _in_groups(controller: str, read: Callable[[Path, int], Any]) -> list[Any]:
    """What `read` finds in the control groups of this process, where it finds anything."""
    found = [read(group, version) for group, version in _groups(controller)]
    return [value for value in found if value is not None]


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The folder of every control group that may limit this process, the root first, and the version of its files."""
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if not controllers or controller in controllers.split(","):
            folder = CGROUPS / controller if controllers else CGROUPS
            yield folder, 1 if controllers else 2
            for part in path.split("/"):
                if part not in ("", ".."):  # "..": the group lies outside of what this process can see
                    folder = folder / part
                    yield folder, 1 if controllers else 2


def _number(path: Path) -> int | None:
    """The number in a file; None where it says "max", or there is no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _group_memory(group: Path, version: int) -> int | None:
    """Bytes that one control group leaves; None where it sets no limit."""
    names, usage, cached = MEMORY_FILES[version]
    limits = [limit for name in names if (limit := _number(group / name)) is not None]
    used = _number(group / usage)
    if not limits or used is None:
        return None
    return max(min(limits) - used + _statistic(group / "memory.stat", cached), 0)


def _statistic(path: Path, name: str) -> int:
    """A number of a file with lines "name number"; 0 where it has none of that name."""
    try:
        _, found, rest = f"\n{path.read_text()}".partition(f"\n{name} ")  # lines are many, and asked for at every load
        return int(rest.split(None, 1)[0]) if found else 0
    except (OSError, ValueError, IndexError):
        return 0


def _group_cpus(group: Path, version: int) -> float | None:
    """CPUs' worth of time that one control group grants; None where it sets no quota."""
    try:
        if version == 1:
            texts = [(group / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        else:
            texts = (group / "cpu.max").read_text().split()
        quota, period = (int(text) for text in texts)
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return quota / period if quota > 0 and period > 0 else None


def _system_memory() -> int:
    """Bytes that the system can give without swapping."""
    available = _statistic(Path("/proc/meminfo"), "MemAvailable:") * 1024
    return available or total_memory()


def _resource_memory() -> list[int]:
    """Bytes that the limits of this process on its addresses and its data leave."""
    left = []
    for kind, column in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            left.append(max(soft - _used_memory(column), 0) // 2)
    return left


def _used_memory(column: int) -> int:
    """Bytes of this process by a column of statm: 0 is all its addresses, 5 its data and stack. 0 where nobody says."""
    try:
        return int((PROCESS / "statm").read_text().split()[column]) * page_size()
    except (OSError, ValueError, IndexError):
        return 0
