"""Instructions of fixed small work, counted by callgrind and compared with counts that were kept.

Counts do not depend on the machine or on its neighbours: instruction sets are forced, valgrind's own CPU is seen, one
thread runs. They depend on the compiler (`kernels`: instructions of the C files) and on Python and NumPy (`all`), so
counts are compared only where these are the same.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .instructions_work import ROWS
from .peers import module_command, tail
from .report import ReportError

KEPT = Path(__file__).resolve().parent / "results" / "instructions.json"
TOLERANCE = 0.01
NOT_COMPARED = 3  # exit status
C_FILES = "include/edgeformer/"
PER_ISA = {
    "avx2": [name for name in ROWS if name not in ("prompt of 4, q4_0", "2 tokens, q4_0")],
    "scalar": ["prompt of 4, q4_0", "2 tokens, q4_0", "2 tokens, f32", "encoder-decoder, 4 sources, q8_0"],
}
VERSIONS = """
import importlib.metadata as m, json, platform
from edgeformer._kernels import core
print(json.dumps({"module": core.__file__, "python": platform.python_version(), "numpy": m.version("numpy"),
                  "tokenizers": m.version("tokenizers")}))
"""
Counts = dict[str, dict[str, int]]


class MissingProgramError(Exception):
    """A program that counting needs is not installed; the message names it."""


def output_of(command: list[str], environment: dict[str, str] | None = None) -> str:
    """What a program prints.

    Raises
    ------
    MissingProgramError
        There is no such program.
    ReportError
        It failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise MissingProgramError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise ReportError(f"{' '.join(command[:6])}: {tail(done.stderr)}")
    return done.stdout.strip()


def made_with(python: str) -> dict[str, str]:
    """What the counts depend on."""
    versions: dict[str, str] = json.loads(output_of([python, "-c", VERSIONS]))
    comment = output_of(["readelf", "-p", ".comment", versions.pop("module")])
    versions["compiler"] = "; ".join(line.split("]", 1)[1].strip() for line in comment.splitlines() if "]" in line)
    return versions | {"valgrind": output_of(["valgrind", "--version"])}


def write_files(folder: Path) -> None:
    """The models of the rows: layers of the 135M shape, an encoder of MiniLM's width, the demo's encoder-decoder."""
    from edgeformer import tools
    from edgeformer.converters import convert

    from .model_files import write_encoder, write_model

    for type_name in ("q4_0", "q8_0", "f32"):
        write_model("llama-135m-3-layers", type_name, folder / f"llama-{type_name}.gguf")
    write_encoder("i8_row", folder / "encoder-i8_row.gguf")
    convert(Path(tools.__file__).parent / "demo", folder / "dates.gguf", type="q8_0")


def count(python: str, isa: str, names: list[str], folder: Path) -> Counts:
    """Instructions of every row on an instruction set.

    Raises
    ------
    MissingProgramError, ReportError
    """
    out = folder / f"callgrind.{isa}"
    command, environment = module_command(python, "instructions_work", str(folder), *names)
    environment |= {"EDGEFORMER_ISA": isa, "EDGEFORMER_NUMBA": "0", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    valgrind = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getpgid",
                "--compress-strings=no"]  # fmt: skip
    output_of([*valgrind, *command], environment)
    # A part ends at each mark: the work of row i lies in part 2 i + 2.
    return {f"{isa}: {name}": read_part(Path(f"{out}.{2 * i + 2}")) for i, name in enumerate(names)}


def read_part(path: Path) -> dict[str, int]:
    """A part of callgrind's counts: `all` instructions, and those of the C files (`kernels`)."""
    counted = {"all": 0, "kernels": 0}
    for file, cost in costs(path.read_text().splitlines()):
        counted["all"] += cost
        counted["kernels"] += cost if C_FILES in file else 0
    return counted


def costs(lines: list[str]) -> Iterator[tuple[str, int]]:
    """The function's source file and the own cost of every line of callgrind's format; what is called counts itself."""
    file, called = "", False
    for line in lines:
        if line.startswith("fl="):
            file = line[3:]
        elif line.startswith("calls="):
            called = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not called:
                yield file, int(line.split()[-1])
            called = False


def counted(python: str) -> dict[str, Any]:
    """The document that is kept: what the counts were made with, and all rows.

    Raises
    ------
    MissingProgramError, ReportError
    """
    versions = made_with(python)
    found: Counts = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        for isa, names in PER_ISA.items():
            found |= count(python, isa, names, folder)
    created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    return {"schema": "edgeformer-instructions", "version": 1, "created": created, "made_with": versions, "rows": found}


def differing(old: dict[str, str], new: dict[str, str], names: tuple[str, ...]) -> str:
    """What the counts depend on and is not the same, in words."""
    return ", ".join(f"{name} {new[name]}, kept with {old[name]}" for name in names if new[name] != old[name])


def comparable(old: dict[str, str], new: dict[str, str]) -> tuple[list[str], list[str]]:
    """The columns that may be compared, and why the others may not."""
    reasons = {"kernels": differing(old, new, ("compiler", "valgrind")),
               "all": differing(old, new, ("compiler", "valgrind", "python", "numpy", "tokenizers"))}  # fmt: skip
    columns = [column for column, reason in reasons.items() if not reason]
    return columns, [f"{column}: not compared ({reason})" for column, reason in reasons.items() if reason]


def differences(old: Counts, new: Counts, columns: list[str]) -> list[str]:
    """Rows that are only in one of the two, or differ by more than the tolerance."""
    found = [f"{name}: {'not kept' if name in new else 'not counted'}" for name in sorted(old.keys() ^ new.keys())]
    for name in (name for name in new if name in old):
        for column in columns:
            before, now = old[name][column], new[name][column]
            if abs(now - before) > TOLERANCE * before:
                found.append(f"{name}: {column} {before:,} before, {now:,} now ({now / before - 1:+.1%})")
    return found


def table(rows: Counts, kept: Counts) -> str:
    """A line for each row, in millions, and the change of each column where counts were kept."""
    lines = []
    for name, row in rows.items():
        old = kept.get(name)
        shown = (f"{column} {value / 1e6:9.2f} M" + (f" {value / old[column] - 1:+7.2%}" if old and old[column] else "")
                 for column, value in row.items())  # fmt: skip
        lines.append(f"{name:52} {'  '.join(shown)}")
    return "\n".join(lines)


def run(python: str | None, keep: bool, path: Path = KEPT) -> int:
    """Count and compare, or keep; the exit status.

    Returns
    -------
    int
        0: nothing differs, or the counts were kept. 1: something differs by more than 1 %. 3: there was nothing to
        count or to compare with, and a line says why.

    Raises
    ------
    ReportError
        The work failed.
    """
    if shutil.which("valgrind") is None:
        print("not counted: valgrind is not installed")
        return NOT_COMPARED
    try:
        new = counted(python or sys.executable)
    except MissingProgramError as error:
        print(f"not counted: {error}")
        return NOT_COMPARED
    old = json.loads(path.read_text()) if path.exists() else {"made_with": {}, "rows": {}}
    print(table(new["rows"], old["rows"]))
    if keep:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(new, indent=1) + os.linesep)
        return 0
    if not old["rows"]:
        print(f"not compared: there is no {path}; --keep writes it")
        return NOT_COMPARED
    columns, notes = comparable(old["made_with"], new["made_with"])
    found = differences(old["rows"], new["rows"], columns) if columns else []
    print("\n".join([*notes, *found]) or f"every count is within {TOLERANCE:.0%} of those kept on {old['created']}")
    if found:
        print("a change that is meant is kept with --keep, in the commit that makes it")
    return 1 if found else 0 if columns else NOT_COMPARED
