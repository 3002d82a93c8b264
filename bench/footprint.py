"""What edgeformer costs before it computes: importing, loading, memory. Every sample is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from .model_files import SHAPES
from .peers import PeerError, module_command, tail
from .report import Check, Figure, Result
from .rows import OURS, SLACK, Goal, Row, Settings, Work

MEGABYTE = 1e6
PACKED = "-packed"
GOALS = {
    "import": Goal("figure", 60.0),
    "load": Goal("figure", 0.5),
    "memory": Goal("figure", 1.0, "over file + 10 % + cache"),
}
UNITS = {"import": "ms", "load": "s", "memory": "MB"}
MODELS = {"import": ("",), "load": ("-1b-q4_0", f"-1b-q4_0{PACKED}"), "memory": ("-1b-q4_0", f"-1b-q4_0{PACKED}")}
ROWS = [
    Row(kind + model, "footprint", Work({}, 0, 1, UNITS[kind]), (GOALS[kind],))
    for kind, models in MODELS.items()
    for model in models
]


def sample(*arguments: str) -> dict[str, float]:
    """What footprint_sample.py prints.

    Raises
    ------
    PeerError
    """
    command, environment = module_command(sys.executable, "footprint_sample", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise PeerError(f"footprint_sample.py: {tail(done.stderr)}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def run(row: Row, settings: Settings) -> Result:
    """One row; one sample more than rounds, the first of which warms caches and is not counted.

    Raises
    ------
    PeerError
    """
    kind, path = row.name.partition("-")[0], None
    arguments = [kind]
    if kind != "import":
        models = settings.models
        path = (models.packed if row.name.endswith(PACKED) else models.language)("llama-1b", "q4_0")
        arguments += [str(path), str(settings.threads), str(settings.prefill), str(settings.prefill + SLACK)]
    samples = [sample(*arguments) for _ in range(settings.rounds + 1)][1:]
    rounds = [one["value"] for one in samples]
    figure = Figure(OURS, "", rounds)
    limit = 1.0
    if path is not None and kind == "memory":
        cache = SHAPES["llama-1b"].cache_bytes(settings.prefill + SLACK)
        limit = (1.1 * path.stat().st_size + cache) / MEGABYTE
    goal = row.goals[0]
    check = Check(goal.kind, goal.against, figure.value / limit, [value / limit for value in rounds], goal.bound, True)
    return Result(row.name, row.group, "" if path is None else "llama-1b q4_0", row.work.unit, {OURS: figure}, [check])
