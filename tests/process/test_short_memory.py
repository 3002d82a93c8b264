"""Memory that runs out in the middle of a call: a `NotEnoughMemoryError` and nothing else, and the model goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.engine.session import Session
from edgeformer.errors import NotEnoughMemoryError
from edgeformer.host.memory import ShortMemory
from support.random_llama import write_random_llama

CALLS = {
    "generate": lambda model: model.generate([1, 2], max_tokens=3),
    "beams": lambda model: model.generate([1, 2], max_tokens=3, num_beams=2),
    "stream": lambda model: list(model.generate([1, 2], max_tokens=3, stream=True)),
    "logits": lambda model: model.logits([1, 2]),
    "hidden_states": lambda model: model.hidden_states([1, 2]),
}
# Children with less and less room for addresses; what their calls gave, a line each.
SWEEP = """
import os, resource, sys
import edgeformer

os.environ["EDGEFORMER_NUMBA"] = "0"
model = edgeformer.load(sys.argv[1], threads=2)
prompt = [5, 6] * 2000
model.logits(prompt)
for step in range(16):
    if os.fork() == 0:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + step * 2**19, resource.RLIM_INFINITY))
        outcome = "ended"
        try:
            model.logits(prompt)
            model.generate([prompt[:400]] * 3, max_tokens=3)
            edgeformer.load(sys.argv[1], threads=2).close()
        except Exception as error:
            outcome = type(error).__name__
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.write(1, f"{outcome}\\n".encode())
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.mark.parametrize("name", CALLS)
def test_every_verb_names_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        np.empty(2**60, np.uint8)

    with edgeformer.load(write_random_llama(tmp_path / "random.gguf", context=64)) as model:
        wanted = CALLS[name](model)
        with monkeypatch.context() as patch:
            for method in ("forward", "hidden"):
                patch.setattr(Session, method, refused)
            with pytest.raises(NotEnoughMemoryError, match=r"(?s)(generate|logits|hidden_states): Unable to allocate"):
                CALLS[name](model)
        assert repr(CALLS[name](model))[:20] == repr(wanted)[:20]


def test_the_error_of_python_has_no_words_of_its_own() -> None:
    message = "convert: the system gives no more memory"
    with pytest.raises(NotEnoughMemoryError, match=message) as caught, ShortMemory("convert"):
        raise MemoryError
    assert caught.value.needed is None and isinstance(caught.value.__cause__, MemoryError)


def test_convert_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules["edgeformer.converters.convert"], "open_checkpoint", refused)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(NotEnoughMemoryError, match="convert: "):
        convert(tmp_path / "model.bin", tmp_path / "model.gguf")


@pytest.mark.skipif("san" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers need all addresses")
def test_a_low_limit_on_addresses_is_named(tmp_path: Path) -> None:
    model = write_random_llama(tmp_path / "random.gguf", context=16_384)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SWEEP, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == 16 and set(done.stdout.split()) <= {"ended", "NotEnoughMemoryError"}
