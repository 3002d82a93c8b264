"""How token ids of many sequences become the rows of runs: parts of sequences, bounded runs, segments, page tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from .._kernels import core
from ..errors import InvalidInputError
from ..graph.domains import OUTPUTS, ROWS
from ..graph.graph import PASS, SEQUENCE, CacheSpec
from .cache import PageTable, first_pages, pages_of
from .program import Batch


def batch_of(
    caches: Sequence[CacheSpec],
    ids: Sequence[np.ndarray],
    positions: list[int],
    tables: Sequence[Mapping[str, PageTable]],
    num_outputs: Sequence[int],
    *,
    prefixes: list[int] | None = None,
    token_types: Sequence[np.ndarray] | None = None,
) -> Batch:
    """The run of the next rows of some sequences through a program with these caches.

    Parameters
    ----------
    caches : sequence of CacheSpec
    ids : sequence of int32 arrays [rows]
        The token ids of each sequence's rows.
    positions : list of int
        Of the first of them.
    tables : sequence of mapping of str to PageTable
        By cache name, of the caches that outlive the run, with room for the rows.
    num_outputs : sequence of int
        Results are asked for of so many of the last rows of each.
    prefixes : list of int, optional
        So many first positions of each sequence see one another both ways.
    token_types : sequence of int32 arrays [rows], optional
    """
    lengths = [len(own) for own in ids]
    segments, page_tables = {}, {}
    for spec in caches:
        begins = positions if spec.lifetime == SEQUENCE else [0] * len(ids)
        if spec.lifetime == PASS:
            pages, seen = first_pages(lengths), lengths
        else:
            own = [by_name[spec.name] for by_name in tables]
            pages, seen = [table.held[1] for table in own], [table.length for table in own]
            if own[0].window:  # spans begin where they did before pages were given back, so results do not change
                begins = [begin - table.first for begin, table in zip(begins, own, strict=True)]
                seen = [table.length - table.first for table in own]
        segments[spec.name, ROWS], page_tables[spec.name] = core.segment_rows(
            pages, lengths, begins, seen, prefixes if spec.lifetime == SEQUENCE else None
        )
    ends = zip(accumulate(lengths), num_outputs, strict=True)
    outputs = [row for end, count in ends for row in range(end - count, end)]
    indices = {
        "tokens": ids[0] if len(ids) == 1 else np.concatenate(ids),
        "positions": core.row_positions(positions, lengths),
        "output_rows": np.array(outputs, np.int32),
    }
    if token_types is not None:
        indices["token_types"] = np.concatenate(token_types)
    return Batch({ROWS: lengths, OUTPUTS: [len(outputs)]}, indices, segments, page_tables)


def asking(batch: Batch, asked: Sequence[np.ndarray]) -> Batch:
    """The same run, with results asked for of these rows of each part."""
    starts = [0, *accumulate(batch.lengths[ROWS])]
    rows = np.concatenate([start + some for start, some in zip(starts, asked, strict=False)])
    return replace(
        batch,
        lengths={**batch.lengths, OUTPUTS: [len(rows)]},
        indices={**batch.indices, "output_rows": rows.astype(np.int32)},
    )


def batch_of_samples(samples: Sequence[np.ndarray], source: str) -> Batch:
    """The run of samples [rows, width] or [height, width of the grid, width] as the float input `source`."""
    grids = np.array([[*sample.shape[:-1], 1][:2] for sample in samples], np.int32)
    rows = np.concatenate([sample.reshape(-1, sample.shape[-1]) for sample in samples])
    return Batch({ROWS: grids, OUTPUTS: []}, {}, {}, {}, {source: rows})


def rows_asked(outputs: str | int | Sequence[int], lengths: list[int]) -> list[int]:
    """How many of its last rows each feed is to give results of.

    Raises
    ------
    InvalidInputError
        There is not a number for each feed, or one is not within its rows.
    """
    if outputs == "last":
        return [1] * len(lengths)
    if outputs == "all":
        return lengths
    asked = [outputs] * len(lengths) if isinstance(outputs, int) else outputs
    if isinstance(asked, str) or len(asked) != len(lengths):
        raise InvalidInputError(f"outputs: 'last', 'all', a number of rows, or one for each of {len(lengths)} feeds")
    for feed, (count, length) in enumerate(zip(asked, lengths, strict=True)):
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 <= count <= length:
            raise InvalidInputError(f"outputs: feed {feed} has {length} rows, and {count!r} of them were asked for")
    return [int(count) for count in asked]


def cut_runs(
    lengths: Sequence[int],
    num_outputs: Sequence[int],
    max_rows: int,
    max_outputs: int,
    prefixes: Sequence[int] = (),
) -> list[list[tuple[int, int, int, int]]]:
    """(feed, begin, end, outputs) of each run's parts: feeds in order, within these bounds of a run.

    The outputs of a feed are its last rows; a part has those of them that lie in it. The rows of a feed's prefix, where
    there are `prefixes`, stand in one part.

    Raises
    ------
    InvalidInputError
        A prefix does not fit in a run.
    """
    if lengths and sum(lengths) <= max_rows and sum(num_outputs) <= max_outputs:  # as in nearly every step
        return [[(feed, 0, length, num_outputs[feed]) for feed, length in enumerate(lengths)]]
    runs: list[list[tuple[int, int, int, int]]] = [[]]
    rows, outputs = max_rows, max_outputs
    for feed, (length, asked) in enumerate(zip(lengths, num_outputs, strict=True)):
        begin, first = 0, length - asked  # the first row whose result is asked for
        prefix = prefixes[feed] if prefixes else 0
        if prefix > min(max_rows, max(0, first) + max_outputs):
            most = min(max_rows, max(0, first) + max_outputs)
            raise InvalidInputError(f"feeds[{feed}]: a prefix of {prefix} rows, of which one run takes {most} at most")
        while begin < length:
            end = min(length, begin + rows, max(begin, first) + outputs)
            if end > begin and (begin or end >= prefix):
                count = max(0, end - max(begin, first))
                runs[-1].append((feed, begin, end, count))
                rows, outputs, begin = rows - (end - begin), outputs - count, end
            if begin < length:
                runs.append([])
                rows, outputs = max_rows, max_outputs
    return [run for run in runs if run]


def whole_runs(lengths: Sequence[int], max_rows: int, max_pages: int) -> list[tuple[int, int]]:
    """Cuts a list of whole sequences into runs (begin, end) that keep to these bounds; a long one stands alone."""
    runs: list[tuple[int, int]] = []
    begin = rows = pages = 0
    for index, length in enumerate(lengths):
        need = pages_of(length)
        if index > begin and (rows + length > max_rows or pages + need > max_pages):
            runs.append((begin, index))
            begin, rows, pages = index, 0, 0
        rows, pages = rows + length, pages + need
    if lengths:
        runs.append((begin, len(lengths)))
    return runs


def runs_by_results(runs: list[tuple[int, int]], counts: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Cuts runs further, so that at most so many rows of results are asked for in one; a sequence is never cut."""
    cut: list[tuple[int, int]] = []
    for begin, end in runs:
        first, asked = begin, 0
        for index in range(begin, end):
            if index > first and asked + counts[index] > most:
                cut.append((first, index))
                first, asked = index, 0
            asked += counts[index]
        cut.append((first, end))
    return cut
