"""The seeded tensors on which the quantizers are compared with ggml's, and the errors that are compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from edgeformer.quants import TYPES
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Generator = np.random.Generator

ROWS = 24
COMPARED = [kind for kind in TYPES.values() if kind.block_size > 1 and not kind.is_own and kind.name != "q8_0"]
"""The types whose errors are held against ggml's; Q8_0's bytes are, too."""


def _student(random: Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return random.standard_t(3, shape)


def _one_outlier(random: Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    weights = random.standard_normal(shape) * 0.02
    weights[np.arange(shape[0]), random.integers(0, shape[1], shape[0])] = 3.0
    return weights


def _shifted(random: Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return random.standard_normal(shape) * 0.1 + random.standard_normal((shape[0], 1))


def _ternary(random: Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return random.integers(-1, 2, shape) * 0.0375


TENSORS: dict[str, tuple[int, Callable[[Generator, tuple[int, int]], NDArray[np.float64]]]] = {
    "gaussian": (256, lambda random, shape: random.standard_normal(shape)),
    "gaussian of a model's size": (2048, lambda random, shape: random.standard_normal(shape) * 0.02),
    "uniform": (512, lambda random, shape: random.uniform(-1, 1, shape)),
    "heavy tailed": (1024, _student),
    "one outlier a row": (768, _one_outlier),
    "shifted": (512, _shifted),
    "positive": (256, lambda random, shape: random.exponential(0.1, shape)),
    "ternary": (512, _ternary),
    "constant": (256, lambda random, shape: np.full(shape, 0.3)),
    "negative constant": (256, lambda random, shape: np.full(shape, -1.7)),
    "zeros": (512, lambda random, shape: np.zeros(shape)),
    "tiny": (256, lambda random, shape: random.standard_normal(shape) * 1e-5),
    "large": (256, lambda random, shape: random.standard_normal(shape) * 300),
}
"""Columns and maker of each tensor, by name."""


def tensor(name: str) -> Float32:
    """The tensor of that name, the same at every call: float32 [24, K]."""
    columns, make = TENSORS[name]
    random = np.random.default_rng(list(TENSORS).index(name))
    return make(random, (ROWS, columns)).astype(np.float32)


def importance(name: str) -> Float32:
    """Weights of the tensor's columns, positive and over three orders of magnitude: float32 [K]."""
    random = np.random.default_rng(100 + list(TENSORS).index(name))
    return np.exp(random.standard_normal(TENSORS[name][0]) * 1.5).astype(np.float32)


def weighted_rmse(weights: Float32, decoded: Float32, column_weights: Float32 | None) -> float:
    """sqrt(sum w (x - y)^2 / sum w) in double precision; w = 1 without `column_weights`."""
    squares = np.square(weights.astype(np.float64) - decoded)
    scales = np.ones(weights.shape[1]) if column_weights is None else column_weights.astype(np.float64)
    return float(np.sqrt((squares * scales).sum() / (scales.sum() * len(weights))))
