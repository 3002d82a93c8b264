"""Where the system lets a process run no code of its own, as systemd with MemoryDenyWriteExecute= and SELinux do, the
twins in C and NumPy run, with the same results.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.random_llama import write_random_llama

pytest.importorskip("numba")

SCRIPT = """
import ctypes, errno, os, sys
import edgeformer
import numpy as np
from edgeformer._kernels import core
from edgeformer.quants import by_name

def refuse_by_the_kernel():
    set_mdwe, refuse_exec_gain = 65, 1  # prctl.h, since Linux 6.3
    return ctypes.CDLL(None).prctl(set_mdwe, refuse_exec_gain, 0, 0, 0) == 0

def refuse_by_ourselves():
    def refused(image):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    core.MachineCode = refused
    return True

{refuse}
with edgeformer.load(sys.argv[1], threads=2) as model:
    print(model.generate([5, 17, 60], max_tokens=20).token_ids)
weights = np.random.default_rng(0).standard_normal((4, 512)).astype(np.float32)
print(bytes(by_name("q4_k").quantize(weights)).hex())
try:
    edgeformer.Session.open(sys.argv[1], use_numba=True).close()
    print("Numba ran")
except edgeformer.InvalidOptionError as error:
    assert "lets this process run no code of its own" in str(error), error
print("numba" in sys.modules)
"""


def outcome(refuse: str, model: Path) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", SCRIPT.replace("{refuse}", refuse), str(model)]
    environment = {name: value for name, value in os.environ.items() if name != "EDGEFORMER_NUMBA"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    if done.returncode == 77:
        pytest.skip("this kernel cannot refuse executable memory by prctl")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("refuse", ["refuse_by_the_kernel() or os._exit(77)", "refuse_by_ourselves()"])
def test_the_twins_run(refuse: str, tmp_path: Path) -> None:
    model = write_random_llama(tmp_path / "random.gguf", context=256)
    tokens, codes, ran, _ = outcome("", model)
    assert ran == "Numba ran"
    assert outcome(refuse, model) == [tokens, codes, "False"]
