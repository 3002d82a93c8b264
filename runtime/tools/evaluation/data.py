"""Labelled data: CSV, TSV and JSON Lines, and for perplexity plain text."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError, InvalidOptionError, quote

__all__ = ["COLUMNS", "read_rows"]

# The columns that each task needs, and after them those that it may have.
COLUMNS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "generate": (("text",), ()),
    "translate": (("source", "target"), ()),
    "encode": (("sentence1", "sentence2", "score"), ()),
    "classify": (("text", "label"), ("text_pair",)),
}

Data = str | os.PathLike[str] | Sequence[Mapping[str, Any]]


def read_rows(data: Data, task: str, columns: Mapping[str, str] | None, limit: int | None) -> list[dict[str, Any]]:
    """The rows of `data`, with the columns of `task` under their own names.

    Parameters
    ----------
    data : path or sequence of mappings
        ``.csv``, ``.tsv``, ``.jsonl``, or ``.txt``, which is one text; or the rows themselves.
    task : str
    columns : mapping, optional
        What a column is called in the data, by the name that the task has for it.
    limit : int, optional
        Rows at most.

    Raises
    ------
    InvalidInputError
        The file is not there or is damaged, a column is missing, or there is no row.
    InvalidOptionError
        `columns` names something that the task does not have.
    """
    needed, optional = COLUMNS[task]
    renamed = dict(columns or {})
    for name in renamed:
        if name not in needed + optional:
            raise InvalidOptionError(f"columns: {task} has {', '.join(needed + optional)}, not {quote(name)}")
    rows: list[dict[str, Any]] = []
    for place, row in _entries(data):
        if limit is not None and len(rows) == limit:
            break
        named = {name: row.get(renamed.get(name, name)) for name in needed + optional}
        for name in needed:
            if named[name] is None or (not isinstance(named[name], str) and name not in ("score", "label")):
                there = ", ".join(map(str, row)) or "nothing"
                raise InvalidInputError(f"{place}: no {quote(renamed.get(name, name))} for {task}; it has {there}")
        rows.append({**named, "place": place})
    if not rows:
        raise InvalidInputError("data: there are no rows")
    return rows


def _entries(data: Data) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row with the place it stands at."""
    if not isinstance(data, (str, os.PathLike)):
        for index, row in enumerate(data):
            if not isinstance(row, Mapping):
                raise InvalidInputError(f"data[{index}]: a dict is needed, not {quote(row)}")
            yield f"data[{index}]", row
        return
    path = Path(data)
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".jsonl", ".txt"):
        raise InvalidInputError(f"{path}: data come as .csv, .tsv, .jsonl or .txt")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if kind == ".txt":
                yield str(path), {"text": file.read()}
            elif kind == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield f"{path}, line {number}", _object(line, f"{path}, line {number}")
            else:
                reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=True)
                for row in reader:
                    yield f"{path}, line {reader.line_num}", {key: row[key] for key in row if key is not None}
    except OSError as error:
        raise InvalidInputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _object(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{place}: no JSON: {error}") from error
    if not isinstance(row, dict):
        raise InvalidInputError(f"{place}: an object is needed, not {quote(row)}")
    return row
