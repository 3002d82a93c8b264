"""Counts of instructions: how callgrind's parts are read, and what counts as a difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("bench.instructions", reason="the benches are not beside the tests")

from bench import instructions
from bench.instructions_work import ROWS

# A function of the C files that calls memcpy (10 of its own and 3 inlined from another file), and Python's loop.
PART = """\
# callgrind format
version: 1
part: 2
desc: Trigger: --dump-before=getpgid
positions: line
events: Ir
summary: 1113

ob=/somewhere/core.so
fl=/build/include/edgeformer/kernels/rows/rows.h
fn=ef_rows
12 7
+3 3
fi=/usr/lib/gcc/avx2intrin.h
* 3
fe=/build/include/edgeformer/kernels/rows/rows.h
cfi=/libc/memcpy.S
cfn=memcpy
calls=2 40
14 1000

fl=/libc/memcpy.S
fn=memcpy
40 1000

fl=/python/ceval.c
fn=loop
9 100

totals: 1113
"""
MADE = {"compiler": "GCC 12", "valgrind": "3.19", "python": "3.11.7", "numpy": "2.0", "tokenizers": "0.23"}
KEPT = {"avx2: a": {"all": 1000, "kernels": 500}, "avx2: b": {"all": 10, "kernels": 0}}


def test_a_part_is_read_without_what_callees_count_themselves(tmp_path: Path) -> None:
    (tmp_path / "part").write_text(PART)
    assert instructions.read_part(tmp_path / "part") == {"all": 1113, "kernels": 13}


def test_more_than_a_hundredth_is_a_difference() -> None:
    both = ["kernels", "all"]
    assert instructions.differences(KEPT, KEPT, both) == []
    within = {"avx2: a": {"all": 1010, "kernels": 495}, "avx2: b": {"all": 10, "kernels": 0}}
    assert instructions.differences(KEPT, within, both) == []
    more = {"avx2: a": {"all": 1011, "kernels": 494}, "avx2: b": {"all": 10, "kernels": 0}}
    assert instructions.differences(KEPT, more, both) == [
        "avx2: a: kernels 500 before, 494 now (-1.2%)",
        "avx2: a: all 1,000 before, 1,011 now (+1.1%)",
    ]
    assert instructions.differences(KEPT, more, ["kernels"]) == ["avx2: a: kernels 500 before, 494 now (-1.2%)"]
    other = {"avx2: a": KEPT["avx2: a"], "avx2: c": {"all": 1, "kernels": 1}}
    assert instructions.differences(KEPT, other, both) == ["avx2: b: not counted", "avx2: c: not kept"]


def test_counts_are_compared_where_the_same_programs_made_them() -> None:
    assert instructions.comparable(MADE, MADE) == (["kernels", "all"], [])
    columns, notes = instructions.comparable(MADE, MADE | {"python": "3.12.1"})
    assert columns == ["kernels"] and notes == ["all: not compared (python 3.12.1, kept with 3.11.7)"]
    columns, notes = instructions.comparable(MADE, MADE | {"compiler": "Clang 19"})
    assert columns == [] and len(notes) == 2


@pytest.mark.parametrize(("kernels", "status"), [(500, 0), (506, 1)])
def test_the_exit_status_says_what_was_found(
    kernels: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = KEPT | {"avx2: a": {"all": 1000, "kernels": kernels}}
    monkeypatch.setattr(instructions.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(instructions, "counted", lambda python: {"created": "", "made_with": MADE, "rows": rows})
    path = tmp_path / "kept.json"
    assert instructions.run(None, keep=False, path=path) == instructions.NOT_COMPARED
    path.write_text(json.dumps({"created": "2026-01-31", "made_with": MADE, "rows": KEPT}))
    assert instructions.run(None, keep=False, path=path) == status
    assert ("kernels 500 before, 506 now" in capsys.readouterr().out) is bool(status)
    assert instructions.run(None, keep=True, path=path) == 0
    assert instructions.run(None, keep=False, path=path) == 0


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    assert instructions.run(None, keep=False) == instructions.NOT_COMPARED
    assert capsys.readouterr().out == "not counted: valgrind is not installed\n"


def test_the_kept_counts_have_every_row() -> None:
    kept = json.loads(instructions.KEPT.read_text())
    assert list(kept["rows"]) == [f"{isa}: {name}" for isa, names in instructions.PER_ISA.items() for name in names]
    assert {name for names in instructions.PER_ISA.values() for name in names} == set(ROWS)
