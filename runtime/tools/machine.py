"""What the system tells about its processor: name, clock, heat, and whether it was slowed down."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["clock_mhz", "cpu_flags", "cpu_name", "governor", "slowed_down", "temperatures"]

SYSTEM, PROCESSOR = Path("/sys"), Path("/proc/cpuinfo")
# Bits of a Raspberry Pi's firmware; the same 16 bits higher: it happened since the machine was started.
FIRMWARE_BITS = ("the voltage is too low", "the clock is capped", "the clock is throttled", "it is close to too hot")


def _text(path: Path) -> str:
    """What a file says; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _field(*names: str) -> list[str]:
    """Values of the lines of /proc/cpuinfo that begin with one of `names`."""
    lines = [line.partition(":") for line in _text(PROCESSOR).splitlines()]
    return [value.strip() for name, _, value in lines if name.strip() in names]


def cpu_name() -> str:
    """The processor's name for people; nothing is decided by it."""
    return next(iter(_field("model name", "Model")), "") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Names that Linux has for what the processor can do."""
    return frozenset(flag for flags in _field("flags", "Features")[:1] for flag in flags.split())


def clock_mhz() -> tuple[float, float | None] | None:
    """The fastest core's clock now, and the most that it can have, in MHz; None where the system does not tell."""
    folders = sorted((SYSTEM / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    now = [int(text) / 1000 for folder in folders if (text := _text(folder / "scaling_cur_freq")).isdecimal()]
    most = [int(text) / 1000 for folder in folders if (text := _text(folder / "cpuinfo_max_freq")).isdecimal()]
    now = now or [float(value) for value in _field("cpu MHz")]
    return (max(now), max(most, default=None)) if now else None


def governor() -> str | None:
    """What sets the clock, as "driver, governor"; None where the system does not tell."""
    folder = SYSTEM / "devices/system/cpu/cpu0/cpufreq"
    found = [_text(folder / name) for name in ("scaling_driver", "scaling_governor")]
    return ", ".join(found) if all(found) else None


def temperatures() -> dict[str, float]:
    """Degrees Celsius by the sensor's name; the hottest of those that share one."""
    found: dict[str, float] = {}
    for zone in sorted((SYSTEM / "class/thermal").glob("thermal_zone*")):
        name, text = _text(zone / "type"), _text(zone / "temp")
        if name and text.lstrip("-").isdecimal():
            found[name] = max(found.get(name, -273.15), int(text) / 1000)
    return found


def slowed_down() -> list[str]:
    """What slowed the processor down, now or since the machine was started."""
    counts = (SYSTEM / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    times = max((int(text) for path in counts if (text := _text(path)).isdecimal()), default=0)
    found = [f"heat slowed a core down {times} times since the start"] if times else []
    try:
        bits = int(_text(SYSTEM / "devices/platform/soc/soc:firmware/get_throttled"), 16)
    except ValueError:  # no Raspberry Pi
        return found
    for index, what in enumerate(FIRMWARE_BITS):
        if bits >> index & 1:
            found.append(f"{what} now")
        elif bits >> index + 16 & 1:
            found.append(f"{what.replace(' is ', ' was ')} since the start")
    return found
