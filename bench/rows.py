"""The rows of the table of goals: what runs, against whom, and what must hold.

A contest is one model loaded by several runtimes, which then take turns at the contest's rows. Goals are stated for
groups of engines: the fastest of a group counts.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS, LLAMA, IK, INT8_PEERS, READER = "edgeformer", "llama.cpp", "ik_llama.cpp", "int8 peers", "read bandwidth"
ALONE = "one sequence"
OWN_PYTHON, PEER_PYTHON, AVX2_PYTHON = "own", "peers", "peers for AVX2"


@dataclass(frozen=True)
class Goal:
    """What must hold of a row.

    Attributes
    ----------
    kind : {"ratio", "bandwidth", "figure", "loss", "efficiency"}
        Our speed over the fastest of `against`; bytes of weights that our decode reads over what the machine reads in
        the same time; our figure itself; loss of rank correlation; share of the measured peak.
    bound : float
        The least, of a figure and a loss the most, that is wanted; NO_GOAL where it is only reported.
    against : str
        The group of engines a ratio is taken with.
    """

    kind: str
    bound: float
    against: str = ""

    @property
    def at_most(self) -> bool:
        """Whether the bound is the most, not the least."""
        return self.kind in ("figure", "loss")

    def __str__(self) -> str:
        """For people."""
        name = f"{self.kind} {self.against}".strip()
        return name if math.isnan(self.bound) else f"{name} {'<=' if self.at_most else '>='} {self.bound:g}"


@dataclass(frozen=True)
class Work:
    """What one call does.

    Attributes
    ----------
    arguments : dict of str to int
        Of the engine's `run`.
    tokens : int
        That one sequence goes through.
    repeat : int
        Calls in a round.
    unit : {"tok/s", "ms"}
        Of the figure.
    warm_up : dict of str to int, optional
        Arguments of the two calls before the rounds; default those of the work.
    """

    arguments: dict[str, int]
    tokens: int
    repeat: int
    unit: str
    warm_up: dict[str, int] | None = None

    def figure(self, seconds: float, sequences: int = 1) -> float:
        """What is reported for a call of so many seconds."""
        return self.tokens * sequences / seconds if self.unit == "tok/s" else 1e3 * seconds


@dataclass(frozen=True)
class Engine:
    """A runtime on a model.

    Attributes
    ----------
    label : str
        Its name in reports.
    group : str
        What goals name.
    kind : str
        One of worker.py's engines.
    python : str
        Which interpreter has it.
    options : dict
        Of the engine; a callable gives the path of the model file, made when it is missing.
    sequences : int
        That a call works on.
    """

    label: str
    group: str
    kind: str
    python: str
    options: dict[str, Any]
    sequences: int = 1


@dataclass(frozen=True)
class Row:
    """A line of the report."""

    name: str
    group: str
    work: Work
    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class Contest:
    """A model, who runs it, and the rows that are timed.

    Attributes
    ----------
    shape, type : str
        The language model's, for bytes and operations; empty where they are not counted.
    """

    model: str
    engines: tuple[Engine, ...]
    rows: tuple[Row, ...]
    shape: str = ""
    type: str = ""


@dataclass(frozen=True)
class Settings:
    """What the command line decides."""

    models: Any  # model_files.ModelFolder; or None, to list the rows
    threads: int = 2
    rounds: int = 5
    prefill: int = 512
    long_prefill: int = 4096
    decode: int = 64
    encoder_types: tuple[str, ...] = ("i8_row", "q8_0")
    test_models: Path | None = None
    answer_seconds: float = 240.0
    pythons: dict[str, str | None] = field(default_factory=dict)


NO_GOAL = float("nan")  # the value is only reported
TYPES = ("q4_0", "q8_0", "q4_k_m")
SHAPES = {"1b": "llama-1b", "135m": "llama-135m"}
EXTRA_GROUP = "kernel-more"  # not among `all`
SLACK = 64  # positions of context beyond what is used
SEQUENCES = 8
READ_BYTES = 512 << 20  # many times any cache
GOALS_OF_DECODE = {
    "1b": (Goal("ratio", 1.05, LLAMA), Goal("ratio", 1.0, IK), Goal("bandwidth", 0.9)),
    "135m": (Goal("ratio", 1.8, LLAMA), Goal("ratio", 1.2, IK)),
}
GOALS_OF_PREFILL = {
    "1b": (Goal("ratio", 2.0, LLAMA), Goal("ratio", 1.5, IK)),
    "135m": (Goal("ratio", NO_GOAL, LLAMA), Goal("ratio", NO_GOAL, IK)),
}


def prefill_work(tokens: int, warm_up: int | None = None) -> Work:
    """One call with all ids of a prompt."""
    return Work({"prefill": tokens}, tokens, 1, "tok/s", None if warm_up is None else {"prefill": warm_up})


def decode_work(tokens: int) -> Work:
    """So many calls of one id."""
    return Work({"decode": tokens}, tokens, 1, "tok/s", {"decode": min(tokens, 16)})


def path_of(settings: Settings, shape: str, type_name: str) -> Callable[[], Path]:
    """Makes the file when the contest begins."""
    return lambda: settings.models.language(SHAPES[shape], type_name)


def language_contests(settings: Settings) -> Iterable[Contest]:
    """Prompt and decode against llama.cpp and ik_llama.cpp, both as they are built for this machine."""
    for shape in SHAPES:
        for type_name in TYPES:
            options = {
                "path": path_of(settings, shape, type_name),
                "threads": settings.threads,
                "context": settings.prefill + SLACK,
            }
            engines = (
                Engine(OURS, OURS, "edgeformer-decoder", OWN_PYTHON, options),
                Engine(LLAMA, LLAMA, "llama.cpp", PEER_PYTHON, options),
                Engine(IK, IK, "ik_llama.cpp", PEER_PYTHON, options | {"repack": False}),
                Engine(f"{IK} repacked", IK, "ik_llama.cpp", PEER_PYTHON, options | {"repack": True}),
                Engine(
                    READER, READER, "memory-reader", OWN_PYTHON, {"threads": settings.threads, "nbytes": READ_BYTES}
                ),
            )
            name = f"{shape}-{type_name}"
            yield Contest(
                f"{SHAPES[shape]} {type_name}",
                engines,
                (
                    Row(f"prefill-{name}", f"prefill-{shape}", prefill_work(settings.prefill), GOALS_OF_PREFILL[shape]),
                    Row(f"decode-{name}", f"decode-{shape}", decode_work(settings.decode), GOALS_OF_DECODE[shape]),
                ),
                SHAPES[shape],
                type_name,
            )


def avx2_contests(settings: Settings) -> Iterable[Contest]:
    """Forced AVX2 against llama.cpp built for AVX2 alone."""
    for shape in SHAPES:
        for type_name in TYPES:
            options = {
                "path": path_of(settings, shape, type_name),
                "threads": settings.threads,
                "context": settings.prefill + SLACK,
            }
            engines = (
                Engine(OURS, OURS, "edgeformer-decoder", OWN_PYTHON, options | {"isa": "avx2"}),
                Engine(LLAMA, LLAMA, "llama.cpp", AVX2_PYTHON, options),
            )
            name = f"{shape}-{type_name}"
            yield Contest(
                f"{SHAPES[shape]} {type_name} avx2",
                engines,
                (
                    Row(f"avx2-prefill-{name}", "avx2", prefill_work(settings.prefill), (Goal("ratio", 1.8, LLAMA),)),
                    Row(f"avx2-decode-{name}", "avx2", decode_work(settings.decode), (Goal("ratio", 1.05, LLAMA),)),
                ),
                SHAPES[shape],
                type_name,
            )


def long_contests(settings: Settings) -> Iterable[Contest]:
    """A long prompt, where attention weighs."""
    for shape in SHAPES:
        options = {
            "path": path_of(settings, shape, "q4_0"),
            "threads": settings.threads,
            "context": settings.long_prefill + SLACK,
        }
        engines = (
            Engine(OURS, OURS, "edgeformer-decoder", OWN_PYTHON, options),
            Engine(LLAMA, LLAMA, "llama.cpp", PEER_PYTHON, options),
        )
        work = prefill_work(settings.long_prefill, warm_up=settings.prefill)
        yield Contest(
            f"{SHAPES[shape]} q4_0 long",
            engines,
            (Row(f"long-{shape}-q4_0", "long", work, (Goal("ratio", 2.0, LLAMA),)),),
            SHAPES[shape],
            "q4_0",
        )


def eight_contests(settings: Settings) -> Iterable[Contest]:
    """Eight sequences decoding together: tokens of all a second, over those of one alone."""
    options = {"path": path_of(settings, "1b", "q4_0"), "threads": settings.threads, "context": settings.decode + SLACK}
    many = options | {"sequences": SEQUENCES}
    engines = (
        Engine(OURS, OURS, "edgeformer-decoder", OWN_PYTHON, many, SEQUENCES),
        Engine(ALONE, ALONE, "edgeformer-decoder", OWN_PYTHON, options),
        Engine(LLAMA, LLAMA, "llama.cpp", PEER_PYTHON, many, SEQUENCES),
    )
    goals = (Goal("ratio", 4.0, ALONE), Goal("ratio", NO_GOAL, LLAMA))
    yield Contest(
        "llama-1b q4_0 eight",
        engines,
        (Row("eight-1b-q4_0", "eight", decode_work(settings.decode // 2), goals),),
        "llama-1b",
        "q4_0",
    )


ENCODER_WORKS = {
    "1x16": Work({"batch": 1, "tokens": 16}, 16, 50, "ms"),
    "1x128": Work({"batch": 1, "tokens": 128}, 128, 10, "ms"),
    "32x128": Work({"batch": 32, "tokens": 128}, 4096, 1, "ms"),
}
ENCODER_GOALS = {"1x16": NO_GOAL, "1x128": 1.3, "32x128": 1.3}
ENCODER_PEERS = {"openvino": "openvino", "onnxruntime": "onnx", "ctranslate2": "ctranslate2"}


def encoder_engines(settings: Settings) -> tuple[Engine, ...]:
    """MiniLM in our int8 types and in every peer's."""
    ours = [
        Engine(
            f"{OURS} {type_name}",
            OURS,
            "edgeformer-encoder",
            OWN_PYTHON,
            {"path": lambda name=type_name: settings.models.minilm_ours(name), "threads": settings.threads},
        )
        for type_name in settings.encoder_types
    ]
    peers = [
        Engine(
            kind,
            INT8_PEERS,
            kind,
            PEER_PYTHON,
            {"path": lambda form=form: settings.models.minilm_peers(form), "threads": settings.threads},
        )
        for kind, form in ENCODER_PEERS.items()
    ]
    return (*ours, *peers)


def encoder_contests(settings: Settings) -> Iterable[Contest]:
    """Hidden states of all-MiniLM-L6-v2 from full batches of one length."""
    rows = tuple(
        Row(f"minilm-{name}", "minilm", work, (Goal("ratio", ENCODER_GOALS[name], INT8_PEERS),))
        for name, work in ENCODER_WORKS.items()
    )
    yield Contest("MiniLM-L6 int8", encoder_engines(settings), rows)


def contests(settings: Settings) -> list[Contest]:
    """All of them, in the order in which they run."""
    makers = (language_contests, avx2_contests, long_contests, eight_contests, encoder_contests)
    return [contest for maker in makers for contest in maker(settings)]


def chosen(name: str, group: str, patterns: Iterable[str]) -> bool:
    """Whether a row is among those asked for: by its name or group, `*` allowed, or `all` of the table."""
    return any(
        (pattern == "all" and group != EXTRA_GROUP)
        or fnmatch.fnmatchcase(name, pattern)
        or fnmatch.fnmatchcase(group, pattern)
        for pattern in patterns
    )
