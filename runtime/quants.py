"""Tensor types of GGUF: their blocks, and the way from float32 to bytes and back for those that edgeformer runs.

The numbers are those of llama.cpp's reference quantizers, to the bit. Work goes over the tensor in chunks of about a
quarter of a million weights, so scratch memory stays at a few MB whatever the tensor's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConversionError, InvalidInputError, InvalidOptionError, quote

__all__ = ["READ_AS", "STORED_TYPES", "TYPES", "QuantizationType", "ReadableType", "StoredType", "by_name"]

BLOCK = 32
CHUNK_ELEMENTS = 1 << 18

# The largest float32 below one half. Adding it (with x's sign) and truncating rounds half away from zero exactly,
# where adding 0.5 would carry 0.49999997 up to 1.
_ALMOST_HALF = np.nextafter(np.float32(0.5), np.float32(0.0))

_Q8_0_BLOCK = np.dtype([("scale", "<f2"), ("q", "i1", (BLOCK,))])
_Q4_0_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])
_Q6_K_BLOCK = np.dtype(
    [("low", "u1", (2, 1, 64)), ("high", "u1", (2, 1, 32)), ("scales", "i1", (16,)), ("scale", "<f2")]
)

Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class StoredType:
    """A tensor type as a file stores it.

    Attributes
    ----------
    id : int
        GGUF's number of the type.
    name : str
        llama.cpp's name, e.g. ``"q8_0"``.
    block_size : int
        Weights in a block; a row holds whole blocks.
    type_size : int
        Bytes of a block.
    """

    id: int
    name: str
    block_size: int
    type_size: int

    def row_bytes(self, num_columns: int) -> int:
        """Bytes of a row of `num_columns` weights.

        Raises
        ------
        InvalidInputError
            The block size does not divide the row.
        """
        if num_columns % self.block_size:
            raise InvalidInputError(f"{num_columns} weights a row are not whole {self.name} blocks ({self.block_size})")
        return num_columns // self.block_size * self.type_size


@dataclass(frozen=True)
class ReadableType(StoredType):
    """A tensor type with its dequantizer."""

    decode_blocks: Callable[[Bytes], Float32]

    def dequantize(self, raw: Bytes, shape: tuple[int, ...]) -> Float32:
        """The weights that bytes stand for.

        Parameters
        ----------
        raw : uint8, any shape, C-contiguous
            The blocks, rows one after another.
        shape : tuple of int
            Shape of the weights, rows first.

        Returns
        -------
        float32 of `shape`

        Raises
        ------
        InvalidInputError
            The bytes are not as many as the shape needs.
        """
        num_rows = 1
        for extent in shape[:-1]:
            num_rows *= extent
        needed = num_rows * self.row_bytes(shape[-1] if shape else 1)
        if raw.nbytes != needed:
            raise InvalidInputError(f"{self.name} of shape {shape} is {needed} bytes, not {raw.nbytes}")
        blocks = np.ascontiguousarray(raw).reshape(-1).view(np.uint8).reshape(-1, self.type_size)
        decoded = np.empty((len(blocks), self.block_size), dtype=np.float32)
        with np.errstate(invalid="ignore"):  # a file may hold infinite scales, and infinity times zero is NaN
            for chunk in self._chunks(len(blocks)):
                decoded[chunk] = self.decode_blocks(blocks[chunk])
        return decoded.reshape(shape)

    def _chunks(self, num_blocks: int) -> list[slice]:
        step = max(1, CHUNK_ELEMENTS // self.block_size)
        return [slice(first, min(first + step, num_blocks)) for first in range(0, num_blocks, step)]


@dataclass(frozen=True)
class QuantizationType(ReadableType):
    """A tensor type that edgeformer runs, with its quantizer, too."""

    encode_blocks: Callable[[Float32], Bytes]

    def quantize(self, weights: NDArray[Any]) -> Bytes:
        """Quantize along the last axis.

        Parameters
        ----------
        weights : float32 [..., K]
            K a multiple of the block size.

        Returns
        -------
        uint8 [..., row_bytes(K)]

        Raises
        ------
        ConversionError
            A weight is NaN or infinite, or too large for the type's half-precision numbers.
        InvalidInputError
            The array has no axis, or the block size does not divide K.
        """
        if weights.ndim == 0:
            raise InvalidInputError("a scalar has no rows to quantize")
        row_bytes = self.row_bytes(weights.shape[-1])
        blocks = np.ascontiguousarray(weights, dtype=np.float32).reshape(-1, self.block_size)
        encoded = np.empty((len(blocks), self.type_size), dtype=np.uint8)
        for chunk in self._chunks(len(blocks)):
            self._check_finite(blocks, chunk.start, chunk.stop)
            encoded[chunk] = self.encode_blocks(blocks[chunk])
        return encoded.reshape(*weights.shape[:-1], row_bytes)

    def _check_finite(self, blocks: Float32, start: int, stop: int) -> None:
        finite = np.isfinite(blocks[start:stop])
        if not finite.all():
            index = int(np.argmin(finite))
            value = float(blocks[start:stop].reshape(-1)[index])
            raise ConversionError(f"weight {start * self.block_size + index} is {value}, which no model can use")


def _half(values: Float32, what: str) -> NDArray[np.float16]:
    """To half precision, round to nearest even. Raises ConversionError where a finite value becomes infinite."""
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if np.isinf(halves).any():
        largest = float(np.abs(values).max())
        raise ConversionError(f"{what} {largest:g} does not fit half precision (65504): use bf16 or f32")
    return halves


def _inverse(scales: Float32) -> Float32:
    """1 / scale, and 0 where the scale is 0 or so small that its inverse overflows: its half is then 0 as well."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1.0) / scales
    inverse[np.isinf(inverse)] = 0.0
    return inverse


def _encode_f32(blocks: Float32) -> Bytes:
    return blocks.astype("<f4", copy=False).view(np.uint8)


def _decode_f32(blocks: Bytes) -> Float32:
    return blocks.view("<f4")


def _encode_f16(blocks: Float32) -> Bytes:
    return _half(blocks, "weight").view(np.uint8)


def _decode_f16(blocks: Bytes) -> Float32:
    return blocks.view("<f2").astype(np.float32)


def _encode_bf16(blocks: Float32) -> Bytes:
    bits = blocks.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    if ((rounded & 0x7F80) == 0x7F80).any():
        raise ConversionError(f"weight {float(np.abs(blocks).max()):g} rounds to infinity in bfloat16: use f32")
    return rounded.astype("<u2").view(np.uint8)


def _decode_bf16(blocks: Bytes) -> Float32:
    return (blocks.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)


def _encode_q8_0(blocks: Float32) -> Bytes:
    """scale = max|x| / 127, q = x / scale rounded half away from zero."""
    scale = np.maximum(blocks.max(axis=1), -blocks.min(axis=1)) / np.float32(127.0)
    scaled = blocks * _inverse(scale)[:, None]
    scaled += np.copysign(_ALMOST_HALF, scaled)
    encoded = np.empty(len(blocks), dtype=_Q8_0_BLOCK)
    encoded["scale"] = _half(np.abs(scale), "scale")
    encoded["q"] = scaled.astype(np.int8)
    return encoded.view(np.uint8).reshape(-1, _Q8_0_BLOCK.itemsize)


def _decode_q8_0(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(_Q8_0_BLOCK)
    weights: Float32 = stored["q"] * stored["scale"].astype(np.float32)[:, None]
    return weights


def _signed_extreme(blocks: Float32) -> Float32:
    """In each block the value that is largest in magnitude, with its sign; of equals the first."""
    highest = blocks.max(axis=1)
    lowest = blocks.min(axis=1)
    extreme: Float32 = np.where(highest > -lowest, highest, lowest)
    tied = np.nonzero(highest == -lowest)[0]
    extreme[tied] = blocks[tied, np.abs(blocks[tied]).argmax(axis=1)]
    return extreme


def _encode_q4_0(blocks: Float32) -> Bytes:
    """scale = (the value largest in magnitude) / -8, so that value is stored as 0; q = x / scale + 8, at most 15."""
    scale = _signed_extreme(blocks) / np.float32(-8.0)
    shifted = blocks * _inverse(scale)[:, None]
    shifted += np.float32(8.5)
    q = np.minimum(shifted.astype(np.uint8), np.uint8(15))
    encoded = np.empty(len(blocks), dtype=_Q4_0_BLOCK)
    encoded["scale"] = _half(scale, "scale")
    encoded["nibbles"] = q[:, : BLOCK // 2] | (q[:, BLOCK // 2 :] << np.uint8(4))
    return encoded.view(np.uint8).reshape(-1, _Q4_0_BLOCK.itemsize)


def _decode_q4_0(blocks: Bytes) -> Float32:
    stored = blocks.reshape(-1).view(_Q4_0_BLOCK)
    q = np.empty((len(stored), BLOCK), dtype=np.int8)
    q[:, : BLOCK // 2] = stored["nibbles"] & np.uint8(15)
    q[:, BLOCK // 2 :] = stored["nibbles"] >> np.uint8(4)
    q -= np.int8(8)
    return q * stored["scale"].astype(np.float32)[:, None]


def _decode_q6_k(blocks: Bytes) -> Float32:
    """Sixteen parts of sixteen weights: weight = scale * (the part's scale) * (six bits - 32)."""
    stored = blocks.reshape(-1).view(_Q6_K_BLOCK)
    four_bits = np.concatenate([stored["low"] & np.uint8(15), stored["low"] >> np.uint8(4)], axis=2)
    two_bits = (stored["high"] >> np.array([[0], [2], [4], [6]], np.uint8)) & np.uint8(3)
    q = (four_bits.reshape(two_bits.shape) | (two_bits << np.uint8(4))).astype(np.int8) - np.int8(32)
    scales = stored["scale"].astype(np.float32)[:, None] * stored["scales"]
    weights: Float32 = q.reshape(-1, 16, 16) * scales[:, :, None]
    return weights.reshape(-1, 256)


TYPES: dict[int, QuantizationType] = {
    stored_type.id: stored_type
    for stored_type in (
        QuantizationType(0, "f32", 1, 4, _decode_f32, _encode_f32),
        QuantizationType(1, "f16", 1, 2, _decode_f16, _encode_f16),
        QuantizationType(2, "q4_0", BLOCK, _Q4_0_BLOCK.itemsize, _decode_q4_0, _encode_q4_0),
        QuantizationType(8, "q8_0", BLOCK, _Q8_0_BLOCK.itemsize, _decode_q8_0, _encode_q8_0),
        QuantizationType(30, "bf16", 1, 2, _decode_bf16, _encode_bf16),
    )
}
"""The types that edgeformer runs, by id."""

READ_AS: dict[int, tuple[ReadableType, QuantizationType]] = {
    14: (ReadableType(14, "q6_k", 256, _Q6_K_BLOCK.itemsize, _decode_q6_k), TYPES[8]),
}
"""Types that are read as another one that runs and loses next to nothing, by id.

llama.cpp's quantizer stores the token embeddings or the output matrix of its q4_0 files as q6_k.
"""

_NOT_RUN = (
    (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24),
    (9, "q8_1", 32, 36),
    (10, "q2_k", 256, 84),
    (11, "q3_k", 256, 110),
    (12, "q4_k", 256, 144),
    (13, "q5_k", 256, 176),
    (15, "q8_k", 256, 292),
    (16, "iq2_xxs", 256, 66),
    (17, "iq2_xs", 256, 74),
    (18, "iq3_xxs", 256, 98),
    (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18),
    (21, "iq3_s", 256, 110),
    (22, "iq2_s", 256, 82),
    (23, "iq4_xs", 256, 136),
    (24, "i8", 1, 1),
    (25, "i16", 1, 2),
    (26, "i32", 1, 4),
    (27, "i64", 1, 8),
    (28, "f64", 1, 8),
    (29, "iq1_m", 256, 56),
    (34, "tq1_0", 256, 54),
    (35, "tq2_0", 256, 66),
    (39, "mxfp4", 32, 17),
    (40, "nvfp4", 64, 36),
    (41, "q1_0", 128, 18),
)

STORED_TYPES: dict[int, StoredType] = {
    **{row[0]: StoredType(*row) for row in _NOT_RUN},
    **{type_id: stored for type_id, (stored, _) in READ_AS.items()},
    **TYPES,
}
"""Every type whose size is known, so a file that holds it can be checked and listed, by id."""


def by_name(name: str) -> QuantizationType:
    """The type of that name, e.g. ``"q8_0"``; upper case is the same.

    Raises
    ------
    InvalidOptionError
        There is no such type; the message lists those there are.
    """
    for quantization_type in TYPES.values():
        if quantization_type.name == name.lower():
            return quantization_type
    known = ", ".join(t.name for t in TYPES.values())
    raise InvalidOptionError(f"unknown weight type {quote(name)}: choose one of {known}")
