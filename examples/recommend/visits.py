"""What users looked at, in order: from a CSV file, or made up.

A file has a line for each visit: user, item, time. The visits that are made up are those of readers of books: a reader
likes two genres, follows a series volume by volume, and now and then takes a single book that many like.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

GENRES = ("crime", "fantasy", "history", "horror", "poetry", "romance", "science", "travel")
SERIES_PER_GENRE, VOLUMES, SINGLES = 2, 5, 8
CONTINUES = 0.75  # how often a reader goes on with a series


def made_up(users: int, seed: int = 0) -> list[list[str]]:
    """The items of each user, in the order of the visits."""
    rng = random.Random(seed)
    return [_reader(rng) for _ in range(users)]


def _reader(rng: random.Random) -> list[str]:
    tastes = rng.sample(GENRES, 2)
    visits: list[str] = []
    for _ in range(rng.randint(3, 6)):
        genre = rng.choice(tastes)
        if rng.random() < 0.4:
            weights = [1 / (1 + number) for number in range(SINGLES)]
            [number] = rng.choices(range(SINGLES), weights)
            visits.append(f"{genre}-single-{number + 1}")
            continue
        series = rng.choice("ab"[:SERIES_PER_GENRE])
        for volume in range(1, VOLUMES + 1):
            visits.append(f"{genre}-{series}-volume-{volume}")
            if rng.random() > CONTINUES:
                break
    return list(dict.fromkeys(visits))  # nobody reads a book twice


def read_csv(path: Path) -> list[list[str]]:
    """The same from a file with the columns user, item and time; times compare as numbers where they are such."""
    visits: dict[str, list[tuple[float | str, str]]] = {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if not {"user", "item", "time"} <= set(rows.fieldnames or ()):
            raise SystemExit(f"{path}: the columns user, item and time are needed, not {rows.fieldnames}")
        for row in rows:
            item = "-".join(row["item"].split())  # the vocabulary is one of words
            visits.setdefault(row["user"], []).append((_number(row["time"]), item))
    return [[item for _, item in sorted(of_user)] for of_user in visits.values()]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
