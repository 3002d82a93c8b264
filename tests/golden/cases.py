"""The golden folders as tests see them: names by family, the expected numbers, and how near a result must come."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from edgeformer.converters import convert

FOLDER = Path(__file__).resolve().parent
DECODERS = ("llama-gqa-tied", "llama-untied-biases", "llama-rope3-head-dim", "llama-rope3-version4-bf16")
ENCODERS = ("bert-gelu-mean", "bert-tanh-pooler")
ENCODER_DECODERS = ("transformer-prenorm-relu", "transformer-postnorm-gelu-learned",
                    "transformer-postnorm-relu-shared", "transformer-prenorm-gelu-nobias")
ALL = DECODERS + ENCODERS + ENCODER_DECODERS
END_TOKEN_ID = 2

# Largest difference to torch, relative to the range of torch's row. An F16 cache keeps eleven bits of keys and values,
# and rows this narrow average little of that away; with an F32 cache the difference is below 1e-6.
TOLERANCE = {"f32": 1e-5, "f16": 2e-3}

GoldenPath = Callable[..., Path]


def converter(folder: Path) -> GoldenPath:
    """A function from (name, type="f32") to the path of that golden checkpoint converted, each converted once."""

    def path_of(name: str, type_name: str = "f32") -> Path:
        path = folder / f"{name}-{type_name}.gguf"
        if not path.exists():
            convert(FOLDER / name, path, type=type_name)
        return path

    return path_of


def expected(name: str) -> dict[str, np.ndarray]:
    """torch's numbers for the folder `name`."""
    with np.load(FOLDER / name / "expected.npz") as file:
        return dict(file)


def split(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """The concatenated ids as one list a sequence."""
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def sources_and_targets(name: str) -> tuple[list[list[int]], list[list[int]]]:
    """Source and target ids of an encoder-decoder's expected logits."""
    numbers = expected(name)
    return (split(numbers["source_ids"], numbers["source_lengths"]),
            split(numbers["target_ids"], numbers["target_lengths"]))


def relative_error(actual: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference of any element, as a share of the range of its row in `wanted`."""
    actual, wanted = np.atleast_2d(actual), np.atleast_2d(wanted)
    assert actual.shape == wanted.shape
    return float((np.abs(actual - wanted) / np.ptp(wanted, axis=1, keepdims=True)).max())


def assert_greedy_path(token_ids: list[int], finish_reason: str | None, wanted: np.ndarray) -> None:
    """The generated ids are torch's path: whole, or up to the end token, which torch's went past."""
    path = wanted.tolist()
    assert list(token_ids) == path[: len(token_ids)]
    if finish_reason == "stop":
        assert path[len(token_ids)] == END_TOKEN_ID
    else:
        assert len(token_ids) == len(path)
