"""How token ids of many sequences become the rows of runs: parts of sequences, bounded runs, segments, page tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .._kernels import core
from ..errors import InvalidInputError
from ..graph.domains import OUTPUTS, ROWS
from ..graph.graph import PASS, SEQUENCE, CacheSpec
from .cache import PageTable, first_pages, pages_of
from .program import Batch


class Part(NamedTuple):
    """The rows that one sequence has in a run: its next token ids, with room for them in its page tables."""

    ids: np.ndarray  # int32 [rows]
    position: int  # of the first row
    tables: Mapping[str, PageTable]  # by cache name, of those that outlive the run
    num_outputs: int = 0  # results are asked for of so many of the last rows
    token_types: np.ndarray | None = None
    prefix: int = 0  # so many first positions of the sequence see one another both ways


def batch_of(parts: Sequence[Part], caches: Sequence[CacheSpec]) -> Batch:
    """The run of these parts through a program with these caches."""
    lengths, positions = [len(part.ids) for part in parts], [part.position for part in parts]
    segments, page_tables = {}, {}
    for spec in caches:
        begins = positions if spec.lifetime == SEQUENCE else [0] * len(parts)
        if spec.lifetime == PASS:
            pages, seen = first_pages(lengths), lengths
        else:
            tables = [part.tables[spec.name] for part in parts]
            pages, seen = [table.pages for table in tables], [table.length for table in tables]
            if any(table.first for table in tables):  # spans begin where they did, so results do not change
                begins = [begin - table.first for begin, table in zip(begins, tables, strict=True)]
                seen = [table.length - table.first for table in tables]
        prefixes = [part.prefix for part in parts] if spec.lifetime == SEQUENCE else None
        segments[spec.name, ROWS], page_tables[spec.name] = core.segment_rows(pages, lengths, begins, seen, prefixes)
    ends = zip(parts, accumulate(lengths), strict=True)
    outputs = [row for part, end in ends for row in range(end - part.num_outputs, end)]
    indices = {
        "tokens": parts[0].ids if len(parts) == 1 else np.concatenate([part.ids for part in parts]),
        "positions": core.row_positions(positions, lengths),
        "output_rows": np.array(outputs, np.int32),
    }
    if parts[0].token_types is not None:
        indices["token_types"] = np.concatenate([part.token_types for part in parts])
    return Batch({ROWS: lengths, OUTPUTS: [len(outputs)]}, indices, segments, page_tables)


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
