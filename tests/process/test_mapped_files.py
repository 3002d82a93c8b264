"""A packed file that changes while it is mapped: an error in the caller, the process alive, the host's handlers intact.

Each case that could end a process runs in one of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import edgeformer
import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.engine.packing import pack
from support.random_llama import write_random_llama

PROMPT = [5, 17, 60, 2, 33]
HEAD_BYTES = 1 << 14  # that are left of a file cut short: a page or more of its weights is gone
PREAMBLE = """
import faulthandler, mmap, os, resource, signal, sys, threading, time
import edgeformer
path = sys.argv[1]
signal.alarm(60)  # a hang ends the process instead of the test run
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def load():
    return edgeformer.load(path, threads=2)

def cut(name=path):
    os.truncate(name, 1 << 14)

def refused(model):
    try:
        model.generate([5, 17, 60], max_tokens=8)
    except edgeformer.ModelFileChangedError:
        return True

def fault_of_another_file():
    "Touches a page that is not there any more, in a mapping that is not edgeformer's."
    other = path + ".other"
    with open(other, "w+b") as file:
        file.truncate(1 << 16)
        mapped = mmap.mmap(file.fileno(), 1 << 16)
    cut(other)
    return mapped[40_000]

def fault_of_another_file_while_a_model_runs(model):
    "In this thread, once the other thread's run has the handler in place."
    prompt = [(7 * position) % model.vocab_size for position in range(12_000)]
    threading.Thread(target=lambda: model.generate(prompt, max_tokens=1), daemon=True).start()
    time.sleep(0.2)
    fault_of_another_file()
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    pack(write_random_llama(folder / "a.gguf", context=16_384), folder / "packed.gguf")
    return folder / "packed.gguf"


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "packed.gguf"
    copy.write_bytes(original.read_bytes())
    return copy


@pytest.fixture
def model(path: Path) -> Iterator[edgeformer.Model]:
    with edgeformer.load(path, threads=2) as opened:
        assert opened.memory["mapped"] == opened.memory["weights"]
        yield opened


def script(path: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + textwrap.dedent(code), str(path)]
    environment = {**os.environ, "EDGEFORMER_NUMBA": "0"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def ends_well(path: Path, code: str) -> None:
    result = script(path, code)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_cut_short_while_it_generates(path: Path, threads: int) -> None:
    with edgeformer.load(path, threads=threads) as model:
        pages = model.session._runner.caches.pools["self"]
        with pytest.raises(edgeformer.ModelFileChangedError, match=r"packed\.gguf: it was cut short"):
            for number, _ in enumerate(model.generate(PROMPT, stream=True)):
                if number == 3:
                    os.truncate(path, HEAD_BYTES)
        assert pages.num_free == pages.memory.num_pages
        with pytest.raises(edgeformer.ModelFileChangedError):
            model.generate(PROMPT, max_tokens=1)


def test_cut_short_during_a_run(model: edgeformer.Model, path: Path) -> None:
    prompt = [(7 * position) % model.vocab_size for position in range(12_000)]
    timer = threading.Timer(0.05, lambda: os.truncate(path, HEAD_BYTES))
    timer.start()
    with pytest.raises(edgeformer.ModelFileChangedError):
        while True:
            model.generate(prompt, max_tokens=1)
    timer.join()


def test_cut_short_under_several_threads(model: edgeformer.Model, path: Path) -> None:
    errors: list[type[BaseException]] = []

    def work() -> None:
        try:
            model.generate(PROMPT)
        except edgeformer.EdgeformerError as error:
            errors.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    os.truncate(path, HEAD_BYTES)
    for thread in threads:
        thread.join()
    assert errors == [edgeformer.ModelFileChangedError] * 4


def test_moved_over_or_deleted_it_stays_what_it_was(model: edgeformer.Model, path: Path, original: Path) -> None:
    wanted = model.generate(PROMPT, max_tokens=9).token_ids
    other = path.with_name("other")
    other.write_bytes(b"something else")
    os.replace(other, path)
    assert model.generate(PROMPT, max_tokens=9).token_ids == wanted
    path.unlink()
    assert model.generate(PROMPT, max_tokens=9).token_ids == wanted


def test_written_to(model: edgeformer.Model, path: Path) -> None:
    """The pages are all there, with other weights in them: nothing faults, and nothing must come of it."""
    model.generate(PROMPT, max_tokens=1)
    with open(path, "r+b") as file:
        file.seek(HEAD_BYTES)
        file.write(bytes(4096))
        os.utime(file.fileno(), ns=(0, 0))
    with pytest.raises(edgeformer.ModelFileChangedError, match="it was written to"):
        model.generate(PROMPT, max_tokens=1)


def test_cut_short_before_it_is_loaded(path: Path) -> None:
    os.truncate(path, HEAD_BYTES)
    with pytest.raises(edgeformer.ModelFormatError, match="cut short"):
        edgeformer.load(path)


def test_cut_short_while_it_is_loaded(path: Path) -> None:
    with pytest.raises(edgeformer.ModelFileChangedError):
        edgeformer.load(path, progress=lambda *_: os.truncate(path, HEAD_BYTES))


def test_every_way_to_read_a_mapped_matrix_is_guarded(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(1 << 20))
    with open(path, "rb") as file:
        mapped = core.MappedFile(file.fileno(), str(path))
    matrix = core.Matrix(core.EF_F32, 1024, 256, mapped)
    x, row = np.ones((1, 256), np.float32), np.array([1000], np.int32)
    reads = [
        lambda: matrix.row(1000),
        lambda: matrix.panels(),
        lambda: core.kernel_matmul(None, matrix, x),
        lambda: core.kernel_embed(None, matrix, row),
    ]
    for read in reads:
        assert not np.any(read())
    os.truncate(path, 4096)
    for read in reads:
        with pytest.raises(edgeformer.ModelFileChangedError):
            read()


def test_matrices_must_lie_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(4096))
    with open(path, "rb") as file:
        mapped, other = (core.MappedFile(file.fileno(), str(path)) for _ in range(2))
    assert mapped.nbytes == 4096
    for offset in (-64, 32, 64, 2**63):
        with pytest.raises((edgeformer.InvalidInputError, OverflowError)):
            core.Matrix(core.EF_F32, 64, 16, mapped, offset)
    matrix = core.Matrix(core.EF_F32, 48, 16, mapped, 1024)
    with pytest.raises(edgeformer.InvalidInputError, match="cannot be written"):
        matrix.pack(np.zeros(16 * 48, np.float32), 0, 48)
    plan = core.Plan()
    plan.add_matrix(matrix)
    with pytest.raises(edgeformer.InvalidInputError, match="one mapped file"):
        plan.add_matrix(core.Matrix(core.EF_F32, 16, 16, other))
    path.write_bytes(b"")
    with open(path, "rb") as file, pytest.raises(OSError):
        core.MappedFile(file.fileno(), str(path))


def test_a_daemon_that_closed_every_descriptor(path: Path) -> None:
    ends_well(path, """
        model = load()
        wanted = model.generate([5], max_tokens=8).token_ids
        os.closerange(3, 256)
        assert model.generate([5], max_tokens=8).token_ids == wanted
        held = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]
        assert model.generate([5], max_tokens=8).token_ids == wanted
        cut()
        assert refused(model)
    """)  # fmt: skip


def test_many_files_mapped_and_forgotten(path: Path) -> None:
    for _ in range(50):
        with open(path, "rb") as file:
            maps = [core.MappedFile(file.fileno(), str(path)) for _ in range(5)]
        assert [item.nbytes for item in maps] == [path.stat().st_size] * 5


# -- the host's handlers --------------------------------------------------------------------------------------------


def test_the_hosts_handler_gets_what_is_sent_and_no_fault_of_ours(model: edgeformer.Model, path: Path) -> None:
    received: list[int] = []

    def handler(number: int, _: object) -> None:
        received.append(number)

    before = signal.signal(signal.SIGBUS, handler)
    try:
        stream = model.generate(PROMPT, stream=True)
        next(stream)
        os.kill(os.getpid(), signal.SIGBUS)
        next(stream)
        assert received == [signal.SIGBUS]
        os.truncate(path, HEAD_BYTES)
        with pytest.raises(edgeformer.ModelFileChangedError):
            next(stream)
        assert received == [signal.SIGBUS]
        assert signal.getsignal(signal.SIGBUS) is handler
        os.kill(os.getpid(), signal.SIGBUS)
        assert received == [signal.SIGBUS] * 2
    finally:
        signal.signal(signal.SIGBUS, before)


def test_a_signal_sent_during_a_run_reaches_the_host(path: Path) -> None:
    ends_well(path, """
        received = []
        signal.signal(signal.SIGBUS, lambda number, _: received.append(number))
        model = load()
        prompt = [(7 * position) % model.vocab_size for position in range(12_000)]
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGBUS)).start()
        while not received:
            model.generate(prompt, max_tokens=1)
        cut()
        assert refused(model) and len(received) == 1
    """)  # fmt: skip


@pytest.mark.parametrize("enabled", ["before", "after"])
def test_it_nests_with_faulthandler(path: Path, enabled: str) -> None:
    ends_well(path, f"""
        if {enabled == "before"}:
            faulthandler.enable()
        model = load()
        model.generate([5], max_tokens=2)
        if {enabled == "after"}:
            faulthandler.enable()
        cut()
        assert refused(model) and refused(model)
        assert faulthandler.is_enabled()
    """)  # fmt: skip


def test_a_thread_that_blocks_the_signal(path: Path) -> None:
    ends_well(path, """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGBUS])
        model = load()
        cut()
        assert refused(model)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == {signal.SIGBUS}
    """)  # fmt: skip


def test_a_forked_child(path: Path) -> None:
    ends_well(path, """
        model = load()
        wanted = model.generate([5], max_tokens=8).token_ids
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            same = model.generate([5], max_tokens=8).token_ids == wanted
            cut()
            os._exit(0 if same and refused(model) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert refused(model)
    """)  # fmt: skip


@pytest.mark.parametrize("running", [False, True])
def test_a_fault_of_somebody_else_ends_the_process_as_ever(path: Path, running: bool) -> None:
    call = "fault_of_another_file_while_a_model_runs(load())" if running else "load(); fault_of_another_file()"
    result = script(path, call)
    assert (result.returncode, result.stderr) == (-signal.SIGBUS, "")


def test_a_fault_of_somebody_else_is_dumped_once_by_faulthandler(path: Path) -> None:
    result = script(path, "faulthandler.enable(); fault_of_another_file_while_a_model_runs(load())")
    assert result.returncode == -signal.SIGBUS
    assert result.stderr.count("Fatal Python error: Bus error") == 1


def test_faulthandler_enabled_during_a_run_does_not_loop(path: Path) -> None:
    result = script(path, """
        model = load()
        prompt = [(7 * position) % model.vocab_size for position in range(12_000)]
        threading.Thread(target=lambda: model.generate(prompt), daemon=True).start()
        time.sleep(0.2)
        faulthandler.enable()
        fault_of_another_file()
    """)  # fmt: skip
    assert result.returncode == -signal.SIGBUS
    assert result.stderr.count("Fatal Python error: Bus error") == 1


def test_a_wrong_path_closes_no_descriptor_of_the_host(tmp_path: Path) -> None:
    path = write_random_llama(tmp_path / "model.gguf", context=64)
    before = os.fstat(0)
    with open(path, "rb") as file, pytest.raises(TypeError):
        core.MappedFile(file.fileno(), os.fsencode(path))
    assert os.fstat(0) == before
