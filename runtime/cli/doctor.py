"""``edgeformer doctor``"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from . import options
from .output import human_bytes, print_json, print_rows

PACKAGES = ("numpy", "numba", "llvmlite", "tokenizers", "typer", "rich")
VARIABLES = ("EDGEFORMER_ISA", "EDGEFORMER_NUMBA", "OMP_NUM_THREADS", "EDGEFORMER_CACHE_DIR", "NUMBA_CACHE_DIR")
# Instruction sets that a compiler may not know, and Linux's name for what a processor needs to run them.
FLAGS = {"avx512vnni": "avx512_vnni", "avxvnni": "avx_vnni", "avx2": "avx2", "i8mm": "i8mm", "dotprod": "asimddp"}
HOT, LITTLE_MEMORY = 80.0, 256 << 20
STEADY_DRIVERS = ("intel_pstate", "amd-pstate")  # whose "powersave" raises the clock under load


def _affinity() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def diagnose() -> dict[str, Any]:
    """What decides how models run on this machine."""
    from .. import __version__
    from .._kernels import core
    from ..host.limits import available_memory, default_threads, page_size, total_memory
    from ..jit.functions import numba_wanted
    from ..jit.store import trusted_folder
    from ..tools import machine

    versions = _versions()
    clock = machine.clock_mhz()
    return {
        "edgeformer": __version__,
        "compiler": core.compiler(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": machine.cpu_name(),
        "clock_mhz": None if clock is None else clock[0],
        "clock_most_mhz": None if clock is None else clock[1],
        "governor": machine.governor(),
        "temperatures": machine.temperatures(),
        "slowed_down": machine.slowed_down(),
        "isa": core.best_isa(),
        "isa_runnable": core.isa_names(),
        "isa_compiled": core.compiled_isa_names(),
        "isa_not_compiled": [
            name
            for name, flag in FLAGS.items()
            if flag in machine.cpu_flags() and name not in core.compiled_isa_names()
        ],
        "cores": os.cpu_count(),
        "cores_allowed": _affinity(),
        "threads": default_threads(),
        "memory_total": total_memory(),
        "memory_available": available_memory(),
        "page_size": page_size(),
        "numba": numba_wanted(),
        "machine_code_folder": None if (folder := trusted_folder()) is None else str(folder),
        "versions": versions,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "executable": sys.executable,
    }


def advice(found: dict[str, Any]) -> list[str]:
    """What of `diagnose` costs speed or is missing, and what to do about it; nothing where all is well."""
    return [*_advice_on_software(found), *_advice_on_cores(found), *_advice_on_heat(found)]


def _advice_on_software(found: dict[str, Any]) -> list[str]:
    lines = []
    if found["versions"]["numba"] is None:
        lines.append("Numba is not installed: quantizing takes longer. pip install numba")
    elif found["environment"].get("EDGEFORMER_NUMBA") == "0":
        lines.append("EDGEFORMER_NUMBA=0: quantizing takes longer. Unset it")
    elif not found["numba"]:
        lines.append("The system refuses memory that is executable, so Numba is not used: quantizing takes longer")
    elif found["machine_code_folder"] is None:
        lines.append(
            "There is no folder to keep machine code in that only this user writes to: every process compiles its own. "
            "Set EDGEFORMER_CACHE_DIR"
        )
    if found["versions"]["tokenizers"] is None:
        lines.append("tokenizers is not installed: most models cannot read text. pip install tokenizers")
    if found["isa"] != found["isa_runnable"][0]:
        lines.append(f"EDGEFORMER_ISA={found['isa']} keeps this CPU from {found['isa_runnable'][0]}. Unset it")
    elif found["isa"] == "scalar":
        lines.append("This CPU has no vector instructions that edgeformer knows: results are right and come slowly")
    if found["isa_not_compiled"]:
        names = ", ".join(found["isa_not_compiled"])
        lines.append(f"This CPU has {names}, which {found['compiler']} did not know. Build with a newer compiler")
    return lines


def _advice_on_cores(found: dict[str, Any]) -> list[str]:
    lines = []
    allowed = found["cores_allowed"] or found["cores"]
    if allowed < found["cores"]:
        lines.append(f"This process may run on {allowed} of {found['cores']} cores: taskset or a container says so")
    if found["threads"] < allowed:
        cause = "OMP_NUM_THREADS" if found["environment"].get("OMP_NUM_THREADS") else "the CPU quota of a control group"
        lines.append(f"{cause} leaves {found['threads']} threads of {allowed} cores")
    if found["memory_available"] < LITTLE_MEMORY:
        lines.append(
            f"Only {human_bytes(found['memory_available'])} of memory are left. Close programs, or load models with a "
            "smaller --n-ctx or --kv-type q8_0; `edgeformer plan` says what they take"
        )
    return lines


def _advice_on_heat(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{what[0].upper()}{what[1:]}. Look after the power supply and the cooling" for what in found["slowed_down"]
    ]
    hottest = max(found["temperatures"].items(), key=lambda item: item[1], default=None)
    if hottest is not None and hottest[1] >= HOT:
        lines.append(f"{hottest[0]} is at {hottest[1]:.0f} °C: most processors slow down from about 85. Cool it")
    driver, _, name = (found["governor"] or "").partition(", ")
    if name == "powersave" and not driver.startswith(STEADY_DRIVERS):
        lines.append("The governor powersave keeps the clock at its lowest. cpupower frequency-set -g schedutil")
    return lines


def doctor(json: options.Json = False) -> None:
    """Show what edgeformer finds here: processor, instruction sets, cores, memory, versions; and what to improve.

    Paste its output into a bug report.

    Example: edgeformer doctor
    """
    found = diagnose()
    lines = advice(found)
    if json:
        print_json({**found, "advice": lines})
        return
    print_rows("edgeformer doctor", ("", ""), ((name.replace("_", " "), _shown(name, found[name])) for name in found))
    for line in lines or ["Nothing here is in the way of speed."]:
        print(f"- {line}")


def _shown(name: str, value: Any) -> object:
    """A value of `diagnose` on one line."""
    if name in ("memory_total", "memory_available", "page_size"):
        return human_bytes(value)
    if name == "numba":
        return "yes" if value else "no: norms run as C, with the same bits"
    if name == "temperatures":
        return ", ".join(f"{sensor} {degrees:.0f} °C" for sensor, degrees in value.items()) or "not told"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item or 'absent'}" for key, item in value.items()) or "nothing set"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "not told" if value is None else value
