"""Cycles of the integer products' loops on ARM cores, as llvm-mca models them.

usage: python bench/arm/loop_cycles.py [--cc aarch64-linux-gnu-gcc] [--mca llvm-mca] [--match NAME] [--json OUT.json]

One line for each innermost loop that multiplies eight-bit integers: instruction set, modelled core, function, products
of sixteen weight rows by thirty-two columns by one activation row that the loop does in a turn (counted from its
multiplications), instructions and cycles for each of them. The model knows widths, ports and latencies, no memory:
weights are taken to be in the first-level cache. Nothing is run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

INCLUDE = Path(__file__).resolve().parents[2] / "include"
CORES = {"neon": "cortex-a72", "dotprod": "neoverse-n1", "i8mm": "neoverse-v1"}  # n1 has the pipes of an A76
MULTIPLICATIONS = {"sdot": 16, "smmla": 32, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}  # of bytes an instruction
PRODUCT = 16 * 32
FLAGS = ["-std=gnu11", "-O3", "-fno-wrapv", "-ffp-contract=off", "-S", "-o"]
BRANCH = re.compile(r"\s+(?:b(?:\.?[a-z]{2})?|cbn?z|tbn?z)\s+(?:.*,\s*)?(\.L\w+)$")
SHORT_RUN, LONG_RUN = 100, 300  # turns; what a turn adds is free of the start


def assembly(compiler: str, isa: str) -> dict[str, list[str]]:
    """The lines of every function of isa/<isa>.c."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "isa.s"
        source = INCLUDE / "edgeformer" / "isa" / f"{isa}.c"
        subprocess.run([compiler, *FLAGS, str(out), "-I", str(INCLUDE), str(source)], check=True)
        functions: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in out.read_text().splitlines():
            named = re.match(r"(ef_\w[\w.]*):", line)
            if named:
                lines = functions.setdefault(named[1], [])
            lines.append(line.rstrip())
    return functions


def innermost_loops(lines: list[str]) -> Iterator[list[str]]:
    """Instructions between a label and a branch back to it, where no other such loop lies within."""
    labels = {line[:-1]: place for place, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    loops = [
        (labels[found[1]], place)
        for place, line in enumerate(lines)
        if (found := BRANCH.match(line)) and labels.get(found[1], place) < place
    ]
    for first, last in loops:
        if not any((first, last) != other and first <= other[0] and other[1] <= last for other in loops):
            yield [line for line in lines[first : last + 1] if re.match(r"\s+[a-z]", line)]


def products(loop: list[str]) -> float:
    """Products of sixteen by thirty-two bytes in a turn of the loop; `smull` of halves (.4h) multiplies no bytes."""
    return sum(MULTIPLICATIONS.get(line.split()[0], 0) for line in loop if ".4h," not in line) / PRODUCT


def cycles(analyzer: str, core: str, loop: list[str]) -> float:
    """Cycles that a turn of the loop takes in the long run."""
    totals: list[int] = []
    for turns in (SHORT_RUN, LONG_RUN):
        command = [analyzer, "-mtriple=aarch64-linux-gnu", f"-mcpu={core}", f"-iterations={turns}"]
        done = subprocess.run(command, input="\n".join(loop), capture_output=True, text=True, check=True)
        totals += [int(total) for total in re.findall(r"Total Cycles:\s+(\d+)", done.stdout)]
    return (totals[1] - totals[0]) / (LONG_RUN - SHORT_RUN)


def main() -> None:
    parser = argparse.ArgumentParser(description="Model the cycles of the products' loops on ARM cores.")
    parser.add_argument("--cc", default="aarch64-linux-gnu-gcc", help="a C compiler for AArch64")
    parser.add_argument("--mca", default="llvm-mca", help="llvm-mca, version 14 or later")
    parser.add_argument("--match", default="", help="only functions whose names hold this")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rows = []
    for isa, core in CORES.items():
        for function, lines in assembly(options.cc, isa).items():
            for loop in innermost_loops(lines) if options.match in function else ():
                work = products(loop)
                if work < 1:
                    continue
                row = {
                    "isa": isa,
                    "core": core,
                    "function": function,
                    "products": work,
                    "instructions": len(loop) / work,
                    "cycles": cycles(options.mca, core, loop) / work,
                }
                rows.append(row)
                print(
                    "{isa:8} {core:12} {function:36} {products:5.1f} products  {instructions:6.1f} instructions "
                    "{cycles:6.1f} cycles".format_map(row),
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps({"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
