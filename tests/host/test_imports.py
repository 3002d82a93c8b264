"""Imports that may fail: packages that are not there, and Ctrl-C while NumPy is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from edgeformer.errors import MissingDependencyError
from edgeformer.host.interrupts import interrupts_wait
from edgeformer.host.packages import required


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependencyError, match="pip install tokenizers") as caught, required("tokenizers"):
        import tokenizers
    assert (caught.value.package, caught.value.extra) == ("tokenizers", None)
    with pytest.raises(ModuleNotFoundError) as other, required("rich"):
        import tokenizers  # noqa: F401
    assert not isinstance(other.value, MissingDependencyError), "what a package lacks itself is not its own absence"


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_the_command_line_says_what_it_lacks(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from edgeformer.cli import main; sys.exit(main(['doctor']))"
    done = run_script(script)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"edgeformer: error: {package} is not installed: pip install {package}\n"


def test_a_text_without_the_tokenizers_package() -> None:
    script = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "import edgeformer\n"
        "from edgeformer.text.tokenizer import Tokenizer\n"
        "metadata = {'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2', 'tokenizer.ggml.merges': [],\n"
        "            'tokenizer.ggml.tokens': ['a', 'b'], 'tokenizer.ggml.token_type': [1, 1]}\n"
        "try:\n"
        "    Tokenizer.from_metadata(metadata, path='x').encode('a')\n"
        "except edgeformer.MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("tokenizers is not installed: pip install tokenizers\n", "")


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    '''Presses Ctrl-C when a part of NumPy is looked for.'''
    def find_spec(self, name, path=None, target=None):
        if name == {part!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize("part", ["numpy", "numpy._core._multiarray_umath", "numpy.linalg"])
def test_ctrl_c_while_numpy_is_imported_comes_afterwards(part: str) -> None:
    script = INTERRUPTED_IMPORT.format(part=part) + (
        "import edgeformer\n"
        "try:\n"
        "    edgeformer.load\n"
        "except KeyboardInterrupt:\n"
        "    edgeformer.load  # the import was not cut short\n"
        "    print('interrupted')\n"
    )
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
    script = INTERRUPTED_IMPORT.format(part=part) + "from edgeformer.cli import main; sys.exit(main(['doctor']))"
    done = run_script(script)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_interrupts_wait_for_the_end_of_a_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("went on")
        steps.append("not reached")
    assert steps == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_waits_in_other_threads_nor_where_interrupts_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = []

    def look() -> None:
        with interrupts_wait():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        look()
    finally:
        signal.signal(signal.SIGINT, before)
    assert handlers == [signal.default_int_handler, signal.SIG_IGN]
