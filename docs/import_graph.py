"""Draws which floor of the package imports which: docs/import-graph.svg, floors from the command line down.

    python docs/import_graph.py            draw
    python docs/import_graph.py --check    exit status 1 if the drawing is not what the tree gives

tests/test_house.py reads the imports, and its test holds that none goes up. Here such an import is an error, so no such
arrow is ever drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.test_house import FLOORS, floor_of, imported_modules, source_modules  # noqa: E402

PICTURE = ROOT / "docs" / "import-graph.svg"
BESIDE = "converters"  # stands beside the models: drawn above them
COMPILED = "_kernels"
BOX_WIDTH, BOX_HEIGHT, ROW, TOP = 540, 26, 38, 46
COLUMN = 24  # between the lines of two floors
MOST_CHARACTERS = 78
COLOURS = ("#2a7f62", "#b5482f", "#3b5fa8", "#8a5a00", "#7a3f9a", "#5f6b76")


def order() -> list[str]:
    """The floors that hold modules, top first, the compiled module last."""
    held = {floor_of(parts) for _, parts in source_modules()}
    floors = [floor for floor in FLOORS if floor in held]
    floors.insert(floors.index("models") + 1, BESIDE)
    return [*reversed(floors), COMPILED]


def arrows() -> Counter[tuple[str, str]]:
    """(importing floor, imported floor) with the number of modules that import."""
    found: Counter[tuple[str, str]] = Counter()
    for path, parts in source_modules():
        mine = floor_of(parts)
        theirs = {target[0] if target[0] in (*FLOORS, BESIDE, COMPILED) else "face"
                  for target in imported_modules(path, parts[:-1])}  # fmt: skip
        found.update((mine, floor_of((floor,))) for floor in theirs - {mine})
    return Counter(dict(sorted(pair for pair in found.items() if pair[0][0] != pair[0][1])))


def modules(floor: str) -> str:
    """The names of a floor's modules, as many as fit."""
    names = [parts[-1] for _, parts in source_modules() if floor_of(parts) == floor]
    names = list(dict.fromkeys(name for name in names if name != "__init__")) or names
    text = " ".join(names)
    return text if len(text) <= MOST_CHARACTERS else text[: text.rindex(" ", 0, MOST_CHARACTERS - 2)] + " …"


def box(floor: str, y: int, width: int) -> list[str]:
    """A floor, and the light line on which the arrows to it end."""
    middle = y + BOX_HEIGHT / 2
    return [
        f'<path d="M10 {middle}H{width - 10}" stroke="#dde3e1"/>',
        f'<rect x="10" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4" fill="#eef3f1" stroke="#2a7f62"/>',
        f'<text x="18" y="{y + 17}" font-weight="bold">{floor}</text>',
        f'<text x="100" y="{y + 17}" fill="#333" font-size="10">{modules(floor)}</text>',
    ]


def column(x: int, start: float, ends: dict[float, int], colour: str) -> list[str]:
    """The line down from a floor that imports, an arrow and the number of modules at each floor that it imports."""
    parts = [
        f'<path d="M{x} {start}V{max(ends)}" stroke="{colour}"/><circle cx="{x}" cy="{start}" r="3" fill="{colour}"/>'
    ]
    for end, count in ends.items():
        parts.append(f'<path d="M{x} {end}l-4 -8h8z" fill="{colour}"/>')
        parts.append(f'<text x="{x + 5}" y="{end - 3}" font-size="8" fill="{colour}">{count}</text>')
    return parts


def draw() -> str:
    """The picture.

    Raises
    ------
    SystemExit
        An import goes up.
    """
    floors, found = order(), arrows()
    place = {floor: number for number, floor in enumerate(floors)}
    upward = [f"{above} imports {below}" for above, below in found if place[below] <= place[above]]
    if upward:
        raise SystemExit("an import goes up: " + ", ".join(upward))
    sources = [floor for floor in floors if any(above == floor for above, _ in found)]
    middles = {floor: TOP + ROW * number + BOX_HEIGHT / 2 for floor, number in place.items()}
    width, height = 20 + BOX_WIDTH + COLUMN * (len(sources) + 1), TOP + ROW * len(floors)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="10" y="18" font-size="14">What imports what: every arrow goes down</text>',
        '<text x="10" y="34" fill="#5f6b76">A line starts at the dot of a floor that imports. '
        "It has an arrow at each floor that it imports, with the number of modules that do.</text>",
    ]
    for floor in floors:
        parts += box(floor, TOP + ROW * place[floor], width)
    for number, floor in enumerate(sources):
        ends = {middles[below]: count for (above, below), count in found.items() if above == floor}
        parts += column(10 + BOX_WIDTH + COLUMN * (number + 1), middles[floor], ends, COLOURS[number % len(COLOURS)])
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Draw, or compare."""
    parser = argparse.ArgumentParser(description="Draw which floor of the package imports which.")
    parser.add_argument("--check", action="store_true", help="only say whether the drawing is what the tree gives")
    if not parser.parse_args().check:
        PICTURE.write_text(draw())
    elif not PICTURE.exists() or PICTURE.read_text() != draw():
        raise SystemExit(f"{PICTURE.relative_to(ROOT)} is old: python docs/import_graph.py draws it again")


if __name__ == "__main__":
    main()
