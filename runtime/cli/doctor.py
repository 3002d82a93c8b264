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
    from ..host.limits import available_memory, default_threads
    from ..jit.functions import numba_wanted
    from ..tools.benchmark import cpu_name

    versions = _versions()
    return {
        "edgeformer": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "isa": core.best_isa(),
        "isa_runnable": core.isa_names(),
        "isa_compiled": core.compiled_isa_names(),
        "cores": os.cpu_count(),
        "cores_allowed": _affinity(),
        "threads": default_threads(),
        "memory_available": available_memory(),
        "numba": numba_wanted(),
        "versions": versions,
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "executable": sys.executable,
    }


def doctor(json: options.Json = False) -> None:
    """Show what edgeformer finds here: processor, instruction sets, cores, memory, versions.

    Paste its output into a bug report.

    Example: edgeformer doctor
    """
    found = diagnose()
    if json:
        print_json(found)
        return
    rows: list[tuple[str, object]] = []
    for name, value in found.items():
        if name == "memory_available":
            value = human_bytes(value)
        elif name == "numba":
            value = "yes" if value else "no: norms run as C, with the same bits"
        elif isinstance(value, dict):
            value = ", ".join(f"{key} {item or 'absent'}" for key, item in value.items()) or "nothing set"
        elif isinstance(value, list):
            value = ", ".join(value)
        rows.append((name.replace("_", " "), value))
    print_rows("edgeformer doctor", ("", ""), rows)
