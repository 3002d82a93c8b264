"""Speed of a model file, in the row fields of llama.cpp's llama-bench, so that its users and tools can read them.

As there, a prompt test (``n_prompt`` tokens in one call) and a generation test (``n_gen`` single tokens) are separate
rows unless they are asked for together, tokens are arbitrary, and neither tokenization nor sampling is counted. An
encoder has the prompt test alone. An encoder-decoder's prompt test is its encoder over a source, its generation test
the decoder's steps after it.
"""

from __future__ import annotations

import datetime
import itertools
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import __version__
from ..engine.session import CachedSequence, Session
from ..errors import ContextOverflowError, InvalidOptionError, quote
from ..files.gguf.reader import GGUFFile
from ..generation.results import peak_memory_bytes
from .machine import cpu_name

__all__ = ["bench"]

DEFAULT_PROMPT, DEFAULT_GENERATION = 512, 128
PERCENTILES = (50, 90, 99)

Several = int | Sequence[int]  # one value, or a list of them


@dataclass(frozen=True)
class _Test:
    """One row to measure: reading `n_prompt` tokens, then generating `n_gen`; one of the two may be 0."""

    n_prompt: int
    n_gen: int
    n_depth: int
    n_batch: int  # tokens given in one call
    n_ubatch: int  # tokens of one run at most

    @property
    def name(self) -> str:
        kinds = [f"pp{self.n_prompt}"] * bool(self.n_prompt) + [f"tg{self.n_gen}"] * bool(self.n_gen)
        return "+".join(kinds) + (f" @ d{self.n_depth}" if self.n_depth else "")


@dataclass(frozen=True)
class _Run:
    """Nanoseconds of one repetition: of the whole prompt (0 without one), and of each generated token."""

    prompt: int
    tokens: list[int]

    @property
    def total(self) -> int:
        return self.prompt + sum(self.tokens)


def bench(
    path: str | os.PathLike[str],
    n_prompt: Several | None = None,
    n_gen: Several | None = None,
    threads: int | None = None,
    repetitions: int = 5,
    *,
    n_prompt_gen: Sequence[tuple[int, int]] = (),
    n_depth: Several = 0,
    n_batch: Several | None = None,
    n_ubatch: Several | None = None,
    kv_type: str = "f16",
    isa: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure a model file. Where a list of sizes is given, all combinations are measured.

    Parameters
    ----------
    path : path of a GGUF file
    n_prompt, n_gen : int or list of int, optional
        Tokens of the two tests, 0 to leave one out; default 512 and 128, or what the model's context allows.
    threads : int, optional
        Default: every core this process may use.
    repetitions : int
        Runs of each test after one that is not counted.
    n_prompt_gen : list of (int, int)
        Tests that read a prompt and go on to generate, timed together.
    n_depth : int or list of int
        Positions that are filled before a test starts; an encoder-decoder's source in its generation test.
    n_batch, n_ubatch : int or list of int, optional
        A decoder's prompt is given in calls of at most `n_batch` tokens and computed in runs of at most `n_ubatch`.
        Default: one call, in runs as large as memory was planned for, as `generate` does it.
    kv_type, isa
        As for `Session.open`.
    progress : callable, optional
        Called with (repetitions done, all, the test's name) before each repetition and at the end.

    Returns
    -------
    list of dict
        llama-bench's fields, besides: ``test``, ``isa``, ``p50_ms``, ``p90_ms``, ``p99_ms`` (of one call: a token
        where tokens are generated, else the whole prompt), ``time_to_first_token_ms`` (median: the prompt, or the
        first generated token's call), ``peak_memory_bytes`` (of the process so far).

    Raises
    ------
    ContextOverflowError
        The sizes that were asked for do not fit the model's context.
    InvalidOptionError
        A negative size, nothing to measure, no repetition, a batch that cannot be had, or a generation test of an
        encoder.
    """
    sizes = {name: _several(name, value, 0) for name, value in (("n_prompt", n_prompt), ("n_gen", n_gen))}
    depths = _several("n_depth", n_depth, 0) or [0]
    batches = _several("n_batch", n_batch, 1), _several("n_ubatch", n_ubatch, 1)
    pairs = [(prompt, gen) for prompt, gen in n_prompt_gen]
    for pair in pairs:
        _several("n_prompt_gen", pair, 0)
    if repetitions < 1:
        raise InvalidOptionError(f"repetitions: at least 1 is needed, not {repetitions}")
    session = Session.open(path, threads=threads, kv_type=kv_type, isa=isa)
    try:
        runs = list(itertools.product(batches[0] or [session.n_ctx], batches[1] or [session.batch]))
        tests = _tests(session, sizes["n_prompt"], sizes["n_gen"], pairs, depths, runs)
        common = {**_model_fields(path), **_session_fields(session, kv_type)}
        return list(_measure(session, tests, repetitions, common, progress or (lambda done, total, what: None)))
    finally:
        session.close()


def _measure(
    session: Session,
    tests: list[_Test],
    repetitions: int,
    common: dict[str, Any],
    progress: Callable[[int, int, str], None],
) -> Iterator[dict[str, Any]]:
    """The row of each test; its first run is not counted."""
    total = len(tests) * (repetitions + 1)
    for index, test in enumerate(tests):
        begun = datetime.datetime.now(datetime.timezone.utc)
        runs = []
        for repetition in range(repetitions + 1):
            progress(index * (repetitions + 1) + repetition, total, test.name)
            runs.append(_run(session, test))
        progress((index + 1) * (repetitions + 1), total, test.name)
        yield {**common, **_result_fields(test, begun, runs[1:])}


def _several(name: str, values: Several | None, least: int) -> list[int] | None:
    """The values as a list; None stays None.

    Raises
    ------
    InvalidOptionError
        One is no integer, or less than `least`.
    """
    if values is None:
        return None
    listed = [values] if isinstance(values, int) else list(values)
    for value in listed:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidOptionError(f"{name}: an integer of at least {least} is needed, not {quote(value)}")
    return listed


def _tests(
    session: Session,
    prompts: list[int] | None,
    gens: list[int] | None,
    pairs: list[tuple[int, int]],
    depths: list[int],
    runs: list[tuple[int, int]],
) -> list[_Test]:
    """The rows to measure: sizes that were asked for are kept or refused, defaults are cut to the context."""
    if "logits" not in session.step_outputs:
        if any(gens or ()) or any(depths) or any(gen for _, gen in pairs):
            raise InvalidOptionError("a model without logits generates nothing: leave n_gen and n_depth at 0")
        gens = []
    has_source = session.needs_source
    room = session.n_ctx if has_source else session.n_ctx - max(depths)
    if room < 1:
        raise ContextOverflowError(max(depths) + 1, session.n_ctx)
    prompts = [min(DEFAULT_PROMPT, room)] if prompts is None else prompts
    gens = [min(DEFAULT_GENERATION, room)] if gens is None else gens
    source = max([*prompts, 0]) or room
    kinds = [(size, 0) for size in prompts] + [(0, size) for size in gens] + pairs
    tests = []
    for depth, (batch, ubatch), (prompt, gen) in itertools.product(depths, runs, kinds):
        if has_source:
            depth = 0 if prompt else depth or source
        if prompt or gen:
            tests.append(_Test(prompt, gen, depth, batch, ubatch))
    if not tests:
        raise InvalidOptionError("there is nothing to measure: n_prompt and n_gen are 0")
    for test in tests:
        _check_test(session, test)
    return list(dict.fromkeys(tests)) if has_source else tests  # its prompt test is the same at every depth


def _check_test(session: Session, test: _Test) -> None:
    """Refuse a test that cannot run. A source and what is made of it have a context each; else all share one."""
    sizes = (test.n_depth, test.n_prompt, test.n_gen)
    needed = max(sizes) if session.needs_source else sum(sizes)
    if needed > session.n_ctx:
        raise ContextOverflowError(needed, session.n_ctx)
    if test.n_ubatch > session.batch:
        raise InvalidOptionError(f"n_ubatch: a run takes at most {session.batch} tokens here, not {test.n_ubatch}")
    whole = session.whole_outputs or "logits" not in session.step_outputs
    if whole and test.n_prompt > min(test.n_batch, test.n_ubatch):
        raise InvalidOptionError("n_batch, n_ubatch: this model reads a text in one run, so neither can be smaller")


def _tokens(count: int, vocab_size: int) -> list[int]:
    """The same arbitrary ids each time."""
    return [int(token) for token in np.random.default_rng(0).integers(0, vocab_size, count)]


def _timed(call: Callable[[], object]) -> int:
    """Nanoseconds that `call` takes."""
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def _run(session: Session, test: _Test) -> _Run:
    """One run of `test`."""
    if session.features_taken is not None:
        rows = np.random.default_rng(0).normal(size=(test.n_prompt, session.features_taken.width))
        return _Run(_timed(lambda: session.features([rows])), [])
    if session.needs_source:
        return _translating_run(session, test)
    if "logits" not in session.step_outputs:
        ids = _tokens(test.n_prompt, session.vocab_size)
        return _Run(_timed(lambda: session.hidden([ids])), [])
    ids = _tokens(test.n_depth + test.n_prompt, session.vocab_size)
    sequence = session.new_sequence()
    try:
        if test.n_depth:
            session.forward([(sequence, ids[: test.n_depth])])
        calls = _calls(session, test, ids[test.n_depth :])
        prompt = sum([_step(session, sequence, call) for call in calls])
        return _Run(prompt, _generated(session, sequence, test.n_gen))
    finally:
        sequence.free()


def _calls(session: Session, test: _Test, ids: list[int]) -> list[list[int]]:
    """The prompt in the pieces that one call each takes; a call is cut into runs of `session.batch` by the session."""
    step = test.n_batch if test.n_ubatch == session.batch else min(test.n_batch, test.n_ubatch)
    return [ids[begin : begin + step] for begin in range(0, len(ids), step)]


def _translating_run(session: Session, test: _Test) -> _Run:
    """`_run` of an encoder-decoder: the prompt is its source."""
    source = _tokens(test.n_prompt or test.n_depth, session.source_vocab_size)
    sequences: list[CachedSequence] = []
    took = _timed(lambda: sequences.extend(session.encode_source([source])))
    try:
        return _Run(took if test.n_prompt else 0, _generated(session, sequences[0], test.n_gen))
    finally:
        sequences[0].free()


def _generated(session: Session, sequence: CachedSequence, count: int) -> list[int]:
    """Nanoseconds of each of `count` steps of one token."""
    return [_step(session, sequence, [token]) for token in _tokens(count, session.vocab_size)]


def _step(session: Session, sequence: CachedSequence, ids: list[int]) -> int:
    """Nanoseconds that appending `ids` takes."""
    feeds = [(sequence, ids)]
    return _timed(lambda: session.forward(feeds))


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


def _short_count(count: int) -> str:
    """``1_234_567`` -> ``1.23M``."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return str(count)


def _session_fields(session: Session, kv_type: str) -> dict[str, Any]:
    """Fields that say how the model runs. A cache type is that of the decoder; an encoder keeps float32."""
    cache_type = kv_type if session.step_outputs else "f32"
    return {
        "build_commit": __version__,
        "build_number": 0,
        "cpu_info": cpu_name(),
        "gpu_info": "",
        "backends": "CPU",
        "n_threads": session.threads,
        "type_k": cache_type,
        "type_v": cache_type,
        "flash_attn": True,  # there is no other attention here
        "isa": session.isa,
    }


def _result_fields(test: _Test, begun: datetime.datetime, runs: list[_Run]) -> dict[str, Any]:
    """Fields that the clock answers."""
    samples_ns = [run.total for run in runs]
    samples_ts = [(test.n_prompt + test.n_gen) * 1e9 / ns for ns in samples_ns]
    calls_ms = np.array([ns for run in runs for ns in run.tokens or [run.prompt]]) / 1e6
    return {
        "test": test.name,
        "n_batch": test.n_batch,
        "n_ubatch": test.n_ubatch,
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
        "time_to_first_token_ms": statistics.median(run.prompt or run.tokens[0] for run in runs) / 1e6,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _deviation(samples: list[int] | list[float]) -> float:
    """Standard deviation with n - 1; 0 for a single sample."""
    return statistics.stdev(samples) if len(samples) > 1 else 0.0
