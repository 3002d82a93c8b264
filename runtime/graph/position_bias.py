"""What attention adds to its scores by the positions of query and key: buckets of distances, ALiBi, windows of images.

Bucket numbers and slopes come from exact arithmetic, so they are the same on every machine.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._kernels import core
from ..errors import ModelFormatError
from ..host.exact import power

COPIES = core.TILE - 1  # of each end of a table by distance: a kernel reads a whole tile of positions at any distance


@dataclass(frozen=True, eq=False)
class PositionBias:
    """What attention adds to the score of a query and a key, for each head.

    Attributes
    ----------
    elements : array [num_heads, distances] or [num_heads, rows, columns]
        By key position - query position, from `-behind` on, beyond the ends as at the ends; or by the position of the
        query and the position of the key. Either float32, or whole numbers: which elements of `tensor`, flattened.
    behind : int
        Of elements by distance.
    tensor : str, optional
        Name of a tensor of the model.
    """

    elements: np.ndarray
    behind: int = 0
    tensor: str | None = None

    @property
    def fields(self) -> dict[str, int]:
        """The fields of the plan's attention that describe the table."""
        rows = self.elements.shape[1] if self.elements.ndim == 3 else 0
        return {"bias_rows": rows, "bias_columns": self.elements.shape[-1], "bias_behind": self.behind}

    def check(self, num_heads: int, shapes: Mapping[str, tuple[int, ...]], path: str) -> None:
        """Raises `ModelFormatError` unless it has so many heads, and the tensor, of these shapes, the elements."""
        name = self.tensor or "attention"
        if len(self.elements) != num_heads:
            raise ModelFormatError(path, None, name, f"a bias of {len(self.elements)} heads, not of {num_heads}")
        if self.tensor is None:
            return
        if self.tensor not in shapes:
            raise ModelFormatError(path, None, name, "the tensor is missing; this architecture needs it")
        last = int(self.elements.max(initial=-1))
        if last >= math.prod(shapes[self.tensor]):
            what = f"shape {list(shapes[self.tensor])}, and its element {last} is needed for attention"
            raise ModelFormatError(path, None, name, what)

    def table(self) -> np.ndarray:
        """The elements as kernels read them (`ef_bias` in kernels.h), flat, padded with copies of the ends."""
        by_distance = self.elements.ndim == 2
        before, after = (COPIES, COPIES) if by_distance else (0, -self.elements.shape[-1] % core.TILE)
        widths = [(0, 0)] * (self.elements.ndim - 1) + [(before, after)]
        return np.pad(self.elements, widths, mode="edge").reshape(-1)

    def values(self, num_rows: int, num_columns: int, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """[num_heads, num_rows, num_columns]: what is added for query and key positions from 0 on."""
        if self.elements.ndim == 3:
            picked = self.elements[:, :num_rows, :num_columns]
        else:
            distance = np.arange(num_columns) - np.arange(num_rows)[:, None]
            picked = self.elements[:, np.clip(distance + self.behind, 0, self.elements.shape[1] - 1)]
        return picked if self.tensor is None else tensors[self.tensor].reshape(-1)[picked]


@dataclass(frozen=True, eq=False)
class DistanceBuckets:
    """A bucket for each distance, for what rows themselves add to scores (Shaw et al. 2018; He et al. 2021).

    Attributes
    ----------
    numbers : int array [distances]
        By key position - query position, from `-behind` on, beyond the ends as at the ends.
    behind : int
    count : int
        How many buckets there are.
    """

    numbers: np.ndarray
    behind: int
    count: int

    @property
    def fields(self) -> dict[str, int]:
        """The fields of the plan's attention that describe the table."""
        return {"relative_buckets": self.count, "bias_columns": len(self.numbers), "bias_behind": self.behind}

    def table(self) -> np.ndarray:
        """The numbers as kernels read them (`ef_relative` in kernels.h)."""
        return self.numbers.astype(np.float32)

    def values(self, relative: np.ndarray) -> np.ndarray:
        """[num_heads, rows, rows]: what is added for `relative` [rows, 2 * num_heads * count] of one segment."""
        position = np.arange(len(relative))
        distance = position - position[:, None]
        buckets = self.numbers[np.clip(distance + self.behind, 0, len(self.numbers) - 1)]
        query, key = np.moveaxis(relative.reshape(len(relative), 2, -1, self.count), 1, 0)
        return np.moveaxis(query[position[:, None], :, buckets] + key[position, :, buckets], 2, 0)


def relative_buckets(num_buckets: int, max_distance: int, *, bidirectional: bool) -> np.ndarray:
    """T5's bucket of each distance (Raffel et al. 2020, `_relative_position_bucket` in transformers).

    The first buckets hold a distance each; those after them grow by a constant ratio up to `max_distance`, which
    falls into the last with all beyond. Looking both ways, keys ahead have buckets of their own, as many.

    Parameters
    ----------
    num_buckets : int
        At least 2, and 4 for both ways.
    max_distance : int
        More than the distances that have buckets of their own.
    bidirectional : bool

    Returns
    -------
    int64 [2 * max_distance + 1], or [max_distance + 1] with the past alone
        For key position - query position from -max_distance on.
    """
    one_way = num_buckets // 2 if bidirectional else num_buckets
    exact = one_way // 2
    if not 1 <= exact < max_distance:
        raise ValueError(f"{num_buckets} buckets do not go with a distance of {max_distance}")
    growing, distances = one_way - exact, range(max_distance + 1)

    def beginning(i: int) -> int:
        """The distance r of bucket exact + i: log(r / exact) / log(max_distance / exact) = i / growing."""
        return bisect_left(distances, max_distance**i * exact**growing, key=lambda r: r**growing * exact**i)

    first = [beginning(i) for i in range(growing)]
    buckets = np.searchsorted([*range(exact), *first], np.abs(distances), side="right") - 1
    return np.concatenate([buckets[::-1], buckets[1:] + one_way]) if bidirectional else buckets[::-1]


def log_buckets(side: int, farthest: int) -> np.ndarray:
    """DeBERTa's bucket of each distance (He et al. 2021, `make_log_bucket_position` in transformers).

    Half of the buckets of a side hold a distance each; those after them grow by a constant ratio up to `farthest` - 1.

    Parameters
    ----------
    side : int
        Buckets of each side, at least 4.
    farthest : int
        More than half of them, and one more.

    Returns
    -------
    int64 [2 * farthest + 1]
        From 0 on and below 2 * side, for key position - query position from -farthest on.
    """
    exact = side // 2
    if not (exact >= 2 and farthest > exact + 1):
        raise ValueError(f"{side} buckets on a side do not go with a distance of {farthest}")
    distances, steps = range(farthest + 1), exact - 1

    def end(i: int) -> int:
        """Past the last distance r of bucket exact + i: log(r / exact) / log((farthest - 1) / exact) <= i / steps."""
        return bisect_right(distances, (farthest - 1) ** i * exact**steps, key=lambda r: r**steps * exact**i)

    beyond = exact + np.searchsorted([end(i) - 1 for i in range(exact)], distances)
    numbers = np.where(np.array(distances) <= exact, distances, beyond)
    return np.clip(np.concatenate([numbers[::-1], -numbers[1:]]) + side, 0, 2 * side - 1)


def bucket_bias(tensor: str, num_heads: int, buckets: np.ndarray, behind: int) -> PositionBias:
    """The bias of T5: for each distance the row of its bucket in `tensor` [num_buckets, num_heads]."""
    return PositionBias(buckets * num_heads + np.arange(num_heads)[:, None], behind, tensor)


def alibi_slopes(num_heads: int, max_bias: float = 8.0) -> np.ndarray:
    """The slopes of ALiBi (Press et al. 2022), float32 [num_heads].

    2^(-max_bias i / n) for i = 1 to n, the greatest power of two that is not above the number of heads; the other heads
    take every other slope of 2 n heads.
    """
    n = 1 << (num_heads.bit_length() - 1)
    slopes = [power(2, -max_bias * i, n) for i in range(1, n + 1)]
    slopes += [power(2, -max_bias * i, 2 * n) for i in range(1, 2 * (num_heads - n), 2)]
    return np.array(slopes, np.float64).astype(np.float32)


def alibi_bias(num_heads: int, behind: int, ahead: int = 0, max_bias: float = 8.0) -> PositionBias:
    """ALiBi: minus slope times distance, for keys up to `behind` positions before a query and `ahead` after it."""
    distance = np.abs(np.arange(-behind, ahead + 1, dtype=np.float64))
    slopes = alibi_slopes(num_heads, max_bias).astype(np.float64)
    return PositionBias((-slopes[:, None] * distance).astype(np.float32), behind)
