"""What the system tells about its processor, read from files as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeformer.tools import machine


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /sys, and a /proc/cpuinfo that is not there."""
    monkeypatch.setattr(machine, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr(machine, "PROCESSOR", tmp_path / "cpuinfo")
    return tmp_path / "sys"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def test_a_system_that_tells_nothing(system: Path) -> None:
    assert machine.clock_mhz() is None and machine.governor() is None
    assert machine.temperatures() == {} and machine.slowed_down() == [] and machine.cpu_flags() == frozenset()
    assert machine.cpu_name()


def test_name_and_flags_of_both_processors(system: Path) -> None:
    write(
        machine.PROCESSOR,
        "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t: fpu avx2",
    )
    assert machine.cpu_name() == "A CPU" and machine.cpu_flags() == {"fpu", "avx2"}
    write(machine.PROCESSOR, "processor\t: 0\nFeatures\t: fp asimddp\n\nModel\t\t: Raspberry Pi 5")
    assert machine.cpu_name() == "Raspberry Pi 5" and machine.cpu_flags() == {"fp", "asimddp"}


def test_clocks_come_from_the_cores_or_else_from_cpuinfo(system: Path) -> None:
    write(machine.PROCESSOR, "cpu MHz\t\t: 2100.5\ncpu MHz\t\t: 800.0")
    assert machine.clock_mhz() == (2100.5, None)
    for core, now in ((0, 600_000), (1, 1_500_000)):
        write(system / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", str(now))
        write(system / f"devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq", "2400000")
    assert machine.clock_mhz() == (1500.0, 2400.0)
    write(system / "devices/system/cpu/cpu0/cpufreq/scaling_driver", "cpufreq-dt")
    write(system / "devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave")
    assert machine.governor() == "cpufreq-dt, powersave"


def test_temperatures_are_those_of_the_hottest_sensor_of_a_name(system: Path) -> None:
    for zone, (name, value) in enumerate(
        [("cpu-thermal", "61234"), ("cpu-thermal", "70000"), ("gpu", "-1000"), ("x", "?")]
    ):
        write(system / f"class/thermal/thermal_zone{zone}/type", name)
        write(system / f"class/thermal/thermal_zone{zone}/temp", value)
    assert machine.temperatures() == {"cpu-thermal": 70.0, "gpu": -1.0}


def test_a_core_that_heat_slowed_down_is_told(system: Path) -> None:
    counts = system / "devices/system/cpu"
    write(counts / "cpu0/thermal_throttle/core_throttle_count", "0")
    assert machine.slowed_down() == []
    write(counts / "cpu1/thermal_throttle/core_throttle_count", "12")
    assert machine.slowed_down() == ["heat slowed a core down 12 times since the start"]


@pytest.mark.parametrize(
    ("bits", "told"),
    [
        ("0", []),
        ("1", ["the voltage is too low now"]),
        ("50005", ["the voltage is too low now", "the clock is throttled now"]),
        ("80000", ["it was close to too hot since the start"]),
    ],
)
def test_the_firmware_of_a_raspberry_pi_is_asked(system: Path, bits: str, told: list[str]) -> None:
    write(system / "devices/platform/soc/soc:firmware/get_throttled", bits)
    assert machine.slowed_down() == told
