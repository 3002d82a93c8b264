"""Count instructions per token on emulated ARM CPUs, edgeformer's and llama.cpp's.

usage: python bench/arm/count_tokens.py MODEL.gguf ... --qemu QEMU --plugin PLUGIN.so --root ROOT --python PYTHON \
           [--site FOLDER] [--llama-cpp CPU=PROGRAM ...] [--cpu CPU ...] [--json OUT.json] [--profile N]

One line for each model, CPU and work: millions of instructions a token of either, and edgeformer's over llama.cpp's.
README.md beside this file says how the programs are built. Counts are exact and repeat within a thousandth; they say
what was executed, not how long a core would take.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Count:
    """What one program executed between its marks."""

    version: str
    instructions: int
    functions: Counter[str]  # empty unless a profile was asked for


def run_counted(options: argparse.Namespace, cpu: str, program: list[str]) -> Count:
    """Run an ARM program under the emulated CPU; SystemExit with its messages where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "count"
        plugin = f"{options.plugin.resolve()},out={out}" + (",blocks=1" if options.profile else "")
        environment = os.environ | {
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONNOUSERSITE": "1",
            "NUMBA_CPU_NAME": cpu.split(",")[0],
            "PYTHONPATH": options.site,
        }
        command = [options.qemu, "-cpu", cpu, "-E", "LD_LIBRARY_PATH=", "-L", options.root, "-plugin", plugin, *program]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
        sections = out.read_text().split("mark ")
    # Loading ends with the first mark, the work with the second; blocks stand before the mark that ends their section.
    blocks, instructions = sections[1].partition("\n")[2], sections[2].split()[0]
    return Count(done.stdout.strip(), int(instructions), functions_of(blocks))


def functions_of(text: str) -> Counter[str]:
    """Instructions by function, from the plugin's `block COUNT OBJECT OFFSET` lines."""
    functions: Counter[str] = Counter()
    for line in text.splitlines():
        _, count, path, offset = line.split()
        functions[function_at(path, int(offset))] += int(count)
    return functions


@cache
def symbols(path: str) -> tuple[list[tuple[int, int, int]], list[int], list[str]]:
    """Of an object file: (file offset, address, bytes) of what is loaded, addresses of the symbols and their names."""
    headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=False).stdout
    fields = [line.split() for line in headers.splitlines() if line.strip().startswith("LOAD")]
    loads = [(int(f[1], 16), int(f[2], 16), int(f[4], 16)) for f in fields]
    listing = subprocess.run(["nm", "-n", "--defined-only", path], capture_output=True, text=True, check=False).stdout
    named = [(int(f[0], 16), f[2]) for f in map(str.split, listing.splitlines()) if f[1] in "tTwW"]
    return loads, [address for address, _ in named], [name for _, name in named]


def function_at(path: str, offset: int) -> str:
    """The function that a place in a file belongs to; the file's name where it has no symbols."""
    loads, addresses, names = symbols(path)
    for first, address, size in loads:
        if first <= offset < first + size:
            place = bisect.bisect_right(addresses, offset - first + address) - 1
            return names[place] if place >= 0 else Path(path).name
    return Path(path).name


def compare(options: argparse.Namespace, model: Path, cpu: str, work: str, tokens: int) -> dict[str, Any]:
    """One line of the table."""
    arguments = [str(model), work, str(tokens)]
    ours = [options.python, str(HERE / "edgeformer_tokens.py"), *arguments]
    counts = {"edgeformer": run_counted(options, cpu, ours)}
    if cpu in options.llama_cpp:
        counts["llama.cpp"] = run_counted(options, cpu, [options.llama_cpp[cpu], *arguments])
    figures = {name: count.instructions / tokens for name, count in counts.items()}
    row = {
        "model": model.stem,
        "cpu": cpu,
        "work": f"{work} {tokens}",
        "unit": "instructions/token",
        "figures": figures,
        "versions": {name: count.version for name, count in counts.items()},
    }
    if "llama.cpp" in figures:
        row["ratio"] = figures["edgeformer"] / figures["llama.cpp"]
    text = "  ".join(f"{name} {figure / 1e6:.2f} M" for name, figure in figures.items())
    ratio = f"  {row['ratio']:.2f}x" if "ratio" in row else ""
    print(f"{model.stem:20} {cpu:12} {row['work']:12} {text}{ratio}", flush=True)
    for name, count in counts.items():
        for function, instructions in count.functions.most_common(options.profile):
            print(f"    {name:10} {instructions / tokens / 1e6:8.3f} M  {function}")
    return row


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count instructions per token on emulated ARM CPUs.")
    parser.add_argument("models", type=Path, nargs="+", help="GGUF files")
    parser.add_argument("--qemu", required=True, help="qemu-aarch64; statically linked ones take no plugin")
    parser.add_argument("--plugin", type=Path, required=True, help="instruction_count.so")
    parser.add_argument("--root", required=True, help="folder with the ARM libraries")
    parser.add_argument("--python", required=True, help="the ARM Python (the program itself, no script)")
    parser.add_argument("--site", default="", help="folder of its packages where edgeformer is installed")
    parser.add_argument(
        "--llama-cpp", action="append", default=[], metavar="CPU=PROGRAM", help="llama_cpp_tokens built for it"
    )
    parser.add_argument("--cpu", action="append", help="emulated CPU (default cortex-a72 and cortex-a76)")
    parser.add_argument("--prefill", type=int, default=64, help="tokens of the prompt (default 64)")
    parser.add_argument("--decode", type=int, default=16, help="tokens to decode (default 16)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print the N functions that take most")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args(arguments)
    options.llama_cpp = dict(pair.split("=", 1) for pair in options.llama_cpp)
    options.cpu = options.cpu or ["cortex-a72", "cortex-a76"]
    return options


def main() -> None:
    options = parse(sys.argv[1:])
    rows = [
        compare(options, model, cpu, work, tokens)
        for model in options.models
        for cpu in options.cpu
        for work, tokens in (("prefill", options.prefill), ("decode", options.decode))
    ]
    if options.json:
        options.json.write_text(json.dumps({"results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
