"""Rows of `edgeformer bench` in llama-bench's formats, each printed when it is known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from enum import Enum
from typing import Any

from .output import human_bytes, print_json

SAMPLES = ("samples_ns", "samples_ts")  # lists: in JSON alone, as llama-bench does
SQL_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT"}


class Format(str, Enum):
    """How to print the rows."""

    md = "md"
    csv = "csv"
    json = "json"
    jsonl = "jsonl"
    sql = "sql"


def print_rows(rows: Iterable[dict[str, Any]], output: Format, asked: list[str]) -> None:
    """Print `rows`; `asked` names the fields that a table has because the caller set them."""
    if output is Format.json:
        print_json(list(rows))
        return
    for index, row in enumerate(rows):
        if output is Format.jsonl:
            print(json.dumps(row, ensure_ascii=False), flush=True)
            continue
        head, line = {Format.md: markdown, Format.csv: comma_separated, Format.sql: sql}[output](row, asked)
        print(line if index else f"{head}\n{line}", flush=True)


def markdown(row: dict[str, Any], asked: list[str]) -> tuple[str, str]:
    """The heading of llama-bench's table, with percentiles, and its line for `row`."""
    peak = row["peak_memory_bytes"]
    cells = {
        "model": row["model_type"],
        "size": human_bytes(row["model_size"]),
        "params": f"{row['model_n_params'] / 1e6:.2f} M",
        "isa": row["isa"],
        "threads": str(row["n_threads"]),
        **{name: str(row[name]) for name in asked},
        "test": row["test"],
        "t/s": f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}",
        **{f"p{p} ms": f"{row[f'p{p}_ms']:.3f}" for p in (50, 90, 99)},
        "peak memory": "" if peak is None else human_bytes(peak),
    }
    rule = ("---" if name in ("model", "isa", "test") else "---:" for name in cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in (cells, rule)), f"| {' | '.join(cells.values())} |"


def comma_separated(row: dict[str, Any], asked: list[str]) -> tuple[str, str]:
    """The heading of CSV and the line of `row`."""
    values = _scalars(row)
    return _csv_line(values), _csv_line(values.values())


def _csv_line(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def sql(row: dict[str, Any], asked: list[str]) -> tuple[str, str]:
    """A statement that makes llama-bench's table in SQLite, and one that puts `row` in."""
    values = _scalars(row)
    columns = ",\n".join(f"  {name} {SQL_TYPES.get(type(value), 'INTEGER')}" for name, value in values.items())
    table = f"CREATE TABLE IF NOT EXISTS llama_bench (\n{columns}\n);\n"
    literals = ", ".join("NULL" if value is None else _quoted(value) for value in values.values())
    return table, f"INSERT INTO llama_bench ({', '.join(values)}) VALUES ({literals});"


def _quoted(value: object) -> str:
    text = str(value).replace("'", "''")
    return f"'{text}'"


def _scalars(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of one value, truth as 0 or 1."""
    return {
        name: int(value) if isinstance(value, bool) else value for name, value in row.items() if name not in SAMPLES
    }
