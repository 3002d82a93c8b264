"""Quantizers against gguf-py's, bit for bit, and their refusals."""

from __future__ import annotations

import tracemalloc

import gguf
import numpy as np
import pytest
from edgeformer.errors import ConversionError, InvalidInputError, InvalidOptionError
from edgeformer.quants import I8_ROW, STORED_TYPES, TYPES, QuantizationType, by_name
from hypothesis import given, settings
from hypothesis import strategies as st

GGML_TYPES = [quantization for quantization in TYPES.values() if not quantization.is_own]
EXACT_NAMES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")  # whose encoders give gguf-py's bytes
ALL_TYPES = pytest.mark.parametrize("quantization", [by_name(name) for name in EXACT_NAMES], ids=lambda t: t.name)
EVERY = pytest.mark.parametrize("quantization", TYPES.values(), ids=lambda t: t.name)
DECODED = pytest.mark.parametrize("quantization", GGML_TYPES, ids=lambda t: t.name)
BLOCK_TYPES = [by_name("q8_0"), by_name("q4_0")]


def reference_bytes(weights: np.ndarray, quantization: QuantizationType) -> np.ndarray:
    encoded = gguf.quants.quantize(weights, gguf.GGMLQuantizationType(quantization.id))
    return encoded.view(np.uint8).reshape(*weights.shape[:-1], -1)


def assert_same_as_reference(weights: np.ndarray, quantization: QuantizationType) -> None:
    encoded = quantization.quantize(weights)
    np.testing.assert_array_equal(encoded, reference_bytes(weights, quantization))
    decoded = quantization.dequantize(encoded, weights.shape)
    expected = gguf.quants.dequantize(encoded, gguf.GGMLQuantizationType(quantization.id))
    np.testing.assert_array_equal(decoded.view(np.uint32), expected.view(np.uint32).reshape(weights.shape))


def test_sizes_are_those_of_gguf() -> None:
    theirs = {int(t): (t.name.lower(), *sizes) for t, sizes in gguf.GGML_QUANT_SIZES.items()}
    theirs[9] = ("q8_1", 32, 36)  # ggml.c: two halves and 32 bytes; gguf-py still has the two floats of long ago
    ours = {t.id: (t.name, t.block_size, t.type_size) for t in STORED_TYPES.values()}
    both = theirs.keys() & ours.keys()  # releases of gguf differ in the newest types
    assert {number: ours[number] for number in both} == {number: theirs[number] for number in both}
    assert both >= {quantization.id for quantization in GGML_TYPES}
    assert not theirs.keys() & (TYPES.keys() - both), "a type of ours has a number of ggml's"
    assert TYPES[I8_ROW].row_bytes(96) == 100


def gguf_weights(raw: np.ndarray, quantization: QuantizationType) -> np.ndarray:
    with np.errstate(all="ignore"):  # random bytes hold infinite scales and NaN
        return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(quantization.id))


@DECODED
@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_decode_as_in_gguf(quantization: QuantizationType, seed: int) -> None:
    shape = (64, 512)
    raw = np.random.default_rng(seed).integers(0, 256, (64, quantization.row_bytes(512)), dtype=np.uint8)
    decoded = quantization.dequantize(raw, shape)
    np.testing.assert_array_equal(decoded.view(np.uint32), gguf_weights(raw, quantization).view(np.uint32))


@DECODED
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_block_decodes_as_in_gguf(quantization: QuantizationType, data: st.DataObject) -> None:
    size = quantization.type_size
    raw = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8)[None]
    decoded = quantization.dequantize(raw, (1, quantization.block_size))
    np.testing.assert_array_equal(decoded.view(np.uint32), gguf_weights(raw, quantization).view(np.uint32))


@DECODED
@pytest.mark.parametrize("scale", [0x7C00, 0xFC00, 0x7E00, 0x7C01, 0x0001, 0x8000], ids=hex)
def test_any_half_everywhere_decodes_as_in_gguf(quantization: QuantizationType, scale: int) -> None:
    """Infinities, NaN of both kinds, the smallest denormal and minus zero, also where scales are."""
    raw = np.resize(np.array([scale & 255, scale >> 8], np.uint8), quantization.row_bytes(256) * 3).reshape(3, -1)
    decoded = quantization.dequantize(raw, (3, 256))
    np.testing.assert_array_equal(decoded.view(np.uint32), gguf_weights(raw, quantization).view(np.uint32))


def test_i8_row_is_a_scale_and_a_byte_a_weight() -> None:
    weights = np.random.default_rng(5).standard_normal((7, 96), dtype=np.float32)
    weights[3] = 0
    weights[4, :2] = 63.5, 0.25  # half a step: to even
    raw = TYPES[I8_ROW].quantize(weights)
    assert raw.shape == (7, 100)
    for row, stored in zip(weights, raw, strict=True):
        scale = np.abs(row).max() / np.float32(127)
        assert np.frombuffer(stored[:4].tobytes(), np.float32)[0] == scale
        q = stored[4:].view(np.int8)
        assert np.abs(row.astype(np.float64) - float(scale) * q).max() <= 0.5001 * scale
        np.testing.assert_array_equal(TYPES[I8_ROW].dequantize(stored, (96,)), scale * q)
    assert raw[4, 4:6].view(np.int8).tolist() == [127, 0]


@DECODED
def test_quantized_weights_decode_as_in_gguf(quantization: QuantizationType) -> None:
    weights = np.random.default_rng(6).standard_t(4, (8, 512)).astype(np.float32)
    raw = quantization.quantize(weights)
    decoded = quantization.dequantize(raw, weights.shape)
    np.testing.assert_array_equal(decoded.view(np.uint32), gguf_weights(raw, quantization).view(np.uint32))


def test_an_encoder_gets_the_importance_of_each_of_its_weights() -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def encode(blocks: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        assert importance is not None
        seen.append((blocks, importance))
        return np.zeros((len(blocks), 18), np.uint8)

    probe = QuantizationType(99, "probe", 32, 18, decode=lambda raw: raw.view(np.float32), encode=encode)
    columns = np.arange(96, dtype=np.float32)
    weights = np.tile(columns, (7000, 1))  # more than a chunk, and chunks do not end with rows
    probe.quantize(weights, columns)
    assert len(seen) > 1
    for blocks, importance in seen:
        np.testing.assert_array_equal(blocks, importance)


@pytest.mark.parametrize("bad", [np.ones(31), np.ones((1, 32)), np.full(32, np.nan), np.full(32, -1.0)])
def test_bad_importance_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="32 finite numbers"):
        by_name("q4_0").quantize(np.zeros((2, 32), np.float32), bad)


@ALL_TYPES
@pytest.mark.parametrize("shape", [(32,), (1, 64), (3, 96), (2, 3, 32), (5, 0), (0, 32), (700, 512)])
def test_equals_reference(quantization: QuantizationType, shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    if weights.size == 0:
        assert quantization.dequantize(quantization.quantize(weights), shape).shape == shape
    else:
        assert_same_as_reference(weights, quantization)


@ALL_TYPES
@pytest.mark.parametrize("scale", [1e-35, 1e-7, 1e-3, 1.0, 500.0])
def test_equals_reference_over_magnitudes(quantization: QuantizationType, scale: float) -> None:
    weights = np.random.default_rng(2).standard_normal((16, 64), dtype=np.float32) * np.float32(scale)
    assert_same_as_reference(weights, quantization)


@ALL_TYPES
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-254, 254), min_size=32, max_size=32))
def test_equals_reference_on_ties(quantization: QuantizationType, halves: list[int]) -> None:
    # Multiples of a half put many values exactly between two steps; extremes of both signs are often equally far out.
    assert_same_as_reference(np.array(halves, dtype=np.float32)[None] / 2, quantization)


@pytest.mark.parametrize("quantization", BLOCK_TYPES, ids=lambda t: t.name)
def test_every_remainder_of_a_step(quantization: QuantizationType) -> None:
    steps = np.linspace(-127.0, 127.0, 31 * 4096, dtype=np.float32).reshape(-1, 31)
    weights = np.concatenate([steps, np.full((len(steps), 1), 127.0, dtype=np.float32)], axis=1)
    assert_same_as_reference(weights, quantization)


@ALL_TYPES
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_blocks_of_zeros_stay_zero(quantization: QuantizationType, zero: float) -> None:
    weights = np.full((2, 32), zero, dtype=np.float32)
    assert not quantization.dequantize(quantization.quantize(weights), (2, 32)).any()
    if quantization.name != "q8_0":  # there the sign of a zero scale is gguf-py's own choice
        assert_same_as_reference(weights, quantization)


@pytest.mark.parametrize("quantization", BLOCK_TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("tiny", [1e-45, 3e-44, 2e-39])
def test_denormal_blocks_become_zero_without_a_warning(quantization: QuantizationType, tiny: float) -> None:
    weights = np.full((1, 32), tiny, dtype=np.float32)
    assert not quantization.dequantize(quantization.quantize(weights), (1, 32)).any()


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_is_refused(quantization: QuantizationType, bad: float) -> None:
    weights = np.zeros((300, 1024), dtype=np.float32)
    weights[299, 1000] = bad
    with pytest.raises(ConversionError, match=rf"weight {299 * 1024 + 1000} is {bad}"):
        quantization.quantize(weights)


@pytest.mark.parametrize(("name", "value"), [("f16", 65520.0), ("q8_0", 1e8), ("q4_0", -1e7), ("bf16", 3.4e38)])
def test_too_large_for_the_type_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConversionError, match="use "):
        by_name(name).quantize(np.full((1, 32), value, dtype=np.float32))


@EVERY
def test_shapes_that_do_not_fit_are_refused(quantization: QuantizationType) -> None:
    size = quantization.block_size
    for columns in [columns for columns in (1, size - 1, size + 1, 3 * size // 2) if columns % size]:
        with pytest.raises(InvalidInputError, match=f"{columns} weights a row"):
            quantization.quantize(np.zeros((2, columns), np.float32))
        with pytest.raises(InvalidInputError, match=f"{columns} weights a row"):
            quantization.dequantize(np.zeros(64, np.uint8), (2, columns))
    needed = 3 * quantization.row_bytes(size)
    for nbytes in (0, needed - 1, needed + 1, 1 << 20):
        with pytest.raises(InvalidInputError, match=f"{needed} bytes, not {nbytes}"):
            quantization.dequantize(np.zeros(nbytes, np.uint8), (3, size))
    assert quantization.quantize(np.zeros((0, size), np.float32)).shape == (0, quantization.row_bytes(size))
    assert quantization.dequantize(np.zeros(0, np.uint8), (4, 0, size)).shape == (4, 0, size)
    assert quantization.quantize(np.zeros((3, 0), np.float32)).shape == (3, quantization.row_bytes(0))


def test_rows_that_are_not_whole_blocks_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="33 weights"):
        by_name("q8_0").quantize(np.zeros((2, 33), dtype=np.float32))
    with pytest.raises(InvalidInputError, match="scalar"):
        by_name("f32").quantize(np.zeros((), dtype=np.float32))


def test_wrong_number_of_bytes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="34 bytes, not 33"):
        by_name("q8_0").dequantize(np.zeros(33, dtype=np.uint8), (32,))


def test_other_layouts_of_the_same_weights_give_the_same_bytes() -> None:
    weights = np.random.default_rng(3).standard_normal((64, 64), dtype=np.float32)
    expected = by_name("q4_0").quantize(np.ascontiguousarray(weights.T))
    np.testing.assert_array_equal(by_name("q4_0").quantize(weights.T), expected)
    np.testing.assert_array_equal(by_name("q4_0").quantize(weights.T.astype(np.float64)), expected)


def test_scratch_memory_is_bounded() -> None:
    weights = np.ones((2048, 2048), dtype=np.float32)
    for quantization in TYPES.values():
        tracemalloc.start()
        encoded = quantization.quantize(weights)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak - encoded.nbytes < 8 << 20


def test_by_name() -> None:
    assert by_name("Q8_0") is TYPES[8]
    with pytest.raises(InvalidOptionError, match="q8_0"):
        by_name("q9_9")
