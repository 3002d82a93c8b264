"""A subinterpreter is refused, and takes nothing from the main one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.random_llama import write_random_llama

WITHIN = """
import os
try:
    {use}
except ImportError as error:
    from edgeformer.errors import EdgeformerError, UnsupportedInterpreterError
    assert type(error) is UnsupportedInterpreterError and "subinterpreter" in str(error)
else:
    os._exit(7)
"""
SCRIPT = """
import signal, sys
try:
    import _interpreters as interpreters
    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string
signal.alarm(30)  # a hang ends the process instead of the test run
failure = run(interpreters.create(), sys.argv[1])
assert failure is None, failure
import edgeformer
with edgeformer.load(sys.argv[2], threads=2) as model:
    assert len(model.generate([5, 17], max_tokens=9).token_ids) == 9
"""


@pytest.mark.parametrize("use", ["import edgeformer", "from edgeformer._kernels import core"])
def test_a_subinterpreter_is_refused_and_the_main_one_goes_on(use: str, tmp_path: Path) -> None:
    model = write_random_llama(tmp_path / "random.gguf", context=64)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, WITHIN.format(use=use), str(model)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
