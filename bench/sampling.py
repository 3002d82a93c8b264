"""What choosing a token costs beside making its logits, with a vocabulary of 150,000 entries.

At the temperature taken here, distributions of a model with random weights have an entropy of three to five nats, as
those of trained models have where a text may go on in several ways.
"""

from __future__ import annotations

import time
from contextlib import closing
from statistics import median

from edgeformer.engine.session import Session
from edgeformer.generation.options import GenerationOptions
from edgeformer.generation.sampling import Sampler

from .report import Check, Figure, Result
from .rows import OURS, SHAPES, SLACK, Goal, Row, Settings, Work

STEP = "whole step"
TEMPERATURE = 0.1
METHODS = {
    "greedy": GenerationOptions(temperature=0.0),
    "top-k": GenerationOptions(temperature=TEMPERATURE, top_k=40),
    "temperature": GenerationOptions(temperature=TEMPERATURE),
    "top-p": GenerationOptions(temperature=TEMPERATURE, top_p=0.95),
}
GOAL = Goal("figure", 0.02, "over a step")
ROWS = [
    Row(f"sampling-{shape}-{method}", "sampling", Work({}, 1, 1, "us"), (GOAL,))
    for shape in SHAPES
    for method in METHODS
]


def microseconds(session: Session, sampler: Sampler, count: int) -> tuple[float, float]:
    """Medians of choosing a token and of the whole step, over a text of `count` tokens."""
    sequence, history = session.new_sequence(), [1]
    choices, steps = [], []
    for step in range(count):
        begin = time.perf_counter()
        logits = session.forward([(sequence, history[-1:])])[0]
        computed = time.perf_counter()
        history.append(sampler.choose(logits, history, step))
        end = time.perf_counter()
        choices.append(1e6 * (end - computed))
        steps.append(1e6 * (end - begin))
    sequence.free()
    return median(choices), median(steps)


def run(row: Row, settings: Settings) -> Result:
    """One row; the first round warms up and is not counted."""
    _, shape, method = row.name.split("-", 2)
    path = settings.models.language(f"{SHAPES[shape]}-150k", "q4_0")
    with closing(Session.open(str(path), threads=settings.threads, n_ctx=settings.decode + SLACK)) as session:
        sampler = Sampler(METHODS[method], 0)
        rounds = [microseconds(session, sampler, settings.decode) for _ in range(settings.rounds + 1)][1:]
    chosen, whole = (Figure(group, "", [times[i] for times in rounds]) for i, group in enumerate((OURS, STEP)))
    check = Check(GOAL.kind, GOAL.against, chosen.value / whole.value, [a / b for a, b in rounds], GOAL.bound, True)
    return Result(
        row.name, row.group, f"{SHAPES[shape]}-150k q4_0", row.work.unit, {OURS: chosen, STEP: whole}, [check]
    )
