"""The demo: a small trained model that ships with the package, taken the whole way from checkpoint to answers.

The model reads dates in nine languages, many spellings and with slips, and writes them as ISO 8601. It is an ordinary
``torch.nn.Transformer`` state dict (see ``bench/train_dates`` for the data and the training), so what happens to it
here happens to any checkpoint: it is converted to GGUF as float32, 8 and 4 bits, loaded, held against dates that were
kept out of its training, and timed.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...converters import ConversionReport
    from ...model import Model

__all__ = ["CHECKPOINT", "EXAMPLES", "DemoReport", "Latency", "Translation", "Variant", "run_demo", "samples"]

FOLDER = Path(__file__).parent
CHECKPOINT = FOLDER / "dates.pt"
TYPES = ("f32", "q8_0", "q4_0")
TIMED_TYPE = "q8_0"
TIMED_DATES = 300
EXAMPLES = (
    "4 March 1997",
    "the 23rd of Febuary, 2024",
    "Mittwoch, 3. Oktober 1990",
    "14 juillet 1989",
    "5 de mayo de 1962",
    "11 listopada 1918",
    "3/25/84",
    "2031.7.9",
)


@dataclass(frozen=True)
class Variant:
    """The model at one weight type.

    Attributes
    ----------
    type : str
    file_bytes, tensor_bytes : int
        Of the whole GGUF file, and of its weights alone.
    weight_error : float
        Relative error of the quantized matrices: root of the mean of their tensors' squared errors, by size.
    accuracy : float
        Share of the held-out dates whose ten characters are all right.
    convert_seconds, load_seconds : float
        The first load includes Numba's compilation where it is not cached yet.
    """

    type: str
    file_bytes: int
    tensor_bytes: int
    weight_error: float
    accuracy: float
    convert_seconds: float
    load_seconds: float


@dataclass(frozen=True)
class Translation:
    """One input, and the answer at each weight type."""

    source: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one date at a time, and dates a second when `batch_size` are given in one call."""

    type: str
    p50_ms: float
    p90_ms: float
    p99_ms: float
    batch_size: int
    batch_dates_per_second: float


@dataclass(frozen=True)
class DemoReport:
    """Everything that the demo found out."""

    checkpoint: str
    checkpoint_bytes: int
    num_samples: int
    isa: str
    threads: int
    variants: list[Variant]
    translations: list[Translation]
    latency: Latency
    seconds: float


def samples() -> list[tuple[str, str]]:
    """Held-out (spelling, ISO date) pairs; none occurs in the training data."""
    pairs = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
    return [(str(text), str(date)) for text, date in pairs]


def run_demo(
    texts: Sequence[str] = (), *, threads: int | None = None, progress: Callable[[int, int, str], None] | None = None
) -> DemoReport:
    """Convert the shipped checkpoint, check it, time it, and let it read dates.

    Parameters
    ----------
    texts : sequence of str
        Dates to read besides `EXAMPLES`.
    threads : int, optional
    progress : callable, optional
        Called with (steps done, all, what is next).
    """
    from ...model import load

    started = time.perf_counter()
    pairs = samples()
    report = progress or (lambda done, total, what: None)
    variants = []
    translations = [Translation(source, {}) for source in (*EXAMPLES, *texts)]
    with tempfile.TemporaryDirectory(prefix="edgeformer-demo-") as folder:
        for index, type_name in enumerate(TYPES):
            report(index, len(TYPES) + 1, type_name)
            variants.append(_make_variant(type_name, Path(folder), translations, pairs, threads))
        report(len(TYPES), len(TYPES) + 1, "timing")
        with load(_file(Path(folder), TIMED_TYPE), threads=threads) as model:
            latency = _time(model, [text for text, _ in pairs])
            isa, used_threads = model.isa, model.threads
    return DemoReport(
        checkpoint=os.fspath(CHECKPOINT),
        checkpoint_bytes=CHECKPOINT.stat().st_size,
        num_samples=len(pairs),
        isa=isa,
        threads=used_threads,
        variants=variants,
        translations=translations,
        latency=latency,
        seconds=time.perf_counter() - started,
    )


def _file(folder: Path, type_name: str) -> Path:
    return folder / f"dates-{type_name}.gguf"


def _make_variant(
    type_name: str, folder: Path, translations: list[Translation], pairs: list[tuple[str, str]], threads: int | None
) -> Variant:
    """Convert to `type_name`, load, and read `translations` (whose answers it fills in) and all held-out dates."""
    from ...converters import convert
    from ...model import load

    path = _file(folder, type_name)
    begun = time.perf_counter()
    conversion = convert(CHECKPOINT, path, type=type_name)
    converted = time.perf_counter()
    with load(path, threads=threads) as model:
        loaded = time.perf_counter()
        answers = model.translate([*(row.source for row in translations), *(text for text, _ in pairs)])
    for row, answer in zip(translations, answers, strict=False):
        row.answers[type_name] = answer
    held_out = answers[len(translations) :]
    right = sum(answer == date for answer, (_, date) in zip(held_out, pairs, strict=True))
    return Variant(
        type=type_name,
        file_bytes=path.stat().st_size,
        tensor_bytes=conversion.nbytes,
        weight_error=_weight_error(conversion),
        accuracy=right / len(pairs),
        convert_seconds=converted - begun,
        load_seconds=loaded - converted,
    )


def _weight_error(conversion: ConversionReport) -> float:
    """Relative error over all tensors that lost something, each counted by its number of weights."""
    changed = [tensor for tensor in conversion.tensors if tensor.error > 0]
    weights = sum(math.prod(tensor.shape) for tensor in changed)
    squares = sum(math.prod(tensor.shape) * tensor.error**2 for tensor in changed)
    return math.sqrt(squares / weights) if changed else 0.0


def _time(model: Model, texts: list[str]) -> Latency:
    """Latency of single dates after a few that are not counted, and throughput of all in one call."""
    for text in texts[:5]:
        model.translate(text)
    single_ms = []
    for text in texts[:TIMED_DATES]:
        start = time.perf_counter()
        model.translate(text)
        single_ms.append((time.perf_counter() - start) * 1e3)
    start = time.perf_counter()
    model.translate(texts)
    rate = len(texts) / (time.perf_counter() - start)
    p50, p90, p99 = (float(value) for value in np.percentile(single_ms, (50, 90, 99)))
    return Latency(TIMED_TYPE, p50, p90, p99, len(texts), rate)
