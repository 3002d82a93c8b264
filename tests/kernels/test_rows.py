"""Kernels over single rows: quantization, activations, sums, norms, softmax, pooling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.errors import InvalidInputError
from support.kernel_inputs import Floats, extreme_rows, rows, same_bits, walks

LENGTHS = [*range(1, 36), 47, 48, 49, 127, 128, 129, 300]
NORMS = ("layer_norm", "rms_norm", "l2_norm")
NUMBERS = {"affine": 0.7, "softmax": 1.3, "soft_cap": 30.0, "clip": 0.9, **dict.fromkeys(NORMS, 1e-5)}
KERNELS: dict[str, Callable[[str, Floats], Floats]] = {
    **{name: lambda isa, x, name=name: core.kernel_unary(isa, name, x) for name in core.ACTIVATIONS},
    **{
        f"gate_{name}": lambda isa, x, name=name: core.kernel_gate(isa, name, x, x[::-1].copy())
        for name in core.ACTIVATIONS
    },
    **{
        f"gate_limited_{name}": lambda isa, x, name=name: core.kernel_gate_limited(isa, name, x, x[::-1].copy(), 2.5, 1)
        for name in core.ACTIVATIONS
    },
    **{
        name: lambda isa, x, name=name: core.kernel_row_function(
            isa, name, x, rows(1, x.shape[1]), rows(2, x.shape[1]), NUMBERS[name]
        )
        for name in core.ROW_FUNCTIONS
    },
    **{
        f"{name}_alone": lambda isa, x, name=name: core.kernel_row_function(isa, name, x, number=NUMBERS[name])
        for name in core.ROW_FUNCTIONS
    },
    "add": lambda isa, x: core.kernel_add(isa, x, x[::-1].copy()),
    "maximum": lambda isa, x: core.kernel_maximum(isa, x, x[::-1].copy()),
    "mean": lambda isa, x: core.kernel_pool(isa, x, core.POOL_MEAN)[None],
    "first": lambda isa, x: core.kernel_pool(isa, x, core.POOL_FIRST)[None],
    "last": lambda isa, x: core.kernel_pool(isa, x, core.POOL_LAST)[None],
}


@pytest.mark.parametrize("name", KERNELS)
@walks("activate", "gate", "gate_limited", "add", "maximum", "pool")
@walks("layer_norm", "rms_norm", "l2_norm", "affine", "soft_cap", "clip", "softmax")
def test_same_bits_for_every_length(other_isa: str, name: str) -> None:
    for n in LENGTHS:
        for x in (rows(n, 4, n, scale=3), extreme_rows(n, 4, n)):
            assert same_bits(KERNELS[name](other_isa, x), KERNELS[name]("scalar", x)), n


def erf(x: np.ndarray) -> np.ndarray:
    """The error function in float64: 2 exp(-x^2) / sqrt(pi) * x * sum of (2 x^2)^n / (1 3 5 ... (2n + 1))."""
    x = np.clip(x, -6, 6)
    term = x.copy()
    total = x.copy()
    for n in range(1, 200):
        term = term * 2 * x * x / (2 * n + 1)
        total += term
    return 2 / np.sqrt(np.pi) * np.exp(-x * x) * total


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * 0.5 * (1 + erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * sigmoid(x),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu_squared": lambda x: np.maximum(x, 0) ** 2,
    "sigmoid": lambda x: sigmoid(x),
    "tanh": np.tanh,
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -700, None)))


@pytest.mark.parametrize("name", core.ACTIVATIONS)
def test_activations_are_close_to_float64(name: str) -> None:
    x = np.concatenate([np.linspace(-12, 12, 4001), np.linspace(-1e-3, 1e-3, 101), [-90, 90, -1e4, 1e4]]).astype(
        np.float32
    )[None]
    wanted = ACTIVATIONS[name](x.astype(np.float64))
    error = np.abs(core.kernel_unary("scalar", name, x) - wanted)
    assert np.all(error <= 3e-7 * np.abs(wanted) + 2.5e-7 * np.minimum(1, np.abs(x)))
    up = rows(3, *x.shape)
    gated = core.kernel_gate("scalar", name, x, up)
    product = core.kernel_unary("scalar", name, x) * up
    assert same_bits(gated, np.where(np.abs(product) < np.finfo(np.float32).tiny, product * np.float32(0), product))


@pytest.mark.parametrize(("limit", "offset"), [(7.0, 1.0), (0.5, 0.0), (3.0, -2.0)])
def test_a_gate_with_a_limit_is_numpys(limit: float, offset: float) -> None:
    gate, up = rows(1, 3, 1000, scale=5), rows(2, 3, 1000, scale=5)
    gate[0, :3], up[0, 3:6] = (np.nan, np.inf, -np.inf), (np.nan, np.inf, -np.inf)
    got = core.kernel_gate_limited("scalar", "quick_gelu", gate, up, limit, offset)
    x, y = np.minimum(gate, limit).astype(np.float64), np.clip(up, -limit, limit).astype(np.float64) + offset
    with np.errstate(invalid="ignore"):
        wanted = x * sigmoid(1.702 * x) * y
    wanted[0, 2] = -0.0 * y[0, 2]  # the activation's limit
    assert np.array_equal(np.isnan(got), np.isnan(wanted)) and np.isnan(got).sum() == 2
    assert np.allclose(got, wanted, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_activations_of_what_is_not_finite() -> None:
    x = np.array([[np.inf, -np.inf, np.nan]], np.float32)
    limits = {"none": (np.inf, -np.inf), "sigmoid": (1, 0), "tanh": (1, -1)}
    for name in core.ACTIVATIONS:
        result = core.kernel_unary("scalar", name, x)[0]
        assert tuple(result[:2]) == limits.get(name, (np.inf, 0)), name
        assert np.isnan(result[2]), name


def test_tanh_and_sigmoid_are_close_to_float64_relatively() -> None:
    x = np.concatenate([np.logspace(-30, 1.9, 20000), -np.logspace(-30, 1.9, 20000)]).astype(np.float32)[None]
    for name, ulps in (("tanh", 1.5), ("sigmoid", 2.5)):
        wanted = ACTIVATIONS[name](x.astype(np.float64))
        error = np.abs(core.kernel_unary("scalar", name, x) - wanted) / np.spacing(wanted.astype(np.float32))
        assert error.max() <= ulps


def check_sums(blocks: np.ndarray) -> None:
    """The sums of quantized blocks are those of their numbers."""
    total = blocks["q"].sum(axis=-1, dtype=np.int16)
    assert np.array_equal(blocks["sum"], total)
    assert np.array_equal(blocks["low_sum"], blocks["q"][..., :16].sum(axis=-1, dtype=np.int16))
    with np.errstate(all="ignore"):
        scaled = blocks["scale"] * total.astype(np.float32)
    usable = np.isfinite(scaled) & (np.abs(scaled) >= np.finfo(np.float32).tiny)
    assert np.array_equal(blocks["scaled_sum"][usable], scaled[usable])


def test_quantize_is_the_nearest_even_of_the_scaled_values(isa: str) -> None:
    for x in (rows(0, 5, 256, scale=10), extreme_rows(1, 5, 256, finite=True), np.zeros((1, 32), np.float32)):
        blocks_of_x = core.kernel_quantize(isa, x)
        q, scale = blocks_of_x["q"], blocks_of_x["scale"]
        flushed = np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)
        blocks = flushed.reshape(len(x), -1, 32)
        largest = np.abs(blocks).max(axis=-1)
        with np.errstate(divide="ignore", over="ignore", under="ignore"):
            inverse = np.where(largest > 0, np.float32(127) / largest, np.float32(0))
            product = blocks * inverse[..., None]
        usable = np.isfinite(inverse)[..., None] & np.isfinite(product)
        assert np.array_equal(
            q.reshape(blocks.shape)[np.broadcast_to(usable, blocks.shape)],
            np.rint(product)[np.broadcast_to(usable, blocks.shape)].astype(np.int8),
        )
        expected_scale = largest / np.float32(127)
        assert np.array_equal(
            scale, np.where(expected_scale < np.finfo(np.float32).tiny, np.float32(0), expected_scale)
        )
        check_sums(blocks_of_x)


def test_quantize_survives_what_is_not_finite(isa: str) -> None:
    blocks = core.kernel_quantize(isa, extreme_rows(5, 40, 64))
    assert blocks.shape == (40, 2)
    check_sums(blocks)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_in_the_scale_wherever_it_is(isa: str, bad: float) -> None:
    for place in range(64):
        x = rows(0, 1, 64)
        x[0, place] = bad
        scales = core.kernel_quantize(isa, x)["scale"][0]
        assert not np.isfinite(scales[place // 32]) and np.isfinite(scales[1 - place // 32])
        assert not np.isfinite(core.kernel_quantize_row(isa, x)[0]["scale"]).any()


@walks("quantize")
def test_quantize_gives_the_same_bits(isa: str) -> None:
    for seed in range(20):
        x = extreme_rows(seed, 3, 96, finite=True)
        assert core.kernel_quantize(isa, x).tobytes() == core.kernel_quantize("scalar", x).tobytes()


@walks("quantize_row")
def test_quantized_rows_have_one_scale_and_their_total(isa: str) -> None:
    for seed in range(20):
        x = extreme_rows(seed, 3, 96, finite=True)
        blocks, total = core.kernel_quantize_row(isa, x)
        check_sums(blocks)
        assert np.array_equal(blocks["scale"], np.repeat(blocks["scale"][:, :1], 3, axis=1))
        assert np.array_equal(total, blocks["q"].sum(axis=(1, 2), dtype=np.int32))
        wanted, wanted_total = core.kernel_quantize_row("scalar", x)
        assert blocks.tobytes() == wanted.tobytes() and np.array_equal(total, wanted_total)


def function64(name: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """The row functions in float64."""
    if name == "layer_norm":
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * weight + bias
    if name == "rms_norm":
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight
    if name == "affine":
        return x * epsilon * weight + bias
    if name == "soft_cap":
        return epsilon * np.tanh(x / epsilon)
    if name == "clip":
        return np.clip(x, -epsilon, epsilon)
    if name == "softmax":
        weights = np.exp(x * epsilon - (x * epsilon).max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), epsilon)


@pytest.mark.parametrize("name", core.ROW_FUNCTIONS)
def test_row_functions_are_close_to_float64(name: str) -> None:
    for n in LENGTHS:
        x, weight, bias = rows(n, 3, n) + np.float32(0.5), rows(1, n), rows(2, n)
        wanted = function64(name, *(a.astype(np.float64) for a in (x, weight, bias)), NUMBERS[name])
        result = core.kernel_row_function("scalar", name, x, weight, bias, NUMBERS[name])
        assert np.allclose(result, wanted, rtol=2e-5, atol=2e-5), n


def test_norms_without_weight_and_bias_are_those_with_ones_and_zeros(isa: str) -> None:
    for n in LENGTHS:
        x, ones, zeros = rows(n, 2, n), np.ones(n, np.float32), np.zeros(n, np.float32)
        for name in core.ROW_FUNCTIONS:
            plain = core.kernel_row_function(isa, name, x)
            assert np.array_equal(plain, core.kernel_row_function(isa, name, x, ones, zeros)), (n, name)


def test_a_soft_cap_is_kept_to(isa: str) -> None:
    x = np.array([[-np.inf, -1e30, -1e3, 0, 1e-20, 49, 1e30, np.inf, np.nan]], np.float32)
    result = core.kernel_row_function(isa, "soft_cap", x, number=50)[0]
    assert np.isnan(result[-1]) and np.abs(result[:-1]).max() == 50 and (np.diff(result[:-1]) >= 0).all()
    assert np.allclose(result[3:6], [0, 1e-20, 50 * np.tanh(0.98)], rtol=1e-6, atol=0)


def test_clipped_rows_keep_what_is_not_a_number(isa: str) -> None:
    x = np.array([[-np.inf, -6.5, -6, 0, 5.5, 6.0001, np.inf, np.nan]], np.float32)
    result = core.kernel_row_function(isa, "clip", x, number=6)[0]
    assert np.array_equal(result, np.float32([-6, -6, -6, 0, 5.5, 6, 6, np.nan]), equal_nan=True)


def test_layer_norm_without_bias_adds_nothing(isa: str) -> None:
    x, weight = rows(0, 2, 50), rows(1, 50)
    assert same_bits(
        core.kernel_row_function(isa, "layer_norm", x, weight),
        core.kernel_row_function(isa, "layer_norm", x, weight, np.zeros(50, np.float32)),
    )


def test_softmax_is_close_to_float64() -> None:
    for n in LENGTHS:
        x = rows(n, 3, n, scale=8)
        shifted = x.astype(np.float64) - x.max(-1, keepdims=True)
        log_sum = np.log(np.exp(shifted).sum(-1, keepdims=True))
        result = core.kernel_row_function("scalar", "softmax", x, number=1)
        assert np.allclose(result, np.exp(shifted - log_sum), rtol=2e-6, atol=1e-12)


def test_softmax_of_masked_logits_is_zero_there(isa: str) -> None:
    x = np.array([1.0, -np.inf, 2.0, -np.inf], np.float32)
    result = core.kernel_row_function(isa, "softmax", x[None], number=1)[0]
    assert result[1] == result[3] == 0 and abs(result.sum() - 1) < 1e-6


def test_pooling(isa: str) -> None:
    x = rows(0, 13, 37)
    assert np.allclose(core.kernel_pool(isa, x, core.POOL_MEAN), x.astype(np.float64).mean(0), rtol=1e-5, atol=1e-6)
    assert same_bits(core.kernel_pool(isa, x, core.POOL_FIRST), x[0])
    assert same_bits(core.kernel_pool(isa, x, core.POOL_LAST), x[12])


def test_wrong_rows_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="multiple of 32"):
        core.kernel_quantize("scalar", rows(0, 1, 33))
    with pytest.raises(InvalidInputError, match="no activation"):
        core.kernel_unary("scalar", "swish", rows(0, 1, 3))
    with pytest.raises(InvalidInputError, match="no row function"):
        core.kernel_row_function("scalar", "batch_norm", rows(0, 1, 3), rows(0, 3))
    with pytest.raises(InvalidInputError, match="there are no columns"):
        core.kernel_unary("scalar", "relu", np.empty((2, 0), np.float32))
    with pytest.raises(InvalidInputError, match="2 dimensions"):
        core.kernel_unary("scalar", "relu", rows(0, 3))


def test_the_maximum_loses_no_fault(isa: str) -> None:
    a, b = rows(1, 3, 40), rows(2, 3, 40)
    assert np.array_equal(core.kernel_maximum(isa, a, b), np.maximum(a, b))
    for bad in (np.nan, np.inf, -np.inf):
        broken = a.copy()
        broken[1, 5] = bad
        assert np.isnan(core.kernel_maximum(isa, broken, b)[1, 5])
    assert np.isnan(core.kernel_maximum(isa, a, np.full_like(b, np.nan))).all()
