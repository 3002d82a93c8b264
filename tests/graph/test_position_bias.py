"""Buckets and slopes of position biases against those of transformers (golden/make_position_bias.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from edgeformer.graph.position_bias import alibi_bias, alibi_slopes, bucket_bias, log_buckets, relative_buckets

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "position_bias.json").read_text())


@pytest.mark.parametrize(("num_buckets", "max_distance", "bidirectional", "wanted"), GOLDEN["buckets"])
def test_buckets_are_those_of_transformers(
    num_buckets: int, max_distance: int, bidirectional: bool, wanted: list[int]
) -> None:
    """Also beyond the largest distance, where the ends of the table count."""
    buckets = relative_buckets(num_buckets, max_distance, bidirectional=bidirectional)
    around = (3, 3) if bidirectional else (3, 0)
    assert np.pad(buckets, around, mode="edge").tolist() == wanted


def test_buckets_that_make_no_sense_are_refused() -> None:
    for num_buckets, max_distance, bidirectional in ((1, 9, False), (3, 9, True), (8, 4, False), (32, 8, True)):
        with pytest.raises(ValueError, match=f"{num_buckets} buckets do not go with a distance of {max_distance}"):
            relative_buckets(num_buckets, max_distance, bidirectional=bidirectional)


@pytest.mark.parametrize(("side", "farthest", "wanted"), GOLDEN["log_buckets"])
def test_debertas_buckets_are_those_of_transformers(side: int, farthest: int, wanted: list[int]) -> None:
    assert log_buckets(side, farthest).tolist() == wanted


def test_debertas_buckets_that_make_no_sense_are_refused() -> None:
    for side, farthest in ((3, 9), (8, 5)):
        with pytest.raises(ValueError, match=f"{side} buckets on a side do not go with a distance of {farthest}"):
            log_buckets(side, farthest)


def test_slopes_are_those_of_transformers() -> None:
    """Which takes powers of a rounded number, so that its error grows with the head."""
    for heads, wanted in GOLDEN["slopes"].items():
        assert np.allclose(alibi_slopes(int(heads)), wanted, rtol=5e-6, atol=0), heads


def test_alibi_falls_with_the_distance_on_both_sides() -> None:
    bias = alibi_bias(4, 3, 2)
    assert bias.behind == 3
    assert np.array_equal(bias.elements, -alibi_slopes(4)[:, None] * np.float32([3, 2, 1, 0, 1, 2]))


def test_tables_lie_as_the_kernels_read_them() -> None:
    """Fifteen copies of the ends around distances; rows of a dense table to whole tiles."""
    by_distance = bucket_bias("table", 2, np.array([0, 1, 2]), 2)
    row = [0] * 16 + [2] + [4] * 16
    assert by_distance.table().tolist() == row + [element + 1 for element in row]
    dense = type(by_distance)(np.arange(2 * 3 * 17).reshape(2, 3, 17))
    assert dense.table().reshape(2, 3, 32)[:, :, :17].tolist() == dense.elements.tolist()
