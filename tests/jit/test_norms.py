"""Norms: Numba's, C's and the uncompiled Python give the same bits, close to float64."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidOptionError, MissingDependencyError
from edgeformer.jit import norms
from support.row_functions import EPSILON, ROW_FUNCTION, Norm, Row, at_address

pytest.importorskip("numba")

LENGTHS = [*range(1, 71), 384, 1000, 2048, 4099]
NAMES = list(norms.ROW_FUNCTIONS)


@pytest.fixture(params=["cached code", "callback"])
def numba_address(request: pytest.FixtureRequest) -> Callable[[str], int]:
    """Address of a norm compiled by Numba: as every process has it, and Numba's own callback."""
    if request.param == "callback":
        return lambda name: int(norms._compiled(name).address)
    norms.row_function(NAMES[0], use_numba=True)
    if norms._jitted.code is None:
        pytest.skip("this llvmlite cannot make the code: Numba's callbacks serve")
    return lambda name: norms.row_function(name, use_numba=True)


def uncompiled(name: str) -> Norm:
    def norm(row: Row, weight: Row | None, bias: Row | None) -> Row:
        output = np.empty_like(row)
        with np.errstate(all="ignore"):
            norms.ROW_FUNCTIONS[name](output, row, weight, bias, len(row), EPSILON)
        return output

    return norm


def reference(name: str, row: Row, weight: Row, bias: Row | None) -> Row:
    x, w = row.astype(np.float64), weight.astype(np.float64)
    if name == "l2_norm":
        return x / max(np.sqrt((x * x).sum()), EPSILON)
    if name == "rms_norm":
        return x / np.sqrt((x * x).mean() + EPSILON) * w
    y = (x - x.mean()) / np.sqrt(x.var() + EPSILON) * w
    return y if bias is None else y + bias


def bits(row: Row) -> Row:
    """The row's bits, with one NaN for all."""
    return np.where(np.isnan(row), np.float32(np.nan), row).view(np.uint32)


def random_row(rng: np.random.Generator, n: int, scale: float = 1.0) -> Row:
    return (rng.standard_normal(n) * scale).astype(np.float32)


def extreme_rows(rng: np.random.Generator, n: int) -> dict[str, Row]:
    anything = rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    return {
        "zeros": np.zeros(n, np.float32),
        "negative zeros": np.full(n, np.float32(-0.0)),
        "huge": random_row(rng, n, 1e30),
        "largest": np.full(n, np.finfo(np.float32).max),
        "tiny": random_row(rng, n, 1e-30),
        "denormal": random_row(rng, n, 1e-40),
        "constant": np.full(n, np.float32(3.3)),
        "infinite": np.where(rng.random(n) < 0.1, np.float32(np.inf), random_row(rng, n)),
        "any bits": anything,
    }


@pytest.mark.parametrize("name", NAMES)
def test_numba_equals_c_on_every_instruction_set(name: str, numba_address: Callable[[str], int]) -> None:
    rng = np.random.default_rng(1)
    compiled = at_address(numba_address(name))
    twins = {isa: at_address(core.row_function_pointer(isa, name)) for isa in core.isa_names()}
    for n in LENGTHS:
        row, weight, bias = random_row(rng, n), random_row(rng, n), random_row(rng, n)
        for with_weight, with_bias in ((weight, bias), (weight, None), (None, bias), (None, None)):
            expected = bits(compiled(row, with_weight, with_bias))
            assert (bits(uncompiled(name)(row, with_weight, with_bias)) == expected).all(), n
            for isa, twin in twins.items():
                assert (bits(twin(row, with_weight, with_bias)) == expected).all(), (isa, n)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 15, 16, 17, 64, 100])
def test_numba_equals_c_and_python_on_extremes(name: str, n: int, numba_address: Callable[[str], int]) -> None:
    rng = np.random.default_rng(n)
    weight, bias = random_row(rng, n), random_row(rng, n)
    compiled = at_address(numba_address(name))
    twin = at_address(core.row_function_pointer(None, name))
    for kind, row in extreme_rows(rng, n).items():
        expected = bits(compiled(row, weight, bias))
        assert (bits(twin(row, weight, bias)) == expected).all(), kind
        assert (bits(uncompiled(name)(row, weight, bias)) == expected).all(), kind


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("use_numba", [True, False])
def test_close_to_float64(name: str, use_numba: bool) -> None:
    rng = np.random.default_rng(2)
    norm = at_address(norms.row_function(name, use_numba=use_numba))
    for n in LENGTHS[1:]:
        row, weight, bias = random_row(rng, n) + np.float32(0.5), random_row(rng, n), random_row(rng, n)
        expected = reference(name, row, weight, bias)
        # A lane adds n / 16 numbers, each sum rounded once; the rest is a handful of operations.
        bound = (n / 16 + 16) * 2**-24 * (np.abs(expected).max() + np.abs(bias).max() + 1)
        assert np.abs(norm(row, weight, bias) - expected).max() < bound, n


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("use_numba", [True, False])
def test_in_place(name: str, use_numba: bool) -> None:
    rng = np.random.default_rng(3)
    row, weight, bias = random_row(rng, 77), random_row(rng, 77), random_row(rng, 77)
    address = norms.row_function(name, use_numba=use_numba)
    expected = at_address(address)(row, weight, bias)
    ROW_FUNCTION(address)(row.ctypes.data, row.ctypes.data, weight.ctypes.data, bias.ctypes.data, 77, EPSILON)
    assert (row == expected).all()


def test_constant_row_gives_the_bias_and_zero_row_stays_zero() -> None:
    weight, bias = np.ones(40, np.float32), np.arange(40, dtype=np.float32)
    for use_numba in (True, False):
        layer_norm = at_address(norms.row_function("layer_norm", use_numba))
        assert (layer_norm(np.full(40, np.float32(2)), weight, bias) == bias).all()
        l2_norm = at_address(norms.row_function("l2_norm", use_numba))
        assert (l2_norm(np.zeros(40, np.float32), weight, None) == 0).all()


def test_numba_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFORMER_NUMBA", "0")
    for name in NAMES:
        assert norms.row_function(name) == core.row_function_pointer(None, name)
        assert norms.row_function(name, use_numba=True) != core.row_function_pointer(None, name)
    monkeypatch.delenv("EDGEFORMER_NUMBA")
    assert norms.row_function("rms_norm") == norms.row_function("rms_norm", use_numba=True)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert norms.row_function("rms_norm") == core.row_function_pointer(None, "rms_norm")
    with pytest.raises(MissingDependencyError, match="numba is not installed: pip install numba"):
        norms.row_function("rms_norm", use_numba=True)


def test_row_functions_that_are_no_norms_are_those_of_c() -> None:
    for name in set(core.ROW_FUNCTIONS) - set(NAMES):
        assert norms.row_function(name, use_numba=True) == core.row_function_pointer(None, name)


def test_unknown_name() -> None:
    with pytest.raises(InvalidOptionError, match=r"'batch_norm'.*layer_norm, rms_norm, l2_norm"):
        norms.row_function("batch_norm")


def test_numba_is_imported_only_when_needed() -> None:
    program = (
        "import sys; from edgeformer.jit.norms import row_function; "
        "row_function('rms_norm', False); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
