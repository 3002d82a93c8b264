"""Notes as words: how long since the note before began, how high, how long. All lengths are sixteenths of a bar.

``w4 p60 l4`` is a middle C of a quarter that begins a quarter after the note before; without ``w`` it begins together
with that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LOWEST, HIGHEST, LONGEST = 36, 96, 16
WORDS = [
    *(f"w{wait}" for wait in range(1, LONGEST + 1)),
    *(f"p{pitch}" for pitch in range(LOWEST, HIGHEST + 1)),
    *(f"l{length}" for length in range(1, LONGEST + 1)),
]


@dataclass(frozen=True)
class Note:
    """A note: MIDI's number of its pitch, when it begins and how long it is, in sixteenths."""

    pitch: int
    begin: int
    length: int


def to_words(notes: Iterable[Note]) -> list[str]:
    """The words of notes, which may come in any order; octaves that are too high or too low are moved."""
    words: list[str] = []
    before: int | None = None
    for note in sorted(notes, key=lambda note: (note.begin, note.pitch)):
        wait = 0 if before is None else min(note.begin - before, LONGEST)
        before = note.begin
        pitch = note.pitch
        while not LOWEST <= pitch <= HIGHEST:
            pitch += 12 if pitch < LOWEST else -12
        words += [f"w{wait}"] * (wait > 0) + [f"p{pitch}", f"l{min(max(note.length, 1), LONGEST)}"]
    return words


def to_notes(words: Iterable[str]) -> list[Note]:
    """The notes of words; what is no whole note, as a model may write, is left out."""
    notes, now, pitch = [], 0, None
    for word in words:
        kind, digits = word[:1], word[1:]
        if not re.fullmatch("[wpl][0-9]{1,3}", word):
            continue
        if kind == "w":
            now += int(digits)
        elif kind == "p":
            pitch = int(digits)
        elif pitch is not None:
            notes.append(Note(pitch, now, int(digits)))
            pitch = None
    return notes


def transposed(notes: Iterable[Note], steps: int) -> list[Note]:
    """The notes so many half tones higher."""
    return [Note(note.pitch + steps, note.begin, note.length) for note in notes]
