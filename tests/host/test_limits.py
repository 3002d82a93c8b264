"""What the machine leaves a process: control groups of both versions, made of files; affinity; the environment."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from edgeformer.host import limits
from edgeformer.quants.encode import threads as encoding_threads

GROUPS = "/system.slice/robot.service"
LINES = {1: f"7:cpu,cpuacct:/\n4:memory:{GROUPS}\n3:cpu:{GROUPS}\n1:name=systemd:/\n0::/\n", 2: f"0::{GROUPS}\n"}
MEMORY = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A process in nested control groups of a version, which limit nothing yet."""
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "cgroup").write_text(LINES[request.param])
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(limits, "PROCESS", tmp_path / "process")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(40)))
    return int(request.param)


def group_folder(version: int, controller: str, group: str) -> Path:
    folder = limits.CGROUPS / (controller if version == 1 else "") / group.strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def limit_memory(version: int, group: str, limit: str, used: int, cached: int) -> None:
    folder = group_folder(version, "memory", group)
    limit_name, used_name, cached_name = MEMORY[version]
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / used_name).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 300\n{cached_name} {cached}\nactive_file 50\n")


def limit_cpus(version: int, group: str, quota: str, period: str = "100000") -> None:
    folder = group_folder(version, "cpu", group)
    if version == 1:
        (folder / "cpu.cfs_quota_us").write_text(f"{quota.replace('max', '-1')}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    else:
        (folder / "cpu.max").write_text(f"{quota} {period}\n")


@pytest.mark.parametrize("group", ["/", "/system.slice", GROUPS])
def test_the_memory_of_every_group_on_the_way_counts(version: int, group: str) -> None:
    unlimited = limits.available_memory()
    limit_memory(version, "/", "max" if version == 2 else "9223372036854771712", 10**9, 0)
    assert limits.available_memory() > 10_000
    limit_memory(version, group, "1000", 900, 600)
    assert limits.available_memory() == 700 < unlimited
    limit_memory(version, group, "1000", 1900, 600)
    assert limits.available_memory() == 0


def test_the_least_that_a_group_leaves_counts(version: int) -> None:
    limit_memory(version, GROUPS, "4000", 1000, 0)
    limit_memory(version, "/system.slice", "9000", 7000, 0)
    assert limits.available_memory() == 2000


def test_a_group_is_slowed_down_beyond_its_high_mark(version: int) -> None:
    limit_memory(version, GROUPS, "4000", 1000, 0)
    (group_folder(version, "memory", GROUPS) / "memory.high").write_text("3500\n")
    assert limits.available_memory() == {1: 3000, 2: 2500}[version]


@pytest.mark.parametrize("group", ["/", "/system.slice", GROUPS])
def test_the_quota_of_every_group_on_the_way_counts(version: int, group: str) -> None:
    assert limits.default_threads() == 40
    limit_cpus(version, group, "max")
    assert limits.default_threads() == 40
    limit_cpus(version, group, "350000")
    assert limits.default_threads() == 4
    limit_cpus(version, group, "1000")
    assert limits.default_threads() == 1


@pytest.mark.parametrize("text", ["", "nothing", "0::", "a:b\n::\n0::/../../x\n"])
def test_odd_lists_of_groups_limit_nothing(version: int, text: str) -> None:
    (limits.PROCESS / "cgroup").write_text(text)
    assert limits.default_threads() == 40 and limits.available_memory() > 10**6
    (limits.PROCESS / "cgroup").unlink()
    assert limits.default_threads() == 40 and limits.available_memory() > 10**6


@pytest.mark.parametrize(
    ("text", "threads"), [("3", 3), ("2,1", 2), ("100000", 40), ("0", 40), ("many", 40), ("", 40), ("-1", 40)]
)
def test_the_environment_lowers_the_threads(
    version: int, text: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert limits.default_threads() == threads


def test_quantizers_take_the_same_threads_up_to_sixteen(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoding_threads.num_threads() == 16
    limit_cpus(version, GROUPS, "250000")
    assert encoding_threads.num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert encoding_threads.num_threads() == 2


def test_the_cpus_of_this_process_are_counted() -> None:
    before = os.sched_getaffinity(0)
    assert 1 <= limits.default_threads() <= len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert limits.default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_half_of_what_a_limit_of_the_process_leaves_is_available(name: str) -> None:
    limit = 2**31
    code = f"""
import resource
from edgeformer.host import limits
resource.setrlimit(resource.{name}, ({limit}, {limit}))
print(limits.available_memory())
"""
    found = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0 < found < limit // 2


def test_the_machine_is_what_the_system_says() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    [total] = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    assert limits.total_memory() == total > limits.available_memory()
    assert limits.page_size() == mmap.PAGESIZE == resource.getpagesize()
