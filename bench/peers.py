"""Processes in which runtimes are timed, and calls of the peers' interpreter that prepare their files."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MESSAGE_CHARACTERS = 400  # of a failure's text that a report keeps


class PeerError(Exception):
    """A runtime did not start, failed, or took too long; the message says which and why."""


def module_command(python: str, module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command that runs a module of this package by any interpreter, and the environment in which it is found."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return [python, "-m", f"bench.{module}", *arguments], os.environ | {"PYTHONPATH": path}


def prepare(python: str | None, *arguments: str) -> str:
    """What `prepare_peers.py` prints, run by the peers' interpreter.

    Raises
    ------
    PeerError
    """
    if python is None:
        raise PeerError(f"--peer-python is needed for {arguments[0]}")
    command, environment = module_command(python, "prepare_peers", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise PeerError(f"{python}: {error}") from error
    if done.returncode:
        raise PeerError(f"prepare_peers.py {arguments[0]}: {tail(done.stderr)}")
    return done.stdout.strip()


def tail(text: str) -> str:
    """The end of a program's complaint: of a Python traceback, the last line."""
    lines = text.strip().splitlines() or ["no message"]
    shown = lines[-1:] if any(line.startswith("Traceback") for line in lines) else lines[-5:]
    return "\n".join(shown)[-MESSAGE_CHARACTERS:]


class Worker:
    """One runtime loaded in a process of its own, which answers one request at a time (worker.py).

    Parameters
    ----------
    python : str
        The interpreter that has the runtime.
    engine : str
    options : dict
        Its constructor's arguments.
    seconds : float
        The longest that an answer may take.

    Raises
    ------
    PeerError
    """

    def __init__(self, python: str, engine: str, options: dict[str, Any], seconds: float) -> None:
        command, environment = module_command(python, "worker")
        environment["OMP_NUM_THREADS"] = str(options.get("threads", 1))
        self._seconds, self._name = seconds, engine
        with ExitStack() as opened:
            self._errors = opened.enter_context(tempfile.TemporaryFile())
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
                )
            except OSError as error:
                raise PeerError(f"{python}: {error}") from error
            opened.callback(self._process.communicate)
            opened.callback(self._process.kill)
            self.version: str = self.ask({"engine": engine, "options": options})["version"]
            self._opened = opened.pop_all()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._opened.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises
        ------
        PeerError
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write((json.dumps(request) + "\n").encode())
            stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._complaint()) from None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(self._seconds):
                raise PeerError(f"{self._name} gave no answer in {self._seconds:.0f} s")
        line = stdout.readline()
        if not line:
            raise PeerError(self._complaint())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _complaint(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        return f"{self._name} ended with status {code}: {tail(self._errors.read().decode(errors='replace'))}"
