"""Make the golden files: tiny random models with the numbers that torch and transformers compute for them.

usage: python tests/golden/make_golden.py [NAME ...]      needs: torch transformers numpy safetensors

A folder's `case.json` says what it holds, and is all that one writes by hand: the kind of its numbers (the module of
`makers` that makes them), the model's class and configuration, the weight types that the tests of equal bits take.
Every model is written as a user would have it, beside `expected.npz`. The weights come from a seeded generator, large
enough that every part of the network moves the result; a seed whose greedy path nearly ties is passed over, so the ids
are stable under rounding. The entry "made" says what computed the numbers, and from which seed.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from golden.cases import CASES, FOLDER, Case

LEAST_GAP = 5e-3  # between the best and the second logit on the greedy path, relative to the row's range
LAST_SEED = 1000


def make(folder: Path, case: Case, seed: int) -> float:
    """Write a case's folder from one seed; returns the smallest gap on its greedy paths."""
    return import_module(f"golden.makers.{case['kind']}").make(folder, case, seed)


def make_stable(name: str) -> None:
    """Make a case again, with the first seed whose greedy path has no near ties."""
    folder, case = FOLDER / name, {key: value for key, value in CASES[name].items() if key != "made"}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(LAST_SEED):
            fresh = Path(scratch) / str(seed)
            fresh.mkdir()
            gap = make(fresh, case, seed)
            if gap >= LEAST_GAP:
                break
        else:
            raise SystemExit(f"{name}: no seed below {LAST_SEED} keeps its greedy path clear of ties")
        shutil.rmtree(folder)
        shutil.copytree(fresh, folder)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    made = {"seed": seed, **versions, "machine": platform.machine()}
    (folder / "case.json").write_text(json.dumps({**case, "made": made}, indent=2) + "\n")
    nbytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: seed {seed}, smallest gap {gap:.3f}, {nbytes / 1e3:.0f} KB")


def main(names: list[str]) -> None:
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # the plain formulas, without nested tensors
    transformers.utils.logging.disable_progress_bar()
    for name in names or CASES:
        make_stable(name)


if __name__ == "__main__":
    main(sys.argv[1:])
