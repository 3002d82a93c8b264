"""`edgeformer doctor`: what it finds, and what it advises."""

from __future__ import annotations

import json
import os
import platform
from typing import Any

import numpy as np
import pytest
from edgeformer.cli import main
from edgeformer.cli.doctor import advice, diagnose


def test_doctor_names_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["isa"] in found["isa_runnable"] and set(found["isa_runnable"]) <= set(found["isa_compiled"])
    assert found["threads"] >= 1 and found["versions"]["numpy"] == np.__version__
    assert found["memory_total"] >= found["memory_available"] > 0
    assert found["page_size"] == os.sysconf("SC_PAGE_SIZE")
    compiler = platform.python_compiler().split()[0]
    assert found["compiler"].startswith(("GCC ", "Clang ")) or compiler not in ("GCC", "Clang")
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert found["isa"] in out and err == "" and "\n- " in out


@pytest.fixture
def healthy() -> dict[str, Any]:
    """A machine on which nothing is wrong."""
    return {
        **diagnose(),
        "compiler": "GCC 9",
        "slowed_down": [],
        "temperatures": {"cpu": 50.0},
        "governor": "intel_pstate, powersave",
        "isa": "avx2",
        "isa_runnable": ["avx2", "scalar"],
        "isa_not_compiled": [],
        "cores": 4,
        "cores_allowed": 4,
        "threads": 4,
        "memory_available": 4 << 30,
        "numba": True,
        "machine_code_folder": "/home/me/.cache",
        "versions": {"numba": "0.61", "tokenizers": "0.22"},
        "environment": {},
    }


def test_nothing_is_advised_where_all_is_well(healthy: dict[str, Any]) -> None:
    assert advice(healthy) == []


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"versions": {"numba": None, "tokenizers": "1"}, "numba": False}, "pip install numba"),
        ({"numba": False, "environment": {"EDGEFORMER_NUMBA": "0"}}, "EDGEFORMER_NUMBA=0"),
        ({"numba": False}, "refuses memory that is executable"),
        ({"machine_code_folder": None}, "EDGEFORMER_CACHE_DIR"),
        ({"versions": {"numba": "1", "tokenizers": None}}, "pip install tokenizers"),
        ({"isa": "scalar"}, "EDGEFORMER_ISA=scalar keeps this CPU from avx2"),
        ({"isa": "scalar", "isa_runnable": ["scalar"]}, "no vector instructions"),
        ({"isa_not_compiled": ["avxvnni"]}, "avxvnni, which GCC 9 did not know"),
        ({"cores_allowed": 2, "threads": 2}, "2 of 4 cores"),
        ({"threads": 1}, "quota of a control group leaves 1 threads of 4"),
        ({"threads": 1, "environment": {"OMP_NUM_THREADS": "1"}}, "OMP_NUM_THREADS leaves 1 threads of 4"),
        ({"memory_available": 100 << 20}, "Only 100.0 MiB"),
        ({"slowed_down": ["the voltage is too low now"]}, "The voltage is too low now."),
        ({"temperatures": {"cpu": 40.0, "soc": 84.6}}, "soc is at 85"),
        ({"governor": "cpufreq-dt, powersave"}, "powersave keeps the clock"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_else(healthy: dict[str, Any], change: dict[str, Any], part: str) -> None:
    [line] = advice({**healthy, **change})
    assert part in line
