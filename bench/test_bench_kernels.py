"""Single kernels on one thread, on every instruction set of this machine.

    pytest bench --benchmark-enable --benchmark-only

The times include the copies in and out of the kernel's Python face, so compare them with each other, not with a peer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeformer import quants
from edgeformer._kernels import core

WIDTH, FFN, HEAD_DIM = 576, 1536, 64  # those of a Llama of 135 million parameters
GENERATOR = np.random.default_rng(0)


@pytest.fixture(params=core.isa_names())
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set that runs here."""
    return request.param


def normal(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape, dtype=np.float32)


def packed(type_name: str, num_rows: int, num_columns: int) -> Any:
    """A matrix of random weights in the kernels' layout."""
    kind = quants.by_name(type_name)
    matrix = core.Matrix(kind.id, num_rows, num_columns)
    matrix.pack(kind.quantize(normal(num_rows, num_columns)).tobytes(), 0, num_rows, None)
    return matrix


@pytest.mark.parametrize("num_rows", [1, 64])
@pytest.mark.parametrize("type_name", ["q4_0", "q8_0", "f16", "f32"])
def test_bench_matmul(benchmark: Any, isa: str, type_name: str, num_rows: int) -> None:
    matrix, x = packed(type_name, FFN, WIDTH), normal(num_rows, WIDTH)
    benchmark.extra_info["multiply_adds"] = num_rows * FFN * WIDTH
    benchmark(core.kernel_matmul, isa, matrix, x)


@pytest.mark.parametrize("positions", [128, 1024])
def test_bench_attention_of_one_row(benchmark: Any, isa: str, positions: int) -> None:
    query, key, value = normal(1, 9, HEAD_DIM), normal(positions, 3, HEAD_DIM), normal(positions, 3, HEAD_DIM)
    benchmark(core.kernel_attention, isa, query, key, value, scale=HEAD_DIM**-0.5, type=core.EF_F16)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_bench_norm(benchmark: Any, isa: str, name: str) -> None:
    x, weight, bias = normal(64, WIDTH), normal(WIDTH), normal(WIDTH)
    benchmark(core.kernel_row_function, isa, name, x, weight, bias if name == "layer_norm" else None)


def test_bench_quantize(benchmark: Any, isa: str) -> None:
    benchmark(core.kernel_quantize, isa, normal(64, WIDTH))


def test_bench_softmax(benchmark: Any, isa: str) -> None:
    benchmark(core.kernel_row_function, isa, "softmax", normal(8, 49152), number=1)


def test_bench_silu_gate(benchmark: Any, isa: str) -> None:
    benchmark(core.kernel_gate, isa, "silu", normal(64, FFN), normal(64, FFN))
