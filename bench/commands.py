"""The commands of `python bench`. What only reads reports imports neither edgeformer nor a peer."""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .compare import comparisons, table
from .report import Check, Report, Result, bound_of


def rows(options: argparse.Namespace) -> int:
    """List every row with its goals."""
    from . import footprint, kernel_efficiency, ranking, sampling
    from .rows import Settings, contests

    timed = [row for contest in contests(Settings(None)) for row in contest.rows]
    for row in (*timed, *ranking.ROWS, *footprint.ROWS, *sampling.ROWS, *kernel_efficiency.rows()):
        print(f"{row.name:26} {row.group:14} {', '.join(map(str, row.goals))}")
    return 0


def settings_of(options: argparse.Namespace) -> Any:
    """`rows.Settings` from the command line."""
    from .model_files import ModelFolder
    from .rows import AVX2_PYTHON, PEER_PYTHON, Settings

    options.models.mkdir(parents=True, exist_ok=True)
    test_models = options.test_models or os.environ.get("EDGEFORMER_TEST_MODELS")
    return Settings(
        ModelFolder(options.models, options.peer_python),
        options.threads,
        options.rounds,
        options.prefill,
        options.long_prefill,
        options.decode,
        tuple(options.encoder_types.split(",")),
        None if test_models is None else Path(test_models),
        options.timeout,
        pythons={PEER_PYTHON: options.peer_python, AVX2_PYTHON: options.avx2_peer_python},
    )


def results_of(patterns: list[str], settings: Any) -> Iterator[Result]:
    """Every chosen row's result, in the table's order."""
    from . import footprint, kernel_efficiency, ranking, sampling
    from .rows import chosen, contests
    from .run import run_contest

    for contest in contests(settings):
        wanted = [row for row in contest.rows if chosen(row.name, row.group, patterns)]
        if wanted:
            yield from run_contest(contest, wanted, settings)
    for rows, run in (
        (ranking.ROWS, ranking.run),
        (footprint.ROWS, footprint.run),
        (sampling.ROWS, sampling.run),
        (kernel_efficiency.rows(), kernel_efficiency.run),
    ):
        for row in rows:
            if chosen(row.name, row.group, patterns):
                yield alone(row, run, settings)


def alone(row: Any, run: Callable[[Any, Any], Result], settings: Any) -> Result:
    """A row that is no contest; where it cannot be run, a result that says why."""
    from edgeformer.errors import EdgeformerError

    from .peers import PeerError

    try:
        return run(row, settings)
    except (PeerError, EdgeformerError) as error:
        checks = [Check(goal.kind, goal.against, None, [], bound_of(goal.bound), goal.at_most) for goal in row.goals]
        return Result(row.name, row.group, "", row.work.unit, {}, checks, {"edgeformer": str(error)})


def new_report(settings: dict[str, Any], threads: int) -> Report:
    """A report with the machine measured, printed."""
    from . import machine

    measured = machine.measure(threads)
    facts = machine.facts() | {"measured": [measured]}
    print(f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts['isa'])}")
    print("\n".join(machine.lines(measured)), flush=True)
    created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Report(created, facts, settings)


def run(options: argparse.Namespace) -> int:
    """Time rows, and say which fell short or failed; 2 if there is no such row."""
    from . import machine

    settings = settings_of(options)
    kept = ("rows", "rounds", "threads", "prefill", "long_prefill", "decode", "encoder_types")
    report = new_report({name: getattr(options, name) for name in kept}, options.threads)
    for result in results_of(options.rows, settings):
        report.results.append(result)
        print(result.line(), flush=True)
        if options.json:
            report.write(options.json)
    if not report.results:
        print("no row has such a name or group; `python bench rows` lists them")
        return 2
    report.machine["measured"].append(machine.measure(options.threads))
    finish(report, options)
    return 0


def finish(report: Report, options: argparse.Namespace) -> None:
    """Say what is short of its goal; write the report and the picture."""
    short = [(result.row, check) for result in report.results for check in result.checks if check.met is False]
    checked = sum(check.met is not None for result in report.results for check in result.checks)
    print(f"\n{checked - len(short)} of {checked} goals reached" + (":" if short else ""))
    for row, check in short:
        print(f"  {row}: {check.text()}")
    if options.json:
        report.write(options.json)
    if options.plot:
        from .pictures import draw_ratios

        draw_ratios(report, options.plot)


def kernels(options: argparse.Namespace) -> int:
    """The large products of every instruction set and type."""
    from . import kernel_efficiency
    from .rows import Settings

    for row in kernel_efficiency.rows():
        if any(fnmatch.fnmatchcase(row.name.split("-", 2)[2], pattern) for pattern in options.types):
            print(kernel_efficiency.run(row, Settings(None, rounds=options.rounds)).line(), flush=True)
    return 0


def instructions(options: argparse.Namespace) -> int:
    """Count fixed work; 1 if a count differs from the kept one, 3 if there is nothing to count or compare with."""
    from . import instructions as counting

    return counting.run(options.python, options.keep)


def machine(options: argparse.Namespace) -> int:
    """Measure and print the machine."""
    new_report({}, options.threads)
    return 0


def roofline(options: argparse.Namespace) -> int:
    """Draw where the models stand."""
    from .pictures import draw_roofline

    draw_roofline(Report.read(options.report), options.picture)
    return 0


def plot(options: argparse.Namespace) -> int:
    """Draw the ratios."""
    from .pictures import draw_ratios

    draw_ratios(Report.read(options.report), options.picture)
    return 0


def page(options: argparse.Namespace) -> int:
    """Make the page of kept results, or say whether it is current."""
    from .page import write

    return write(options.check)


def compare(options: argparse.Namespace) -> int:
    """Print what changed; 1 if something is worse beyond the noise."""
    found = comparisons(Report.read(options.old), Report.read(options.new))
    print(table(found))
    return int(any(comparison.verdict == "worse" for comparison in found))
