"""How token ids of many sequences become the rows of runs: bounded chunks, segments and page tables."""

from __future__ import annotations

import numpy as np

from .._kernels import core
from .cache import PAGE, PageTable


def segments(
    tables: list[PageTable], lengths: list[int], positions: list[int], kv_lengths: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The ef_segment rows of one cache, and its page table."""
    return core.segment_rows([table.pages for table in tables], lengths, positions, kv_lengths)


def chunks(lengths: list[int], limit: int) -> list[list[tuple[int, int, int]]]:
    """(feed, begin, end) of each run's parts: feeds in order, at most `limit` rows a run."""
    runs: list[list[tuple[int, int, int]]] = [[]]
    room = limit
    for index, length in enumerate(lengths):
        begin = 0
        while begin < length:
            if room == 0:
                runs.append([])
                room = limit
            end = min(length, begin + room)
            runs[-1].append((index, begin, end))
            room -= end - begin
            begin = end
    return runs


def groups(lengths: list[int], max_rows: int, max_pages: int) -> list[tuple[int, int]]:
    """Cuts whole sequences into runs (begin, end) that keep to these bounds; a long one stands alone."""
    runs: list[tuple[int, int]] = []
    begin = rows = pages = 0
    for index, length in enumerate(lengths):
        need = -(-length // PAGE)
        if index > begin and (rows + length > max_rows or pages + need > max_pages):
            runs.append((begin, index))
            begin, rows, pages = index, 0, 0
        rows, pages = rows + length, pages + need
    if lengths:
        runs.append((begin, len(lengths)))
    return runs
