"""Locks that forks respect: in turn, re-entrant, never left taken, whatever signals and forks come when."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from edgeformer.host.forks import ForkSafeLock

PREAMBLE = """
import os, signal, sys, threading, time
before_fork = []  # called after edgeformer's own hook: hooks of later modules come first
os.register_at_fork(before=lambda: [function() for function in before_fork])
from edgeformer._kernels import core
signal.alarm(20)  # a hang ends the process instead of the test run

def child_of(function):
    "The exit code of a forked child that calls `function`; 0 if it gives True."
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        os._exit(0 if function() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def can_be_taken(*locks):
    "By another thread."
    def take():
        for lock in locks:
            with lock:
                taken.append(lock)
    taken = []
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(2)
    return len(taken) == len(locks)
"""


def run_script(code: str) -> None:
    """Run `code` after the preamble in a process of its own, which must end well and say nothing."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def in_thread(function: Callable[[], Any]) -> Any:
    """What `function` gives in a thread of its own; None if it does not end."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(5)
    return results[0] if results else None


def take_and_give_back(lock: ForkSafeLock) -> bool:
    with lock:
        return True


def test_one_thread_at_a_time_and_as_often_as_it_likes() -> None:
    lock, inside, seen = ForkSafeLock(), [0], []

    def work() -> None:
        for _ in range(200):
            with lock, lock:
                inside[0] += 1
                time.sleep(0)
                seen.append(inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 800


def test_threads_get_it_in_the_order_in_which_they_asked() -> None:
    lock, order = ForkSafeLock(), list[int]()

    def work(number: int) -> None:
        for _ in range(3):
            with lock:
                order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    with lock:
        for thread in threads:
            thread.start()
            time.sleep(0.05)  # it waits in line now
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2] * 3


def test_an_interrupt_at_any_point_leaves_it_free() -> None:
    """Handlers of signals run between instructions of Python: here one raises at every such point inside the lock."""
    lock, left = ForkSafeLock(), [0]

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is take_and_give_back.__code__:
            return None
        frame.f_trace_opcodes = True
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return trace

    for point in range(1, 100):
        left[0], before = point, sys.gettrace()
        sys.settrace(trace)
        try:
            take_and_give_back(lock)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert in_thread(lambda: take_and_give_back(lock)), f"taken for good at point {point}"


def test_interrupts_by_the_thousand_leave_it_free() -> None:
    run_script("""
        class Interrupt(Exception):
            pass

        def handle(*_):
            raise Interrupt

        lock = core.ForkSafeLock()
        def hold():
            while True:
                with lock:
                    time.sleep(1e-4)
        threading.Thread(target=hold, daemon=True).start()
        signal.signal(signal.SIGALRM, handle)
        interrupts, end = 0, time.monotonic() + 2
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-4)
                for _ in range(10):
                    with lock:
                        pass
                time.sleep(1)
            except Interrupt:
                interrupts += 1
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert interrupts > 10 and can_be_taken(lock)
    """)


def test_what_a_handler_raises_ends_the_wait_and_leaves_the_line() -> None:
    run_script("""
        lock, go = core.ForkSafeLock(), threading.Event()
        def hold():
            with lock:
                go.wait()
        threading.Thread(target=hold).start()
        time.sleep(0.1)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            with lock:
                sys.exit("taken twice")
        except KeyboardInterrupt:
            pass
        go.set()
        assert can_be_taken(lock)
    """)


def test_a_handler_may_wait_for_what_the_interrupted_thread_waits_for() -> None:
    run_script("""
        lock, go, order = core.ForkSafeLock(), threading.Event(), []
        def hold():
            with lock:
                go.wait()
        def handle(*_):
            threading.Timer(0.2, go.set).start()
            with lock:
                order.append("handler")
        threading.Thread(target=hold).start()
        time.sleep(0.1)
        signal.signal(signal.SIGUSR1, handle)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with lock:
            order.append("interrupted")
        assert order == ["handler", "interrupted"] and can_be_taken(lock)
    """)


def test_a_fork_waits_for_what_is_done_under_a_lock() -> None:
    run_script("""
        lock, books = core.ForkSafeLock(), [0, 0]
        def work():
            while True:
                with lock:
                    books[0] += 1
                    time.sleep(0.002)
                    books[1] += 1
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(50):
            assert child_of(lambda: books[0] == books[1] and can_be_taken(lock)) == 0
    """)


def test_a_lock_does_not_come_to_a_handler_that_waits_for_a_newer_one() -> None:
    run_script("""
        older, newer, go = core.ForkSafeLock(), core.ForkSafeLock(), threading.Event()
        def hold():
            with older:
                go.wait()
        def work():
            with newer:
                with older:
                    pass
        def handle(*_):
            threading.Timer(0.2, go.set).start()
            with newer:
                pass
        threading.Timer(0.05, hold).start()
        threading.Timer(0.25, work).start()
        signal.signal(signal.SIGUSR1, handle)
        threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        time.sleep(0.15)
        with older:
            pass
        assert can_be_taken(older, newer)
    """)


def test_a_handler_that_interrupts_a_fork_may_fork() -> None:
    run_script("""
        locks, codes = [core.ForkSafeLock() for _ in range(3)], []
        def take_all():
            for lock in locks:
                with lock:
                    pass
            return True
        signal.signal(signal.SIGUSR1, lambda *_: codes.append(child_of(take_all)))
        before_fork.append(lambda: before_fork.clear() or signal.raise_signal(signal.SIGUSR1))
        assert child_of(lambda: can_be_taken(*locks)) == 0
        assert codes == [0] and can_be_taken(*locks)
    """)


def test_locks_may_come_and_go_while_a_fork_takes_them_all() -> None:
    run_script("""
        sys.setswitchinterval(1e-6)
        kept, done = [core.ForkSafeLock() for _ in range(1000)], threading.Event()
        def churn():
            while not done.is_set():
                [core.ForkSafeLock() for _ in range(10)]
        threads = [threading.Thread(target=churn) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert child_of(lambda: True) == 0
        done.set()
    """)


def test_a_thread_may_wait_for_an_older_lock_while_a_fork_takes_them_all() -> None:
    run_script("""
        older, newer = core.ForkSafeLock(), core.ForkSafeLock()
        def work():
            with newer:
                time.sleep(0.3)  # the fork begins
                with older:
                    pass
        threading.Thread(target=work).start()
        time.sleep(0.1)
        assert child_of(lambda: can_be_taken(older, newer)) == 0
    """)


def test_an_interrupt_while_a_fork_waits_comes_after_the_fork() -> None:
    run_script("""
        lock, go = core.ForkSafeLock(), threading.Event()
        def hold():
            with lock:
                go.wait()
        threading.Thread(target=hold).start()
        time.sleep(0.1)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        threading.Timer(0.4, go.set).start()
        parent, children = os.getpid(), []
        try:
            child = os.fork()
            if child == 0:
                os._exit(not can_be_taken(lock))
            children.append(child)
            time.sleep(5)
        except KeyboardInterrupt:
            if os.getpid() != parent:
                os._exit(3)
        else:
            sys.exit("the interrupt is lost")
        finished = os.wait()
        assert finished[1] == 0, finished
        assert can_be_taken(lock)
    """)


def test_a_fork_in_the_middle_of_work_waits_for_nobody_who_waits_for_it() -> None:
    """The thread that forks holds the older lock, another the newer one; it waits for the older one."""
    run_script("""
        older, newer = core.ForkSafeLock(), core.ForkSafeLock()
        def work():
            with newer:
                with older:
                    pass
        def says_that_it_is_lost():
            try:
                with newer:
                    return False
            except Exception as error:
                return "load it again" in str(error)
        with older:
            threading.Thread(target=work).start()
            time.sleep(0.2)
            assert child_of(says_that_it_is_lost) == 0
        assert can_be_taken(older, newer)
    """)


def test_two_threads_may_fork_at_once() -> None:
    run_script("""
        locks, codes = [core.ForkSafeLock() for _ in range(20)], []
        def work():
            codes.extend(child_of(lambda: can_be_taken(*locks)) for _ in range(15))
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes == [0] * 45
    """)


def test_a_fork_waits_for_a_tokenizer_in_the_making() -> None:
    run_script("""
        import json
        from edgeformer.text.library import LibraryEncoder
        from edgeformer.text.tokenizer import Tokenizer
        model = {"type": "WordPiece", "unk_token": "a", "vocab": {"a": 0, "b": 1},
                 "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}
        tokenizer = Tokenizer.from_metadata({"tokenizer.huggingface.json": json.dumps({"model": model})}, path="x")
        def encode():
            return tokenizer.encode("b", parse_special=True)
        build = LibraryEncoder._built
        LibraryEncoder._built = lambda self, description: time.sleep(0.4) or build(self, description)
        threading.Thread(target=encode).start()
        time.sleep(0.1)
        assert child_of(lambda: encode() == [1]) == 0
    """)
