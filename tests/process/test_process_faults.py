"""What may happen to the process around a model: forks, signals, threads, files that change, an early exit.

Each case runs in a process of its own where it could harm this one. The model has a context of 16,384 positions, so
that a prompt can be made to take long enough to be interrupted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import edgeformer
import edgeformer.model
import numpy as np
import pytest
from edgeformer.engine.loading import LoadedModel
from edgeformer.engine.session import Session
from support.random_llama import VOCABULARY, write_random_llama

LONG_PROMPT = [(7 * position) % VOCABULARY for position in range(12_000)]
PREAMBLE = """
import os, signal, sys, threading, time
import edgeformer
path = sys.argv[1]
signal.alarm(30)  # a hang ends the process instead of the test run
model = edgeformer.load(path, threads=2)
prompt = [5, 17, 60, 2, 33]
long_prompt = [(7 * position) % model.vocab_size for position in range(12_000)]

def tokens():
    return model.generate(prompt, max_tokens=24).token_ids

def free_pages():
    pool = model.session._runner.caches.pools["self"]
    return pool.num_free, pool.memory.num_pages

def all_pages_free():
    free, total = free_pages()
    return free == total

def in_child(function):
    "The exit code of a forked child that calls `function`; 0 if it gives True."
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(0 if function() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_llama(tmp_path_factory.mktemp("llama") / "random.gguf", context=16_384)


def run_script(path: Path, code: str, *, numba: bool = False) -> None:
    """Run `code` after the preamble in a process of its own, which must end well and say nothing on stderr. Without
    Numba, whose import takes longer than most of these tests, the norms come from C.
    """
    script = PREAMBLE + textwrap.dedent(code)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, str(path)]
    environment = {**os.environ, "EDGEFORMER_NUMBA": "1" if numba else "0"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


def test_fork_after_use(llama):
    run_script(
        llama,
        """
        wanted = tokens()
        for _ in range(5):
            assert in_child(lambda: tokens() == wanted and tokens() == wanted) == 0
            assert tokens() == wanted
        """,
        numba=True,
    )


def test_fork_before_first_use(llama):
    run_script(
        llama,
        """
        def child():
            first = tokens()
            return len(first) == 24 and tokens() == first
        assert in_child(child) == 0
        assert len(tokens()) == 24
        """,
    )


def test_fork_while_another_thread_generates(llama):
    run_script(
        llama,
        """
        wanted, stop = tokens(), threading.Event()
        def work():
            while not stop.is_set():
                assert tokens() == wanted
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        for _ in range(20):
            assert in_child(lambda: tokens() == wanted) == 0
            time.sleep(0.003)
        stop.set()
        for thread in threads: thread.join()
        assert tokens() == wanted
        assert all_pages_free()
        """,
    )


def test_fork_while_another_thread_reads_a_stream(llama):
    run_script(
        llama,
        """
        stream, stop = model.generate([1], max_tokens=16_000, stream=True), threading.Event()
        def read():
            for chunk in stream:
                if stop.is_set():
                    return
        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            assert in_child(lambda: len([next(stream) for _ in range(5)]) == 5) == 0
        stop.set()
        reader.join()
        stream.close()
        """,
    )


def test_a_child_may_load_a_model_of_its_own(llama):
    run_script(
        llama,
        """
        wanted = tokens()
        def child():
            with edgeformer.load(path, threads=2) as other:
                return other.generate(prompt, max_tokens=24).token_ids == wanted
        assert in_child(child) == 0
        """,
    )


def test_a_spawned_process_gets_the_model_by_pickle(llama, tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            import edgeformer

            def generate(model):
                return model.generate([5, 17], max_tokens=9).token_ids

            if __name__ == "__main__":
                with edgeformer.load(sys.argv[1], threads=1) as model:
                    with multiprocessing.get_context("spawn").Pool(1) as pool:
                        assert pool.apply(generate, [model]) == generate(model)
            """
        )
    )
    result = subprocess.run([sys.executable, str(script), str(llama)], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "call",
    [
        "model.generate(long_prompt, max_tokens=1)",
        "model.generate([1], max_tokens=16_000)",
        "list(model.generate([1], max_tokens=16_000, stream=True))",
        "model.generate([1, 2], max_tokens=8_000, num_beams=4)",
        "model.logits(long_prompt)",
        "model.hidden_states(long_prompt)",
    ],
)
def test_ctrl_c(llama, call):
    run_script(
        llama,
        f"""
        wanted = tokens()
        for delay in (0.02, 0.1, 0.17):
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            try:
                {call}
            except KeyboardInterrupt:
                pass
            else:
                raise SystemExit("the call ended by itself")
            timer.join()
            assert tokens() == wanted
            assert all_pages_free(), free_pages()
        """,
    )


def test_tests_of_ctrl_c_end_where_sigint_comes_ignored():
    tests = Path(__file__).parents[1]
    chosen = [f"{tests}/host/test_threads.py::test_ctrl_c_ends_a_run", f"{tests}/files/test_gguf_writer.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "ctrl_c or killed", *chosen]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    result = subprocess.run(ignoring, capture_output=True, text=True, timeout=60, cwd=tests.parent)
    assert result.returncode == 0 and "4 passed" in result.stdout, result.stdout


def test_a_handler_of_the_host_is_called_and_the_run_goes_on(llama):
    run_script(
        llama,
        """
        wanted, calls = tokens(), []
        signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        logits = model.logits(long_prompt[:6000])
        assert calls == [1] and len(logits) == 6000
        assert tokens() == wanted
        """,
    )


def num_free(model: edgeformer.Model) -> int:
    return model.session._runner.caches.pools["self"].num_free


@pytest.mark.parametrize("beams", [1, 3])
def test_cancelling_from_another_thread_frees_the_pages(llama, beams):
    with edgeformer.load(llama, threads=2) as model:
        pages, wanted = num_free(model), model.generate([1, 2], max_tokens=8).token_ids
        for prompt in (LONG_PROMPT, [3]):
            flag = edgeformer.CancelFlag()
            timer = threading.Timer(0.08, flag.set)
            timer.start()
            result = model.generate(prompt, num_beams=beams, max_tokens=4_000, cancel=flag)
            timer.join()
            assert result.finish_reason == "cancelled"
            assert num_free(model) == pages
            assert model.generate([1, 2], max_tokens=8).token_ids == wanted


def test_closing_a_stream_from_another_thread(llama):
    with edgeformer.load(llama, threads=2) as model:
        pages = num_free(model)
        stream = model.generate([1], stream=True)
        with ThreadPoolExecutor(1) as executor:
            reader = executor.submit(lambda: sum(len(chunk.token_ids) for chunk in stream))
            while not stream.results or stream.results[0].usage.completion_tokens < 3:
                time.sleep(0.001)
            stream.close()
            assert 3 <= reader.result() < 10_000
        assert stream.result.finish_reason == "cancelled"
        assert num_free(model) == pages


def test_threads_on_one_model_get_what_each_gets_alone(llama):
    prompts = [[index, 3 * index + 1, 40] for index in range(8)]
    options = [{}, {"num_beams": 3}, {"temperature": 1.0, "seed": 5}]
    calls = [(prompt, options[index % 3]) for index, prompt in enumerate(prompts)] * 2
    interval = sys.getswitchinterval()
    with edgeformer.load(llama, threads=2) as model:
        pages = num_free(model)
        alone = [model.generate(prompt, max_tokens=30, **more).token_ids for prompt, more in calls]
        wanted = model.logits(prompts[0])
        try:
            sys.setswitchinterval(1e-6)
            with ThreadPoolExecutor(4) as executor:
                futures = [executor.submit(model.generate, prompt, max_tokens=30, **more) for prompt, more in calls]
                assert np.array_equal(model.logits(prompts[0]), wanted)
                together = [future.result().token_ids for future in futures]
        finally:
            sys.setswitchinterval(interval)
        assert together == alone
        assert num_free(model) == pages


def test_the_file_may_change_once_the_model_is_loaded(tmp_path):
    path = write_random_llama(tmp_path / "model.gguf", context=256)
    with edgeformer.load(path, threads=2) as model:
        wanted = model.generate([1, 2], max_tokens=9).token_ids
        with open(path, "r+b") as file:
            file.truncate(100)
        assert model.generate([1, 2], max_tokens=9).token_ids == wanted
        (tmp_path / "other").write_bytes(b"something else")
        os.replace(tmp_path / "other", path)
        assert model.generate([1, 2], max_tokens=9).token_ids == wanted
        path.unlink()
        assert model.generate([1, 2], max_tokens=9).token_ids == wanted


def test_a_file_that_is_cut_while_it_loads(tmp_path):
    path = write_random_llama(tmp_path / "model.gguf", context=256)
    size = path.stat().st_size

    def cut(*_: int) -> None:
        with open(path, "r+b") as file:
            file.truncate(size // 2)

    with pytest.raises(edgeformer.ModelFileChangedError, match=r"model\.gguf"):
        Session.open(path, progress=cut)


@pytest.mark.parametrize("change", ["replace", "delete", "rewrite"])
def test_a_file_that_is_replaced_while_it_loads(tmp_path, monkeypatch, change):
    path = write_random_llama(tmp_path / "model.gguf", context=256)
    other = write_random_llama(tmp_path / "other.gguf", context=256, seed=1)
    genuine = edgeformer.model.load_model

    def interfered(*arguments: object) -> LoadedModel:
        loaded = genuine(*arguments)
        if change == "replace":
            os.replace(other, path)
        elif change == "rewrite":
            path.write_bytes(other.read_bytes())
        else:
            path.unlink()
        return loaded

    monkeypatch.setattr(edgeformer.model, "load_model", interfered)
    with pytest.raises(edgeformer.ModelFileChangedError, match=r"model\.gguf"):
        edgeformer.load(path)


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.05])
@pytest.mark.parametrize("prompt", ["long_prompt", "prompt"])
def test_exit_while_a_daemon_thread_generates(llama, prompt, delay):
    run_script(
        llama,
        f"""
        def work():
            while True:
                model.generate({prompt}, max_tokens=500)
        threading.Thread(target=work, daemon=True).start()
        time.sleep({delay})
        """,
    )


def test_exit_with_a_stream_left_open(llama):
    run_script(llama, "stream = model.generate(prompt, stream=True)\nnext(stream)\nmodel.itself = model\n")


def test_exit_with_an_asynchronous_generation_cancelled(llama):
    run_script(
        llama,
        """
        import asyncio
        async def main():
            task = asyncio.ensure_future(model.agenerate(long_prompt))
            await asyncio.sleep(0.05)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert all_pages_free()
                return "cancelled"
        assert asyncio.run(main()) == "cancelled"
        """,
    )


def test_running_out_of_pages_leaves_the_model_usable(llama):
    with edgeformer.load(llama) as model:
        memory = model.memory
    limit = memory["weights"] + memory["scratch"] + memory["cache"]
    with edgeformer.load(llama, threads=2, n_ctx=16_384, max_memory=limit) as model:
        assert num_free(model) * 16 < 2 * len(LONG_PROMPT)
        pages, wanted = num_free(model), model.generate([1, 2], max_tokens=8).token_ids
        with model.generate(LONG_PROMPT, stream=True) as held:
            next(held)
            with pytest.raises(MemoryError, match="bytes"):
                model.generate(LONG_PROMPT, max_tokens=4)
            assert len(next(held).token_ids) == 1
        assert num_free(model) == pages
        assert model.generate([1, 2], max_tokens=8).token_ids == wanted
