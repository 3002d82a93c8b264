"""Made-up dates in many spellings, with their ISO 8601 form: the training data of the demo's model.

Everything here is generated: there is no outside data. `examples(seed)` is an endless, deterministic stream;
`held_out` gives the pairs kept for checking, and `training_examples` everything else.

Rules for what the digits alone do not say:

* numbers without a month name are **day first**, unless the second number cannot be a month (``3/25/1997``
  is 25 March) or the first number has four digits (then year, month, day);
* a year of two digits, ``00`` to ``68``, is 2000 to 2068, and ``69`` to ``99`` is 1969 to 1999 (POSIX ``strptime``);
* a weekday in front is not checked against the date.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from dataclasses import dataclass

FIRST_YEAR, LAST_YEAR = 1900, 2099
FIRST_SHORT_YEAR, LAST_SHORT_YEAR = 1969, 2068  # the years that two digits can name
SPECIAL_TOKENS = ("<blank>", "<s>", "</s>", "<unk>")
TARGET_CHARACTERS = "0123456789-"
ROMAN_MONTHS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
MINIMUM_TYPO_LENGTH = 5  # shorter names are too easily another month

HELD_OUT_SEED, TRAINING_SEED = 20240229, 7
NUM_VALIDATION, NUM_TEST = 500, 5000

KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Language:
    """How one language writes dates.

    Patterns take ``{d}`` day, ``{o}`` ordinal day, ``{m}`` month name, ``{y}`` year; a weekday may be put before any.
    """

    months: tuple[str, ...]
    short_months: tuple[str, ...]
    weekdays: tuple[str, ...]
    patterns: tuple[str, ...]
    ordinal: str = "{d}"


LANGUAGES = {
    "en": Language(
        months=_words("January February March April May June July August September October November December"),
        short_months=_words("Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec"),
        weekdays=_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        patterns=(
            "{d} {m} {y}",
            "{m} {d}, {y}",
            "{m} {d} {y}",
            "{o} {m} {y}",
            "{o} of {m} {y}",
            "the {o} of {m}, {y}",
            "{m} {o}, {y}",
            "{m} the {o}, {y}",
            "the {o} of {m} {y}",
            "{d}-{m}-{y}",
            "{d} {m}, {y}",
            "{d}/{m}/{y}",
            "{m}. {d}, {y}",
            "{d}{m}{y}",
            "{m} {d} '{s}",
            "{d} {m} '{s}",
            "on {m} {d}, {y}",
            "{d}. {m}. {y}",
        ),
        ordinal="{d}{suffix}",
    ),
    "de": Language(
        months=_words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember"),
        short_months=_words("Jan Feb Mrz Apr Mai Jun Jul Aug Sep Okt Nov Dez"),
        weekdays=_words("Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
        patterns=("{o} {m} {y}", "{o} {m} {y}", "den {o} {m} {y}", "am {o} {m} {y}", "{d} {m} {y}", "{o}{m}.{y}"),
        ordinal="{d}.",
    ),
    "fr": Language(
        months=_words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre"),
        short_months=_words("janv févr mars avr mai juin juil août sept oct nov déc"),
        weekdays=_words("lundi mardi mercredi jeudi vendredi samedi dimanche"),
        patterns=("{o} {m} {y}", "{d} {m} {y}", "le {o} {m} {y}", "{d} {m}. {y}"),
        ordinal="{d}{first}",
    ),
    "es": Language(
        months=_words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"),
        short_months=_words("ene feb mar abr may jun jul ago sept oct nov dic"),
        weekdays=_words("lunes martes miércoles jueves viernes sábado domingo"),
        patterns=("{d} de {m} de {y}", "el {d} de {m} de {y}", "{d} {m} {y}", "{d} de {m} del {y}", "{m} {d}, {y}"),
    ),
    "it": Language(
        months=_words("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre"),
        short_months=_words("gen feb mar apr mag giu lug ago set ott nov dic"),
        weekdays=_words("lunedì martedì mercoledì giovedì venerdì sabato domenica"),
        patterns=("{d} {m} {y}", "il {d} {m} {y}", "{o} {m} {y}"),
        ordinal="{d}º",
    ),
    "pt": Language(
        months=_words("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro"),
        short_months=_words("jan fev mar abr mai jun jul ago set out nov dez"),
        weekdays=_words("segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo"),
        patterns=("{d} de {m} de {y}", "em {d} de {m} de {y}", "{d} {m} {y}", "{o} de {m} de {y}"),
        ordinal="{d}º",
    ),
    "nl": Language(
        months=_words("januari februari maart april mei juni juli augustus september oktober november december"),
        short_months=_words("jan feb mrt apr mei jun jul aug sept okt nov dec"),
        weekdays=_words("maandag dinsdag woensdag donderdag vrijdag zaterdag zondag"),
        patterns=("{d} {m} {y}", "op {d} {m} {y}", "de {o} {m} {y}", "{d}-{m}-{y}"),
        ordinal="{d}e",
    ),
    "pl": Language(
        months=_words(
            "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia"
        ),
        short_months=_words("sty lut mar kwi maj cze lip sie wrz paź lis gru"),
        weekdays=_words("poniedziałek wtorek środa czwartek piątek sobota niedziela"),
        patterns=("{d} {m} {y}", "{d} {m} {y} r.", "{d} {m} {y} roku", "dnia {d} {m} {y}"),
    ),
    "sv": Language(
        months=_words("januari februari mars april maj juni juli augusti september oktober november december"),
        short_months=_words("jan feb mars apr maj juni juli aug sept okt nov dec"),
        weekdays=_words("måndag tisdag onsdag torsdag fredag lördag söndag"),
        patterns=("{d} {m} {y}", "den {d} {m} {y}", "den {o} {m} {y}"),
        ordinal="{d}:e",
    ),
}
LANGUAGE_NAMES = tuple(LANGUAGES)
LANGUAGE_WEIGHTS = (8, 3, 3, 3, 3, 3, 2, 2, 2)

PLAIN_LETTERS = str.maketrans("áàâãäåąçćéèêëęíìîïłńñóòôõöśúùûüźżì", "aaaaaaacceeeeeiiiilnnooooosuuuuzzi")


def one_typo(name: str) -> list[str]:
    """All spellings of `name` with one slip: two letters swapped, one dropped, doubled, or a neighbouring key."""
    spellings = []
    for i, letter in enumerate(name):
        spellings += [name[:i] + name[i + 1 :], name[:i] + letter + name[i:]]
        if i + 1 < len(name):
            spellings.append(name[:i] + name[i + 1] + letter + name[i + 2 :])
        for row in KEYBOARD_ROWS:
            at = row.find(letter)
            if at >= 0:
                neighbours = row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
                spellings += [name[:i] + near + name[i + 1 :] for near in neighbours]
    return sorted(set(spellings) - {name})


def _month_spellings() -> dict[str, set[int]]:
    """Every right spelling (lower case) of every month in every language -> the months it may name."""
    spellings: dict[str, set[int]] = {}
    for language in LANGUAGES.values():
        for names in (language.months, language.short_months):
            for month, name in enumerate(names, 1):
                for spelling in (name.lower(), name.lower().translate(PLAIN_LETTERS)):
                    spellings.setdefault(spelling, set()).add(month)
    return spellings


def _unambiguous_typos() -> dict[str, list[str]]:
    """Long month name (lower case) -> its one-slip spellings that could not be, or be a slip of, another month."""
    right = _month_spellings()
    meanings = {spelling: set(months) for spelling, months in right.items()}
    for name, months in right.items():
        if len(name) >= MINIMUM_TYPO_LENGTH:
            for typo in one_typo(name):
                meanings.setdefault(typo, set()).update(months)
    return {
        name: [typo for typo in one_typo(name) if len(meanings[typo]) == 1]
        for name in right
        if len(name) >= MINIMUM_TYPO_LENGTH
    }


TYPOS = _unambiguous_typos()


def source_characters() -> str:
    """The characters that generated dates are made of, in code point order."""
    characters = set("0123456789 /.,-'º:") | set("abcdefghijklmnopqrstuvwxyz")
    for language in LANGUAGES.values():
        for text in (*language.months, *language.short_months, *language.weekdays):
            characters |= set(text.lower())
    return "".join(sorted(characters | {upper for c in characters for upper in c.upper()}))


def english_suffix(day: int) -> str:
    """``st``, ``nd``, ``rd`` or ``th``."""
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def random_date(rng: random.Random) -> datetime.date:
    """Half of the dates lie anywhere in 1900 to 2099, half in 1950 to 2035."""
    first, last = (FIRST_YEAR, LAST_YEAR) if rng.random() < 0.5 else (1950, 2035)
    start = datetime.date(first, 1, 1).toordinal()
    return datetime.date.fromordinal(rng.randint(start, datetime.date(last, 12, 31).toordinal()))


def _year(rng: random.Random, date: datetime.date) -> str:
    short = FIRST_SHORT_YEAR <= date.year <= LAST_SHORT_YEAR and rng.random() < 0.2
    return f"{date.year % 100:02d}" if short else str(date.year)


def _numeric(rng: random.Random, date: datetime.date) -> str:
    """Digits only; month first is written only where it cannot be read as day first."""
    digits = "02d" if rng.random() < 0.5 else "d"
    day, month, year = format(date.day, digits), format(date.month, digits), str(date.year)
    separator = rng.choice(["/", "/", ".", ".", "-", "-", " ", " / ", ". ", ", "])
    style = rng.random()
    if style < 0.06:
        return f"{date.year}{date.month:02d}{date.day:02d}"
    if style < 0.36:
        return separator.join((year, month, day))
    if style < 0.44:
        return separator.join((day, ROMAN_MONTHS[date.month - 1], year))
    year = _year(rng, date)
    if date.day > 12 and rng.random() < 0.5:
        return separator.join((month, day, year))
    return separator.join((day, month, year))


def _month_name(rng: random.Random, language: Language, month: int) -> str:
    """A full or short name: sometimes with a slip, sometimes without its accents, in some mixture of cases."""
    name = (language.months if rng.random() < 0.65 else language.short_months)[month - 1]
    if rng.random() < 0.15:
        name = name.lower().translate(PLAIN_LETTERS)
    slips = TYPOS.get(name.lower())
    if slips and rng.random() < 0.25:
        slip = rng.choice(slips)
        name = slip.capitalize() if name[0].isupper() else slip
    return name.capitalize() if rng.random() < 0.15 else name


def _written(rng: random.Random, date: datetime.date) -> str:
    """A date with its month's name."""
    language = LANGUAGES[rng.choices(LANGUAGE_NAMES, LANGUAGE_WEIGHTS)[0]]
    day = f"{date.day:02d}" if rng.random() < 0.15 else str(date.day)
    month = _month_name(rng, language, date.month)
    if rng.random() < 0.08:
        return rng.choice(["{y} {m} {d}", "{y}-{m}-{d}", "{y}, {m} {d}"]).format(y=date.year, m=month, d=day)
    pattern = rng.choice(language.patterns)
    if "{s}" in pattern and not FIRST_SHORT_YEAR <= date.year <= LAST_SHORT_YEAR:
        pattern = pattern.replace("'{s}", "{y}")
    ordinal = language.ordinal.format(d=date.day, suffix=english_suffix(date.day), first="er" if date.day == 1 else "")
    text = pattern.format(d=day, o=ordinal, m=month, y=_year(rng, date), s=f"{date.year % 100:02d}")
    if rng.random() < 0.2:
        weekday = language.weekdays[date.weekday()]
        if language is LANGUAGES["en"] and rng.random() < 0.4:
            weekday = weekday[:3]
        text = weekday + rng.choice([", ", " ", ", ", ". "]) + text
    return text


def _blemish(rng: random.Random, text: str) -> str:
    """Careless typing: cases, missing commas and full stops, doubled and outer spaces."""
    chance = rng.random()
    if chance < 0.12:
        text = text.lower()
    elif chance < 0.24:
        text = text.upper()
    if "," in text and rng.random() < 0.2:
        text = text.replace(",", "", 1) if ", " in text else text.replace(",", " ", 1)
    if rng.random() < 0.05:
        text = text.replace(" ", "  ", 1)
    if rng.random() < 0.05:
        text = rng.choice([" " + text, text + " ", text + "."])
    return text


def examples(seed: int) -> Iterator[tuple[str, str]]:
    """Yield (spelling, ISO date) without end; the same seed gives the same stream.

    The stream may repeat itself: callers that need distinct strings keep a set.
    """
    rng = random.Random(seed)
    while True:
        date = random_date(rng)
        text = _numeric(rng, date) if rng.random() < 0.3 else _written(rng, date)
        yield _blemish(rng, text), date.isoformat()


def held_out_key(text: str) -> str:
    """What two spellings share when one in training would give the other away."""
    return " ".join(text.casefold().split())


def held_out() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(validation, test): pairs that differ in more than case and spaces and that training never sees."""
    chosen: dict[str, tuple[str, str]] = {}
    for text, date in examples(HELD_OUT_SEED):
        chosen.setdefault(held_out_key(text), (text, date))
        if len(chosen) == NUM_VALIDATION + NUM_TEST:
            break
    pairs = list(chosen.values())
    return pairs[:NUM_VALIDATION], pairs[NUM_VALIDATION:]


def training_examples() -> Iterator[tuple[str, str]]:
    """The endless training stream, without what is held out."""
    kept_out = {held_out_key(text) for part in held_out() for text, _ in part}
    return (pair for pair in examples(TRAINING_SEED) if held_out_key(pair[0]) not in kept_out)
