"""Quantizers that search: no worse than ggml's, the same bits however they run, and their refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from edgeformer.errors import ConversionError
from edgeformer.jit.lanes import greater
from edgeformer.quants import QuantizationType, by_name
from edgeformer.quants.encode import rounding, threads
from support import ggml_quantizer
from support.quantizer_tensors import COMPARED, TENSORS, importance, tensor, weighted_rmse

SEARCHED = pytest.mark.parametrize("quantization", COMPARED, ids=lambda t: t.name)
ERRORS = json.loads((Path(__file__).parents[1] / "golden" / "quantizer_errors.json").read_text())
NUMBA = importlib.util.find_spec("numba") is not None


def error(quantization: QuantizationType, weights: np.ndarray, column_weights: np.ndarray | None) -> float:
    """The error of edgeformer's bytes as gguf-py reads them."""
    encoded = quantization.quantize(weights, column_weights)
    decoded = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType(quantization.id))
    return weighted_rmse(weights, decoded.reshape(weights.shape), column_weights)


def allowed(ggml_error: float, weights: np.ndarray) -> float:
    """ggml's error, or what rounding a scale to half precision costs a type that holds the weights but for that."""
    return max(ggml_error * 1.001, float(np.abs(weights).max()) * 2.0**-11)


@SEARCHED
@pytest.mark.parametrize("name", TENSORS)
def test_errors_are_not_larger_than_those_of_ggml(quantization: QuantizationType, name: str) -> None:
    weights, column_weights = tensor(name), importance(name)
    plain, weighted = ERRORS["errors"][quantization.name][name]
    assert error(quantization, weights, None) <= allowed(plain, weights)
    assert error(quantization, weights, column_weights) <= allowed(weighted, weights)


@pytest.mark.skipif(ggml_quantizer.library_path() is None, reason="llama-cpp-python with ggml is not installed")
@SEARCHED
def test_errors_are_not_larger_than_those_of_the_ggml_that_is_here(quantization: QuantizationType) -> None:
    path = ggml_quantizer.library_path()
    assert path is not None
    random = np.random.default_rng()
    weights = (random.standard_t(5, (64, 1024)) * 0.02).astype(np.float32)
    for column_weights in (None, random.lognormal(size=1024).astype(np.float32)):
        encoded = ggml_quantizer.GgmlQuantizer(path).quantize(quantization.id, weights, column_weights)
        decoded = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType(quantization.id))
        theirs = weighted_rmse(weights, decoded, column_weights)
        assert error(quantization, weights, column_weights) <= allowed(theirs, weights)


def extremes() -> np.ndarray:
    """Ordinary blocks, and such that strain a search: [37, 512]."""
    random = np.random.default_rng(7)
    weights = random.standard_normal((37, 512)).astype(np.float32)
    weights[1] = 0
    weights[2] = 0.3
    weights[3] *= np.float32(1e-6)
    weights[4] *= np.float32(1e-30)
    weights[5, :100] = 0
    weights[6] = np.abs(weights[6])
    weights[7] = 100 - np.abs(weights[7])
    weights[8, 5] = 3000
    weights[9] *= np.float32(1e-42)
    return weights


@pytest.mark.skipif(not NUMBA, reason="Numba is not installed")
@SEARCHED
def test_numba_and_numpy_give_the_same_bytes(quantization: QuantizationType, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = extremes()
    column_weights = importance("uniform")
    monkeypatch.setenv("EDGEFORMER_NUMBA", "1")
    compiled = quantization.quantize(weights, column_weights)
    monkeypatch.setenv("EDGEFORMER_NUMBA", "0")
    np.testing.assert_array_equal(quantization.quantize(weights, column_weights), compiled)


@SEARCHED
def test_threads_and_neighbours_do_not_matter(quantization: QuantizationType, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, column_weights = extremes(), importance("uniform")
    encoded = []
    for number, slice_elements in ((1, 1 << 16), (2, 1 << 11), (5, 1 << 8)):
        monkeypatch.setattr(threads, "num_threads", lambda number=number: number)
        monkeypatch.setattr(threads, "SLICE_ELEMENTS", slice_elements)
        encoded.append(quantization.quantize(weights, column_weights))
    np.testing.assert_array_equal(encoded[1], encoded[0])
    np.testing.assert_array_equal(encoded[2], encoded[0])
    np.testing.assert_array_equal(quantization.quantize(weights[6], column_weights), encoded[0][6])


FORKING = """
import os
import numpy as np
from edgeformer.quants import by_name
weights = np.random.default_rng(0).standard_normal((300, 1024)).astype(np.float32)
expected = by_name("q4_k").quantize(weights)
child = os.fork()
same = (by_name("q4_k").quantize(weights) == expected).all()
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_goes_on_quantizing() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", FORKING], check=True, timeout=120)


@SEARCHED
def test_columns_without_importance_do_no_harm(quantization: QuantizationType) -> None:
    weights = np.random.default_rng(1).standard_normal((8, 512)).astype(np.float32)
    column_weights = np.ones(512, np.float32)
    column_weights[:300] = 0
    decoded = quantization.dequantize(quantization.quantize(weights, column_weights), weights.shape)
    assert np.abs(decoded - weights).max() <= np.abs(weights).max() * 1.01
    unweighted = quantization.quantize(weights, np.ones(512, np.float32))
    np.testing.assert_array_equal(quantization.quantize(weights, np.zeros(512, np.float32)), unweighted)


@SEARCHED
def test_importance_moves_the_error_to_where_it_matters_less(quantization: QuantizationType) -> None:
    weights = np.random.default_rng(2).standard_normal((32, 512)).astype(np.float32)
    column_weights = np.where(np.arange(512) % 8 == 3, 100, 1).astype(np.float32)
    encoded = [quantization.quantize(weights, given) for given in (None, column_weights)]
    errors = [weighted_rmse(weights, quantization.dequantize(e, weights.shape), column_weights) for e in encoded]
    assert errors[1] < errors[0]


@SEARCHED
@pytest.mark.parametrize("weight", [-1e9, 1e9, 1e30, 3.4e38])
def test_weights_beyond_the_type_are_refused(quantization: QuantizationType, weight: float) -> None:
    weights = np.ones((2, 256), np.float32)
    weights[1, 7] = weight
    if quantization.name == "mxfp4" and abs(weight) < 1e38:
        assert quantization.dequantize(quantization.quantize(weights), (2, 256))[1, 7] == pytest.approx(weight, rel=0.2)
        return
    for column_weights in (None, np.ones(256, np.float32)):
        with pytest.raises(ConversionError, match="use bf16 or f32"):
            quantization.quantize(weights, column_weights)


def test_ternary_scales_are_as_good_as_the_best_of_all() -> None:
    weights = np.random.default_rng(3).standard_t(4, (50, 256)).astype(np.float32)
    decoded = by_name("tq2_0").dequantize(by_name("tq2_0").quantize(weights), weights.shape)
    for block, found in zip(weights.astype(np.float64), decoded, strict=True):
        largest = np.sort(np.abs(block))[::-1]
        gains = np.cumsum(largest) ** 2 / np.arange(1, 257)  # of the best scale for the k largest magnitudes
        assert ((block - found) ** 2).sum() <= ((block**2).sum() - gains.max()) * 1.002


@pytest.mark.parametrize("exponent", [-140, -126, -60, 0, 60, 120])
def test_mxfp4_holds_its_own_values_at_every_exponent(exponent: int) -> None:
    values = np.resize(np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -6]), 64)
    weights = np.ldexp(values, exponent).astype(np.float32)
    held = np.ldexp(np.round(np.ldexp(weights.astype(np.float64), 128)), -128)  # the format's least step is 2**-128
    decoded = by_name("mxfp4").dequantize(by_name("mxfp4").quantize(weights), (64,))
    np.testing.assert_allclose(decoded, held if exponent < -126 else weights, atol=2.0**-127 if exponent < -126 else 0)


def test_half_scale_is_half_precision() -> None:
    random = np.random.default_rng(4)
    values = (random.standard_normal(20000) * 2.0 ** random.integers(-23, 14, 20000)).astype(np.float32)
    halves = rounding.half_scale(values)
    np.testing.assert_array_equal(halves, halves.astype(np.float16).astype(np.float32))
    nearest = values.astype(np.float16).astype(np.float32)
    rounded = nearest != 0
    np.testing.assert_array_equal(np.abs(halves - values)[rounded], np.abs(nearest - values)[rounded])
    assert rounding.half_scale(np.float32([0, 1e-20, -1e-20])).tolist() == [0, 2.0**-24, -(2.0**-24)]


@pytest.mark.parametrize(
    ("nearest", "type"), [(rounding.nearest_iq4, "IQ4_NL"), (rounding.nearest_e2m1, "MXFP4")], ids=["iq4", "e2m1"]
)
def test_codebooks_round_to_the_nearest(nearest: object, type: str) -> None:
    assert callable(nearest)
    values = np.array(getattr(gguf.quants, type).kvalues, np.float32)
    inputs = np.linspace(-150, 130, 5003, dtype=np.float32)
    distances = np.abs(inputs[:, None] - values).min(axis=1)
    np.testing.assert_array_equal(np.abs(nearest(inputs, None) - inputs), distances)


def test_greater_takes_the_other_for_nan() -> None:
    assert greater(np.float32([np.nan, 2, 1]), np.float32([1, np.nan, 1]), 1.0, 0.0).tolist() == [0, 0, 0]
