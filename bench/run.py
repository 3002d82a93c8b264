"""Runtimes taking turns at the rows of a contest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from edgeformer.errors import EdgeformerError

from .model_files import SHAPES
from .peers import PeerError, Worker
from .report import Check, Figure, Result, bandwidth_check, fastest, ratio_check
from .rows import AVX2_PYTHON, OURS, OWN_PYTHON, PEER_PYTHON, READER, Contest, Engine, Row, Settings

PAUSE_SECONDS = 0.03  # between turns, so that the other runtime's threads stop spinning
WARM_UPS = 2


def start(engine: Engine, settings: Settings) -> Worker:
    """The engine loaded in its process.

    Raises
    ------
    PeerError
    """
    python = sys.executable if engine.python == OWN_PYTHON else settings.pythons.get(engine.python)
    if python is None:
        option = {PEER_PYTHON: "--peer-python", AVX2_PYTHON: "--avx2-peer-python"}[engine.python]
        raise PeerError(f"{option} is not given")
    try:
        options = {name: str(value()) if callable(value) else value for name, value in engine.options.items()}
    except EdgeformerError as error:
        raise PeerError(f"the model file cannot be made: {error}") from error
    return Worker(python, engine.kind, options, settings.answer_seconds)


class Field:
    """The engines of a contest that still run, and why the others do not."""

    def __init__(self, contest: Contest, settings: Settings) -> None:
        self.contest, self.settings = contest, settings
        self.workers: dict[str, Worker] = {}
        self.failures: dict[str, str] = {}
        for engine in contest.engines:
            worker = self.attempt(engine.label, lambda engine=engine: start(engine, settings))
            if worker is not None:
                self.workers[engine.label] = worker

    def attempt(self, label: str, action: Callable[[], Any]) -> Any:
        """What `action` returns; where it fails, None, and the engine takes no further part."""
        try:
            return action()
        except PeerError as error:
            self.failures[label] = str(error)
            if label in self.workers:
                self.workers.pop(label).close()
            return None

    def runners(self, row: Row) -> list[Engine]:
        """Who takes turns at a row."""
        reads = any(goal.kind == "bandwidth" for goal in row.goals)
        return [
            engine
            for engine in self.contest.engines
            if engine.label in self.workers and (reads or engine.group != READER)
        ]

    def ask(self, engine: Engine, arguments: dict[str, int], repeat: int) -> list[float]:
        """Seconds of each of `repeat` calls; empty where the engine failed."""
        request = {"run": arguments, "repeat": repeat}
        answer = self.attempt(engine.label, lambda: self.workers[engine.label].ask(request))
        return [] if answer is None else answer["seconds"]

    def close(self) -> None:
        """End every process."""
        for worker in self.workers.values():
            worker.close()


def run_contest(contest: Contest, rows: list[Row], settings: Settings) -> Iterator[Result]:
    """Load every runtime and time every row; a runtime that fails is left out from there on, and said so."""
    field = Field(contest, settings)
    try:
        for row in rows:
            yield time_row(field, row)
    finally:
        field.close()


def time_row(field: Field, row: Row) -> Result:
    """All engines at one row, in turns."""
    work = row.work
    times: dict[str, list[list[float]]] = {}
    for engine in field.runners(row):
        field.ask(engine, work.warm_up or work.arguments, WARM_UPS)
    for _ in range(field.settings.rounds):
        for engine in field.runners(row):
            time.sleep(PAUSE_SECONDS)
            seconds = field.ask(engine, work.arguments, work.repeat)
            times.setdefault(engine.label, []).append(seconds)
    figures = {
        engine.label: figure_of(engine, row, times[engine.label], field.workers[engine.label].version)
        for engine in field.runners(row)
    }
    cost = cost_of(field, row)
    shown = {label: figure for label, figure in figures.items() if figure.group != READER}
    result = Result(
        row.name,
        row.group,
        field.contest.model,
        work.unit,
        shown,
        checks_of(row, figures, cost),
        dict(field.failures),
        cost,
    )
    if READER in figures:
        result.cost["read_bandwidth"] = figures[READER].value
    return result


def figure_of(engine: Engine, row: Row, seconds: list[list[float]], version: str) -> Figure:
    """An engine's figure; the reader's in bytes a second."""
    medians = [median(one) for one in seconds]
    if engine.group == READER:
        rounds = [engine.options["nbytes"] / value for value in medians]
    else:
        rounds = [row.work.figure(value, engine.sequences) for value in medians]
    return Figure(engine.group, version, rounds, seconds)


def cost_of(field: Field, row: Row) -> dict[str, Any]:
    """What a language model's row costs: bytes of weights and tokens of a call, operations of a token.

    The matrices are the file, but for some kilobytes: the embedding is the output matrix, so decoding reads it whole. A
    prompt needs the output matrix for its last token alone.
    """
    contest = field.contest
    if not contest.shape:
        return {}
    shape, path = SHAPES[contest.shape], field.settings.models.language_path(contest.shape, contest.type)
    if not path.exists():
        return {}
    output = shape.vocab_size * shape.hidden_size
    weights = shape.num_weights() - (output if "prefill" in row.work.arguments else 0)
    sequences = max(engine.sequences for engine in contest.engines)
    tokens = row.work.arguments.get("prefill", sequences)
    engine = next(engine for engine in contest.engines if engine.group == OURS)
    return {
        "weight_bytes": path.stat().st_size,
        "operations": 2 * weights,
        "tokens": tokens,
        "isa": engine.options.get("isa"),
        "threads": field.settings.threads,
    }


def checks_of(row: Row, figures: dict[str, Figure], cost: dict[str, Any]) -> list[Check]:
    """The row's goals against what was reached."""
    mine = fastest(figures, OURS, row.work.unit)
    read, nbytes = figures.get(READER), cost.get("weight_bytes", 0)
    return [
        bandwidth_check(mine, read, nbytes, goal.bound)
        if goal.kind == "bandwidth"
        else ratio_check(figures, row.work.unit, OURS, goal.against, goal.bound)
        for goal in row.goals
    ]
