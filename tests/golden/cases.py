"""The golden folders as tests see them: names by kind, the expected numbers, and how near a result must come.

A folder with a `case.json` is a case, and in all lists; `make_golden.py` says what stands there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
Case = dict[str, Any]
CASES: dict[str, Case] = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/case.json"))}
ALL = tuple(CASES)


def with_caches(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each case with every element type of the cache that keeps its numbers: rounding may change chosen experts."""
    return [(name, kv_type) for name in names for kv_type in CASES[name].get("kv_types", TOLERANCE)]


def of_kind(kind: str) -> tuple[str, ...]:
    """The cases whose numbers are of that kind."""
    return tuple(name for name, case in CASES.items() if case["kind"] == kind)


DECODERS, ENCODERS, ENCODER_DECODERS, FEATURES, HEADS = (
    of_kind(kind) for kind in ("decoder", "encoder", "encoder_decoder", "features", "head")
)

# Those of HEADS that transformers classifies texts with.
TRANSFORMERS_CLASSES = tuple(name for name in HEADS if CASES[name]["class"].endswith("ForSequenceClassification"))


def architecture(name: str) -> str:
    """The name of a case's architecture."""
    from edgeformer.converters.architectures.huggingface import Config
    from edgeformer.converters.architectures.registry import architecture_of

    return architecture_of(Config(json.loads((FOLDER / name / "config.json").read_text()), name)).name


def architectures() -> dict[str, str]:
    """The case of each architecture that most weight types are tried with, by the architecture's name."""
    named: dict[str, str] = {}
    for name in sorted(CASES, key=lambda name: (-len(CASES[name]["types"]), name)):
        named.setdefault(architecture(name), name)
    return named


END_TOKEN_ID = 2

# Largest difference to torch, relative to the range of torch's row. An F16 cache keeps eleven bits of keys and values,
# and rows this narrow average little of that away; with an F32 cache the difference is below 1e-6.
TOLERANCE = {"f32": 1e-5, "f16": 2e-3}

GoldenPath = Callable[..., Path]


def converter(folder: Path) -> GoldenPath:
    """A function from (name, type="f32") to the path of that golden checkpoint converted, each converted once."""

    def path_of(name: str, type_name: str = "f32") -> Path:
        from edgeformer.converters import convert  # here, for the makers' Python needs no edgeformer

        path = folder / f"{name}-{type_name}.gguf"
        if not path.exists():
            convert(FOLDER / name, path, type=type_name)
        return path

    return path_of


def expected(name: str) -> dict[str, np.ndarray]:
    """torch's numbers for the folder `name`."""
    with np.load(FOLDER / name / "expected.npz") as file:
        return dict(file)


def samples(name: str) -> list[np.ndarray]:
    """The float rows of a model of images or sounds, sample by sample."""
    return split_samples(expected(name))


def split_samples(numbers: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The concatenated float rows as one array a sample."""
    return np.split(numbers["rows"], np.cumsum(numbers["lengths"])[:-1])


def split(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """The concatenated ids as one list a sequence."""
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def sources_and_targets(name: str) -> tuple[list[list[int]], list[list[int]]]:
    """Source and target ids of an encoder-decoder's expected logits."""
    numbers = expected(name)
    return (
        split(numbers["source_ids"], numbers["source_lengths"]),
        split(numbers["target_ids"], numbers["target_lengths"]),
    )


def relative_error(actual: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference of any element, as a share of the range of its row in `wanted`."""
    actual, wanted = np.atleast_2d(actual), np.atleast_2d(wanted)
    assert actual.shape == wanted.shape
    return float((np.abs(actual - wanted) / np.ptp(wanted, axis=1, keepdims=True)).max())


def head_error(output: str, actual: np.ndarray, wanted: np.ndarray) -> float:
    """`relative_error` of a head's numbers: of words, of which a row has many; else as a share of a column's range."""
    return relative_error(actual, wanted) if output == "words" else relative_error(actual.T, wanted.T)


def assert_greedy_path(token_ids: list[int], finish_reason: str | None, wanted: np.ndarray) -> None:
    """The generated ids are torch's path: whole, or up to the end token, which torch's went past."""
    path = wanted.tolist()
    assert list(token_ids) == path[: len(token_ids)]
    if finish_reason == "stop":
        assert path[len(token_ids)] == END_TOKEN_ID
    else:
        assert len(token_ids) == len(path)
