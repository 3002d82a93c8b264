"""Threads in the host's process: how many, forks, signals, several callers, exits."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import EdgeformerError, GenerationCancelled, InvalidInputError
from support.kernel_inputs import Floats, same_bits
from support.plan_models import Decoder, Slow

TOKENS = list(range(40))


def logits(decoder: Decoder, pool: core.Pool) -> Floats:
    """A run large enough for all threads."""
    return decoder.run(pool, [(TOKENS, 0, [0, 1, 2])])


def run_script(
    text: str, *, timeout: float = 60, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a Python program beside the test helpers."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=Path(__file__).parents[1],
        env={**os.environ, **(environment or {})},
        check=False,
    )


def test_pools_start_late_and_can_be_closed_and_used_again() -> None:
    pool, decoder = core.Pool(3), Decoder()
    assert pool.threads == 3 and pool.running == 1
    first = logits(decoder, pool)
    assert pool.running == 3
    pool.close()
    assert pool.running == 1
    assert same_bits(logits(decoder, pool), first)
    for threads in (0, -1, 10**6):
        with pytest.raises(InvalidInputError, match="threads is"):
            core.Pool(threads)


def test_more_threads_than_work_change_nothing() -> None:
    decoder = Decoder()
    wanted = logits(decoder, core.Pool(1))
    for threads in (2, 3, 7, 16):
        pool = core.Pool(threads)
        for _ in range(5):
            assert same_bits(logits(decoder, pool), wanted)


def test_cancelling_before_and_during_a_run(pool: core.Pool) -> None:
    decoder, slow, flag = Decoder(), Slow(), core.CancelFlag()
    wanted = logits(decoder, pool)
    flag.set()
    assert flag.is_set()
    with pytest.raises(GenerationCancelled):
        decoder.run(pool, [(TOKENS, 0, [0, 1, 2])], flag)
    flag.clear()
    threading.Timer(0.05, flag.set).start()
    with pytest.raises(GenerationCancelled):
        while True:
            slow.run(pool, flag)
    assert same_bits(logits(decoder, pool), wanted)


def test_a_flag_listens_to_its_parents(pool: core.Pool) -> None:
    parent = core.CancelFlag()
    child = core.CancelFlag(core.CancelFlag(parent))
    child.set()
    assert child.is_set() and not parent.is_set()
    child.clear()
    parent.set()
    assert child.is_set()
    with pytest.raises(GenerationCancelled):
        Decoder().run(pool, [(TOKENS, 0, [0, 1, 2])], child)
    child.clear()
    assert child.is_set(), "the parent still is"
    parent.clear()
    assert not child.is_set()
    child = core.CancelFlag(core.CancelFlag())  # the parent lives as long as the child
    gc.collect()
    assert not child.is_set()


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_a_run(threads: int) -> None:
    pool, decoder, slow = core.Pool(threads), Decoder(), Slow()
    wanted = logits(decoder, pool)
    for delay in (0.0, 0.03):
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                slow.run(pool)
    assert same_bits(logits(decoder, pool), wanted)


@contextlib.contextmanager
def interrupted_by(handle: Callable[[int, object], None]) -> Iterator[None]:
    """Sends this process a signal every 20 ms, handled by `handle`."""
    done = threading.Event()

    def send() -> None:
        while not done.wait(0.02):
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        done.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_what_a_signal_handler_raises_comes_out(pool: core.Pool) -> None:
    class Interruption(Exception):
        """Only the handler raises it."""

    state = {"handled": 0}

    def handle(number: int, frame: object) -> None:
        state["handled"] += 1
        if state["handled"] == 3:
            raise Interruption

    slow = Slow()
    with interrupted_by(handle), pytest.raises(Interruption):
        while state["handled"] < 3:
            slow.run(pool)


def test_a_signal_handler_cannot_enter_the_run_it_interrupts(pool: core.Pool) -> None:
    slow, decoder, flag = Slow(), Decoder(), core.CancelFlag()
    refused: list[str] = []

    def handle(number: int, frame: object) -> None:
        try:
            logits(decoder, pool)
        except EdgeformerError as error:
            refused.append(str(error))
            flag.set()

    with interrupted_by(handle), pytest.raises(GenerationCancelled):
        while True:
            slow.run(pool, flag)
    assert "signal handler" in refused[0]
    assert np.isfinite(logits(decoder, pool)).all()


def test_two_threads_on_one_plan_and_one_pool(pool: core.Pool) -> None:
    decoder, other = Decoder(), Decoder("scalar")
    wanted = logits(decoder, pool)
    results: list[bool] = []

    def work(mine: Decoder) -> None:
        for _ in range(20):
            results.append(same_bits(logits(mine, pool), wanted))

    workers = [threading.Thread(target=work, args=(mine,)) for mine in (decoder, decoder, other)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert results == [True] * 60


def forked(child: object) -> int:
    """Runs `child()` in a fork and returns its exit code; a child that hangs is killed."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # 3.12 and later warn of forks beside threads, which is the point
        process = os.fork()
    if process == 0:
        code = 1
        try:
            code = 0 if child() else 2  # type: ignore[operator]
        finally:
            os._exit(code)
    for _ in range(3000):
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return -signal.SIGKILL


def test_a_fork_has_threads_of_its_own(pool: core.Pool) -> None:
    decoder = Decoder()
    wanted = logits(decoder, pool)
    for _ in range(10):
        assert forked(lambda: same_bits(logits(decoder, pool), wanted) and pool.running == 2) == 0
        assert same_bits(logits(decoder, pool), wanted)


def test_a_fork_before_the_first_use_and_from_a_fork() -> None:
    pool, decoder = core.Pool(2), Decoder()
    assert forked(lambda: np.isfinite(logits(decoder, pool)).all()) == 0
    assert forked(lambda: forked(lambda: np.isfinite(logits(decoder, pool)).all()) == 0) == 0
    assert np.isfinite(logits(decoder, pool)).all()


def test_a_fork_while_another_thread_runs(pool: core.Pool) -> None:
    busy, flag, decoder = Slow(), core.CancelFlag(), Decoder()
    wanted = logits(decoder, core.Pool(1))

    def work() -> None:
        with pytest.raises(GenerationCancelled):
            while True:
                busy.run(pool, flag)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            time.sleep(0.01)
            assert forked(lambda: same_bits(logits(decoder, pool), wanted)) == 0
    finally:
        flag.set()
        worker.join()


EXIT = """
    import threading, time, numpy
    from edgeformer._kernels import core
    from support.plan_models import Decoder, Slow
    pool, slow, decoder = core.Pool(2), Slow(), Decoder()
    def work():
        while True:
            slow.run(pool)
    def short():
        while True:
            decoder.run(pool, [(list(range(40)), 0, [0, 1, 2])])
    {start}
    time.sleep({delay})
"""


@pytest.mark.parametrize(
    "start",
    [
        "decoder.run(pool, [([1], 0, [0])])",
        "threading.Thread(target=work, daemon=True).start()",
        "threading.Thread(target=short, daemon=True).start()",
        "threading.Thread(target=work, daemon=True).start(); threading.Thread(target=short, daemon=True).start()",
    ],
    ids=["idle", "long runs", "short runs", "both"],
)
@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_an_exit_at_any_moment_is_silent(start: str, delay: float) -> None:
    done = run_script(EXIT.format(start=start, delay=delay))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif("san" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers need all addresses")
def test_refused_threads_mean_fewer_threads() -> None:
    done = run_script("""
        import mmap, resource, sys
        from edgeformer._kernels import core
        from support.plan_models import Decoder
        decoder, pool = Decoder(), core.Pool(64)
        wanted = decoder.run(core.Pool(1), [(list(range(40)), 0, [0, 1, 2])])
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 16 * 2**20,) * 2)
        try:
            mmap.mmap(-1, 64 * 2**20).close()
            sys.exit("no limit")
        except OSError:
            pass
        again = decoder.run(pool, [(list(range(40)), 0, [0, 1, 2])])
        print(1 <= pool.running < 64, (wanted == again).all())
    """)
    if done.stderr == "no limit\n":
        pytest.skip("limits on the address space have no effect here (user-mode emulation)")
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_the_hosts_denormals_are_left_alone(pool: core.Pool) -> None:
    tiny = np.full(4, 1e-40, np.float32)
    logits(Decoder(), pool)
    core.kernel_row_function(None, "softmax", tiny[None], number=1)
    assert np.all(tiny * np.float32(0.5) > 0)
