"""The data behind the demo's model: what it promises, checked without the model."""

from __future__ import annotations

import datetime
import importlib.util
import json
import re
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "runtime" / "tools" / "demo"


@pytest.fixture(scope="module")
def dates() -> ModuleType:
    path = ROOT / "bench" / "train_dates" / "dates.py"
    if not path.exists():
        pytest.skip("needs bench/, which only the repository has")
    spec = importlib.util.spec_from_file_location("train_dates_dates", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stream(dates: ModuleType) -> list[tuple[str, str]]:
    return list(islice(dates.examples(3), 20_000))


def read_numbers(text: str) -> datetime.date | None:
    """The stated rules, written again: three numbers -> a date; None for anything else."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if re.search(r"[^\W\d_]|'", text) or len(numbers) != 3:
        return None
    if numbers[0] > 31 or re.match(r"\s*\d{4}", text):
        year, month, day = numbers
    elif numbers[1] > 12:
        month, day, year = numbers
    else:
        day, month, year = numbers
    if year < 100:
        year += 2000 if year <= 68 else 1900
    return datetime.date(year, month, day)


def test_a_seed_always_gives_the_same_stream(dates: ModuleType) -> None:
    assert list(islice(dates.examples(5), 100)) == list(islice(dates.examples(5), 100))
    assert list(islice(dates.examples(5), 100)) != list(islice(dates.examples(6), 100))


def test_answers_are_real_dates_of_the_stated_years(dates: ModuleType, stream: list[tuple[str, str]]) -> None:
    years = {datetime.date.fromisoformat(date).year for _, date in stream}
    assert min(years) >= dates.FIRST_YEAR and max(years) <= dates.LAST_YEAR
    assert len(years) == 200


def test_dates_in_digits_follow_the_stated_rules(stream: list[tuple[str, str]]) -> None:
    readings = [(read_numbers(text), date) for text, date in stream]
    checked = [(reading.isoformat(), date) for reading, date in readings if reading is not None]
    assert len(checked) > 3000
    assert all(reading == date for reading, date in checked)


def test_dates_with_a_month_name_hold_their_day_and_year(stream: list[tuple[str, str]]) -> None:
    for text, date in stream:
        numbers = re.findall(r"\d+", text)
        if len(numbers) == 2:
            year, _, day = date.split("-")
            assert {int(number) for number in numbers} <= {int(day), int(year), int(year) % 100}, text


def test_one_string_never_means_two_dates(dates: ModuleType, stream: list[tuple[str, str]]) -> None:
    meaning: dict[str, str] = {}
    for text, date in stream:
        assert meaning.setdefault(dates.held_out_key(text), date) == date, text


def test_a_slip_never_makes_another_month(dates: ModuleType) -> None:
    months_of = {}
    for language in dates.LANGUAGES.values():
        for names in (language.months, language.short_months):
            for month, name in enumerate(names, 1):
                months_of.setdefault(name.lower(), set()).add(month)
    for name, slips in dates.TYPOS.items():
        for slip in slips:
            assert abs(len(slip) - len(name)) <= 1
            if slip in months_of and name in months_of:
                assert months_of[slip] == months_of[name]


def test_training_leaves_out_what_is_held_out(dates: ModuleType) -> None:
    kept_out = {dates.held_out_key(text) for part in dates.held_out() for text, _ in part}
    unfiltered = {dates.held_out_key(text) for text, _ in islice(dates.examples(dates.TRAINING_SEED), 30_000)}
    assert unfiltered & kept_out, "the filter would have nothing to do"
    assert not kept_out & {dates.held_out_key(text) for text, _ in islice(dates.training_examples(), 30_000)}


def test_the_shipped_samples_are_held_out_ones(dates: ModuleType) -> None:
    shipped = [tuple(pair) for pair in json.loads((DEMO / "samples.json").read_text(encoding="utf-8"))]
    _, test = dates.held_out()
    assert shipped == test[: len(shipped)] and len(shipped) == 1000


def test_the_shipped_vocabularies_cover_the_data(dates: ModuleType, stream: list[tuple[str, str]]) -> None:
    source = (DEMO / "source_vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    target = (DEMO / "target_vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert source == [*dates.SPECIAL_TOKENS, *dates.source_characters()]
    assert target == [*dates.SPECIAL_TOKENS, *dates.TARGET_CHARACTERS]
    assert {character for text, _ in stream for character in text} <= set(source)


def test_the_checkpoint_is_small() -> None:
    assert (DEMO / "dates.pt").stat().st_size < 1_000_000
