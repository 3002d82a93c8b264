"""Speed of a model file, in the row fields of llama.cpp's llama-bench, so that its users and tools can read them.

As there, a prompt test (``n_prompt`` tokens in one call) and a generation test (``n_gen`` single tokens) are separate
rows, tokens are arbitrary, and neither tokenization nor sampling is counted. An encoder has the prompt test alone. An
encoder-decoder's prompt test is its encoder over a source, its generation test the decoder's steps after it.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..engine.session import Session
from ..errors import ContextOverflowError, InvalidOptionError
from ..files.gguf.reader import GGUFFile
from ..generation.results import peak_memory_bytes

__all__ = ["bench", "cpu_name"]

DEFAULT_PROMPT, DEFAULT_GENERATION = 512, 128
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class _Test:
    """One row to measure: exactly one of `n_prompt` and `n_gen` is not zero."""

    n_prompt: int
    n_gen: int
    n_depth: int

    @property
    def name(self) -> str:
        kind = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return kind if self.n_depth == 0 else f"{kind} @ d{self.n_depth}"


def bench(
    path: str | os.PathLike[str],
    n_prompt: int | None = None,
    n_gen: int | None = None,
    threads: int | None = None,
    repetitions: int = 5,
    *,
    n_depth: int = 0,
    kv_type: str = "f16",
    isa: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure a model file.

    Parameters
    ----------
    path : path of a GGUF file
    n_prompt, n_gen : int, optional
        Tokens of the two tests, 0 to leave one out; default 512 and 128, or what the model's context allows.
    threads : int, optional
        Default: every core this process may use.
    repetitions : int
        Runs of each test after one that is not counted.
    n_depth : int
        Positions that are filled before a test starts; an encoder-decoder's source in its generation test.
    kv_type, isa
        As for `Session.open`.
    progress : callable, optional
        Called with (repetitions done, all, the test's name).

    Returns
    -------
    list of dict
        llama-bench's fields, besides: ``test``, ``isa``, ``p50_ms``, ``p90_ms``, ``p99_ms`` (of one call: a token in a
        generation test, the whole prompt in a prompt test), ``time_to_first_token_ms`` (median: the prompt, or the
        first generated token's call), ``peak_memory_bytes`` (of the process so far).

    Raises
    ------
    ContextOverflowError
        The sizes that were asked for do not fit the model's context.
    InvalidOptionError
        A negative size, no repetition, or a generation test of an encoder.
    """
    if repetitions < 1 or min(n_prompt or 0, n_gen or 0, n_depth) < 0:
        raise InvalidOptionError("repetitions must be at least 1, and n_prompt, n_gen and n_depth at least 0")
    session = Session.open(path, threads=threads, kv_type=kv_type, isa=isa)
    try:
        tests = _tests(session, n_prompt, n_gen, n_depth)
        common = {**_model_fields(path), **_session_fields(session, kv_type)}
        rows = []
        for index, test in enumerate(tests):
            begun = datetime.datetime.now(datetime.timezone.utc)
            runs = []
            for repetition in range(repetitions + 1):
                runs.append(_run(session, test))
                if progress is not None:
                    progress(index * (repetitions + 1) + repetition + 1, len(tests) * (repetitions + 1), test.name)
            rows.append({**common, **_result_fields(test, begun, runs[1:])})
        return rows
    finally:
        session.close()


def _tests(session: Session, n_prompt: int | None, n_gen: int | None, n_depth: int) -> list[_Test]:
    """The rows to measure: sizes that were asked for are kept or refused, defaults are cut to the context."""
    if session.family == "encoder":
        if n_gen or n_depth:
            raise InvalidOptionError("an encoder generates nothing: leave n_gen and n_depth at 0")
        n_gen = 0
    source = session.family == "encoder-decoder"
    room = session.n_ctx if source else session.n_ctx - n_depth
    n_prompt = min(DEFAULT_PROMPT, room) if n_prompt is None else n_prompt
    n_gen = min(DEFAULT_GENERATION, room) if n_gen is None else n_gen
    largest = max(n_prompt, n_gen, n_depth if source else 0)
    if largest > room or room < 0:
        raise ContextOverflowError(largest if source else n_depth + largest, session.n_ctx)
    tests = []
    if n_prompt:
        tests.append(_Test(n_prompt, 0, 0 if source else n_depth))
    if n_gen:
        tests.append(_Test(0, n_gen, (n_depth or n_prompt or room) if source else n_depth))
    return tests


def _tokens(count: int, vocab_size: int) -> list[int]:
    """The same arbitrary ids each time."""
    return [int(token) for token in np.random.default_rng(0).integers(0, vocab_size, count)]


def _timed(call: Callable[[], object]) -> int:
    """Nanoseconds that `call` takes."""
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def _run(session: Session, test: _Test) -> list[int]:
    """Nanoseconds of each call of one run of `test`."""
    if test.n_prompt:
        return [_prompt_run(session, test)]
    return list(_generation_run(session, test))


def _prompt_run(session: Session, test: _Test) -> int:
    if session.family == "encoder":
        ids = _tokens(test.n_prompt, session.vocab_size)
        return _timed(lambda: session.hidden([ids]))
    if session.family == "encoder-decoder":
        ids = _tokens(test.n_prompt, session.config.src_vocab_size)
        return _timed(lambda: session.encode_source([ids]))
    ids = _tokens(test.n_depth + test.n_prompt, session.vocab_size)
    sequence = session.new_sequence()
    try:
        if test.n_depth:
            session.forward([(sequence, ids[: test.n_depth])])
        return _timed(lambda: session.forward([(sequence, ids[test.n_depth :])]))
    finally:
        sequence.free()


def _generation_run(session: Session, test: _Test) -> Iterator[int]:
    if session.family == "encoder-decoder":
        [sequence] = session.encode_source([_tokens(test.n_depth, session.config.src_vocab_size)])
    else:
        sequence = session.new_sequence()
        if test.n_depth:
            session.forward([(sequence, _tokens(test.n_depth, session.vocab_size))])
    try:
        for token in _tokens(test.n_gen, session.vocab_size):
            feed = [(sequence, [token])]
            yield _timed(lambda feed=feed: session.forward(feed))  # type: ignore[misc]
    finally:
        sequence.free()


def _model_fields(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Fields that the file's header answers."""
    with GGUFFile(path) as file:
        tensors = list(file.tensors.values())
        bytes_by_type: Counter[str] = Counter()
        for tensor in tensors:
            bytes_by_type[tensor.type_name] += tensor.nbytes
        parameters = sum(math.prod(tensor.shape) for tensor in tensors)
        [(main_type, _)] = bytes_by_type.most_common(1)
        architecture = file.metadata.get("general.architecture", "unknown")
    return {
        "model_filename": os.fspath(path),
        "model_type": f"{architecture} {_short_count(parameters)} {main_type.upper()}",
        "model_size": sum(bytes_by_type.values()),
        "model_n_params": parameters,
    }


def cpu_name() -> str:
    """The processor's name for people; nothing is decided by it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _short_count(count: int) -> str:
    """``1_234_567`` -> ``1.23M``."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return str(count)


def _session_fields(session: Session, kv_type: str) -> dict[str, Any]:
    """Fields that say how the model runs. A cache type is that of the decoder; an encoder keeps float32."""
    encoder = session.family == "encoder"
    return {
        "build_commit": __version__,
        "build_number": 0,
        "cpu_info": cpu_name(),
        "gpu_info": "",
        "backends": "CPU",
        "n_batch": session.batch,
        "n_ubatch": session.batch,
        "n_threads": session.threads,
        "type_k": "f32" if encoder else kv_type,
        "type_v": "f32" if encoder else kv_type,
        "isa": session.isa,
    }


def _result_fields(test: _Test, begun: datetime.datetime, runs: list[list[int]]) -> dict[str, Any]:
    """Fields that the clock answers; `runs` holds the nanoseconds of each call of each repetition."""
    samples_ns = [sum(run) for run in runs]
    tokens = test.n_prompt or test.n_gen
    samples_ts = [tokens * 1e9 / ns for ns in samples_ns]
    calls_ms = np.array([ns for run in runs for ns in run]) / 1e6
    return {
        "test": test.name,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.n_depth,
        "test_time": begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "avg_ns": round(statistics.fmean(samples_ns)),
        "stddev_ns": round(_deviation(samples_ns)),
        "avg_ts": statistics.fmean(samples_ts),
        "stddev_ts": _deviation(samples_ts),
        "samples_ns": samples_ns,
        "samples_ts": samples_ts,
        **{f"p{p}_ms": float(np.percentile(calls_ms, p)) for p in PERCENTILES},
        "time_to_first_token_ms": statistics.median(run[0] for run in runs) / 1e6,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _deviation(samples: list[int] | list[float]) -> float:
    """Standard deviation with n - 1; 0 for a single sample."""
    return statistics.stdev(samples) if len(samples) > 1 else 0.0
