"""Time edgeformer beside its peers on this machine.

    python bench rows                                     what there is
    python bench run all --peer-python P --models FOLDER --json OUT.json [--plot OUT.svg]
    python bench run 'prefill-1b-*' minilm ...            by name or group
    python bench kernels [--types q4_0 ...]               the large products against the peak
    python bench instructions [--keep]                    counts of fixed work, against those that were kept
    python bench machine                                  the two limits of this machine
    python bench roofline REPORT.json OUT.svg             where prompt and decode stand between the limits
    python bench plot REPORT.json OUT.svg                 ratios beside their goals
    python bench page [--check]                           the page of kept results
    python bench compare OLD.json NEW.json                what changed beyond the noise; exit status 1 if for the worse

README.md beside this file says how every figure is taken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import commands
from .report import ReportError


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of `run`."""
    parser.add_argument("rows", nargs="+", help="names or groups of rows, * allowed, or all")
    parser.add_argument("--models", type=Path, required=True, help="folder of the model files; missing ones are made")
    parser.add_argument("--peer-python", help="interpreter with the peers")
    parser.add_argument("--avx2-peer-python", help="interpreter with llama-cpp-python built for AVX2 alone")
    parser.add_argument("--test-models", type=Path, help="folder with minilm-expected (default EDGEFORMER_TEST_MODELS)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file, after every row")
    parser.add_argument("--plot", type=Path, help="draw the ratios into this SVG or PNG file")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each runtime (default 5)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=240, help="seconds that an answer may take (default 240)")
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prompt (default 512)")
    parser.add_argument("--long-prefill", type=int, default=4096, help="tokens of the long prompt (default 4096)")
    parser.add_argument("--decode", type=int, default=64, help="tokens to decode (default 64)")
    parser.add_argument("--encoder-types", default="i8_row,q8_0", help="our types of MiniLM; the faster counts")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command and its options."""
    parser = argparse.ArgumentParser(
        prog="python bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(dest="command", required=True)
    parsers.add_parser("rows", help="list the rows and their goals")
    add_run_options(parsers.add_parser("run", help="time rows"))
    kernels = parsers.add_parser("kernels", help="time large products on one thread")
    kernels.add_argument("--types", nargs="*", default=["*"], help="block types, * allowed (default: all)")
    kernels.add_argument("--rounds", type=int, default=5)
    instructions = parsers.add_parser("instructions", help="count instructions of fixed work, compare with kept counts")
    instructions.add_argument("--keep", action="store_true", help="write the counts to bench/results/instructions.json")
    instructions.add_argument("--python", help="the interpreter whose edgeformer is counted (default: this one)")
    machine = parsers.add_parser("machine", help="measure the machine")
    machine.add_argument("--threads", type=int, default=2)
    for name in ("roofline", "plot"):
        picture = parsers.add_parser(name, help="draw a report")
        picture.add_argument("report", type=Path)
        picture.add_argument("picture", type=Path, help="SVG or PNG")
    page = parsers.add_parser("page", help="make bench/results/README.md from the JSON files beside it")
    page.add_argument("--check", action="store_true", help="only say whether it is what they give")
    compare = parsers.add_parser("compare", help="find regressions between two reports")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    return parser.parse_args(arguments)


def main() -> None:
    """Run the command; the exit status says whether all went well."""
    options = parse(sys.argv[1:])
    try:
        sys.exit(getattr(commands, options.command)(options))
    except ReportError as error:
        sys.exit(f"bench: {error}")
