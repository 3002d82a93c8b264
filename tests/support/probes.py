"""What llama.cpp says, from this interpreter or the one that EDGEFORMER_LLAMA_CPP_PYTHON names."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def llama_cpp(probe: str, job: dict[str, Any]) -> Any:
    """The answer of `llama_cpp_<probe>.py` beside this file; skips where there is no llama.cpp."""
    interpreter = os.environ.get("EDGEFORMER_LLAMA_CPP_PYTHON")
    if interpreter is None and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed, nor named by EDGEFORMER_LLAMA_CPP_PYTHON")
    command = [interpreter or sys.executable, str(Path(__file__).with_name(f"llama_cpp_{probe}.py"))]
    run = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)
