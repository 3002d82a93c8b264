"""From lists of ids and pages to the arrays of a run."""

from __future__ import annotations

import numpy as np
import pytest
from edgeformer._kernels import core
from edgeformer.engine.batching import runs_by_results
from edgeformer.errors import InvalidInputError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda ids: np.array(ids, np.uint8), iter])
def test_token_ids_of_any_list_of_integers(make):
    ids = core.token_ids(make([3, 0, 9]), 10)
    assert (ids.dtype, ids.tolist()) == (np.int32, [3, 0, 9])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "no token ids"),
        ([0, 10], "token id 10 is outside the vocabulary 0..9"),
        ([-1], "token id -1 is outside"),
        ([2**80], "integers"),
        ([1.5], "integers"),
        (["1"], "integers"),
        ([None], "integers"),
        (7, "integers"),
        (np.array(7), "integers"),
        (np.array([[1, 2]]), "integers"),
        (np.array([1.0]), "integers"),
    ],
)
def test_what_is_no_list_of_token_ids_is_refused(ids, message):
    with pytest.raises(InvalidInputError, match=message):
        core.token_ids(ids, 10)


parts = st.tuples(st.lists(st.integers(0, 99), max_size=5), st.integers(0, 6), st.integers(0, 50), st.integers(0, 60))


@given(st.lists(parts, max_size=6))
def test_rows_of_several_sequences(sequences):
    tables, lengths, positions, kv_lengths = map(list, zip(*sequences, strict=True)) if sequences else ([], [], [], [])
    segments, pages = core.segment_rows(tables, lengths, positions, kv_lengths)
    assert pages.tolist() == [page for table in tables for page in table]
    assert segments.tolist() == [
        [sum(lengths[:i]), lengths[i], positions[i], kv_lengths[i], sum(map(len, tables[:i])), 0]
        for i in range(len(sequences))
    ]
    prefixes = list(range(len(sequences)))
    assert core.segment_rows(tables, lengths, positions, kv_lengths, prefixes)[0][:, 5].tolist() == prefixes
    expected = [start + i for start, length in zip(positions, lengths, strict=True) for i in range(length)]
    assert core.row_positions(positions, lengths).tolist() == expected


def test_sequences_that_lack_something_are_refused():
    with pytest.raises(InvalidInputError):
        core.segment_rows([[1], [2]], [1], [0], [1])
    with pytest.raises(InvalidInputError):
        core.segment_rows([[1]], [1], [0], [1], [1, 1])
    with pytest.raises(InvalidInputError):
        core.row_positions([0, 0], [5, -3])
    with pytest.raises(ValueError):
        core.row_positions([0], [5, 3])


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), min_size=1), st.integers(1, 12))
def test_runs_are_cut_where_results_are_too_many(parts: list[tuple[int, int]], most: int) -> None:
    counts = [count for length, count in parts for _ in range(length)]
    ends = np.cumsum([length for length, _ in parts]).tolist()
    cut = runs_by_results(list(zip([0, *ends], ends, strict=False)), counts, most)
    assert [index for begin, end in cut for index in range(begin, end)] == list(range(len(counts)))
    for begin, end in cut:
        assert sum(counts[begin:end]) <= most or end - begin == 1
        assert not any(begin < edge < end for edge in ends)
