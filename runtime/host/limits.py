"""What this machine leaves a process: memory, now."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def available_memory() -> int:
    """Bytes that this process may still take: the least of the system's, the cgroup's and the address space limit."""
    limits = [_meminfo_available(), _cgroup_headroom()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(max(soft - _virtual_size(), 0) // 2)  # half: threads' stacks and Python need room, too
    return min(limit for limit in limits if limit is not None)


def _meminfo_available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_headroom(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the cgroup leaves, of either version; cached file pages that it can drop at once count as free."""
    for limit, usage, statistics, cached in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            lines = (root / statistics).read_text().splitlines()
            droppable = sum(int(line.split()[1]) for line in lines if line.split()[0] == cached)
            return max(int((root / limit).read_text()) - int((root / usage).read_text()) + droppable, 0)
        except (OSError, ValueError, IndexError):  # no such controller, or "max"
            continue
    return None


def _virtual_size() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
