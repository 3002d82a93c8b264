"""What a tensor type is: its blocks, and the way between float32 and bytes.

Work goes over a tensor in chunks of about a quarter of a million weights, so scratch memory stays at a few MB whatever
the tensor's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError, InvalidInputError

CHUNK_ELEMENTS = 1 << 18
OWN = 0x00656600  # edgeformer's own types are numbered from here on: far above those that ggml gives

Float32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

Decoder = Callable[[Bytes], Float32]
"""Bytes uint8 [n, bytes of a unit] to weights float32 [n, weights of a unit].

A unit is what stands for itself: a block, or a row where the type has row headers.
"""

Encoder = Callable[[Float32, Float32 | None], Bytes]
"""Weights float32 [n, weights of a unit] to bytes uint8 [n, bytes of a unit].

Weights are finite. The second argument is None or the importance of every weight, same shape, finite, not negative;
an encoder that has no use for it ignores it. Raises ConversionError where the type cannot hold the weights.
"""


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
    row_header : int
        Bytes before the first block of every row.
    """

    id: int
    name: str
    block_size: int
    type_size: int
    row_header: int = field(default=0, kw_only=True)

    def row_bytes(self, num_columns: int) -> int:
        """Bytes of a row of `num_columns` weights.

        Raises
        ------
        InvalidInputError
            The block size does not divide the row.
        """
        if num_columns % self.block_size:
            raise InvalidInputError(f"{num_columns} weights a row are not whole {self.name} blocks ({self.block_size})")
        return self.row_header + num_columns // self.block_size * self.type_size

    @property
    def is_own(self) -> bool:
        """Whether the type is edgeformer's own, so other readers of GGUF do not know it."""
        return self.id >= OWN


@dataclass(frozen=True)
class QuantizationType(StoredType):
    """A tensor type that is read and written.

    Attributes
    ----------
    decode : Decoder
    encode : Encoder
    """

    decode: Decoder = field(kw_only=True)
    encode: Encoder = field(kw_only=True)

    def dequantize(self, raw: Bytes, shape: tuple[int, ...]) -> Float32:
        """The weights that bytes stand for.

        Parameters
        ----------
        raw : uint8, any shape
            The rows one after another.
        shape : tuple of int
            Shape of the weights, rows first.

        Returns
        -------
        float32 of `shape`

        Raises
        ------
        InvalidInputError
            The bytes are not as many as the shape needs, or the block size does not divide the rows.
        """
        num_columns = shape[-1] if shape else 1
        num_rows = math.prod(shape[:-1])
        needed = num_rows * self.row_bytes(num_columns)
        if raw.nbytes != needed:
            raise InvalidInputError(f"{self.name} of shape {shape} is {needed} bytes, not {raw.nbytes}")
        units, unit_weights, unit_bytes = self._units(num_columns)
        encoded = np.ascontiguousarray(raw).reshape(-1).view(np.uint8).reshape(num_rows * units, unit_bytes)
        decoded = np.empty((len(encoded), unit_weights), dtype=np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # a file may hold any scale, infinite and NaN among them
            for chunk in _chunks(len(encoded), unit_weights):
                decoded[chunk] = self.decode(encoded[chunk])
        return decoded.reshape(shape)

    def quantize(self, weights: NDArray[Any], importance: Float32 | None = None) -> Bytes:
        """Quantize along the last axis.

        Parameters
        ----------
        weights : float32 [..., K]
            K a multiple of the block size.
        importance : float32 [K], optional
            How much an error in each column matters, e.g. the mean square of the activations it is multiplied with.
            Types whose encoder has nothing to choose ignore it.

        Returns
        -------
        uint8 [..., row_bytes(K)]

        Raises
        ------
        ConversionError
            A weight is NaN or infinite, or too large for the type's half-precision numbers.
        InvalidInputError
            The array has no axis, the block size does not divide K, or the importance is not K finite numbers >= 0.
        """
        if weights.ndim == 0:
            raise InvalidInputError("a scalar has no rows to quantize")
        num_columns = weights.shape[-1]
        row_bytes = self.row_bytes(num_columns)
        units, unit_weights, unit_bytes = self._units(num_columns)
        num_units = math.prod(weights.shape[:-1]) * units
        rows = np.ascontiguousarray(weights, dtype=np.float32).reshape(num_units, unit_weights)
        columns = None if importance is None else _checked(importance, num_columns).reshape(units, unit_weights)
        encoded = np.empty((num_units, unit_bytes), dtype=np.uint8)
        for chunk in _chunks(num_units, unit_weights):
            _check_finite(rows, chunk)
            weight_of = None if columns is None else columns[np.arange(chunk.start, chunk.stop) % units]
            encoded[chunk] = self.encode(rows[chunk], weight_of)
        return encoded.reshape(*weights.shape[:-1], row_bytes)

    def _units(self, num_columns: int) -> tuple[int, int, int]:
        """Units in a row, weights in a unit, bytes of a unit."""
        if self.row_header:
            return 1, num_columns, self.row_bytes(num_columns)
        return num_columns // self.block_size, self.block_size, self.type_size


def _chunks(num_units: int, unit_weights: int) -> Iterator[slice]:
    step = max(1, CHUNK_ELEMENTS // max(1, unit_weights))
    for first in range(0, num_units, step):
        yield slice(first, min(first + step, num_units))


def _checked(importance: Float32, num_columns: int) -> Float32:
    columns = np.ascontiguousarray(importance, dtype=np.float32)
    if columns.shape != (num_columns,) or not np.isfinite(columns).all() or (columns < 0).any():
        raise InvalidInputError(f"importance is not {num_columns} finite numbers >= 0, one for each column")
    return columns


def _check_finite(units: Float32, chunk: slice) -> None:
    finite = np.isfinite(units[chunk])
    if not finite.all():
        index = chunk.start * units.shape[1] + int(np.argmin(finite))
        raise ConversionError(f"weight {index} is {units.reshape(-1)[index]}, which no model can use")
