"""Tunes that belong to everybody: traditional ones, Beethoven's and Pierpont's. A note is its name, octave and length.

``C5:4`` is the C above middle C, four sixteenths long; ``R:4`` is a rest.
"""

from __future__ import annotations

from .notes import Note

STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

TUNES = {
    "Ode to Joy": """
        E5:4 E5:4 F5:4 G5:4 G5:4 F5:4 E5:4 D5:4 C5:4 C5:4 D5:4 E5:4 E5:6 D5:2 D5:8
        E5:4 E5:4 F5:4 G5:4 G5:4 F5:4 E5:4 D5:4 C5:4 C5:4 D5:4 E5:4 D5:6 C5:2 C5:8
        D5:4 D5:4 E5:4 C5:4 D5:4 E5:2 F5:2 E5:4 C5:4 D5:4 E5:2 F5:2 E5:4 D5:4 C5:4 D5:4 G4:8
        E5:4 E5:4 F5:4 G5:4 G5:4 F5:4 E5:4 D5:4 C5:4 C5:4 D5:4 E5:4 D5:6 C5:2 C5:8
        """,
    "Twinkle, Twinkle": """
        C5:4 C5:4 G5:4 G5:4 A5:4 A5:4 G5:8 F5:4 F5:4 E5:4 E5:4 D5:4 D5:4 C5:8
        G5:4 G5:4 F5:4 F5:4 E5:4 E5:4 D5:8 G5:4 G5:4 F5:4 F5:4 E5:4 E5:4 D5:8
        C5:4 C5:4 G5:4 G5:4 A5:4 A5:4 G5:8 F5:4 F5:4 E5:4 E5:4 D5:4 D5:4 C5:8
        """,
    "Brother John": """
        C5:4 D5:4 E5:4 C5:4 C5:4 D5:4 E5:4 C5:4 E5:4 F5:4 G5:8 E5:4 F5:4 G5:8
        G5:2 A5:2 G5:2 F5:2 E5:4 C5:4 G5:2 A5:2 G5:2 F5:2 E5:4 C5:4 C5:4 G4:4 C5:8 C5:4 G4:4 C5:8
        """,
    "By the Light of the Moon": """
        C5:4 C5:4 C5:4 D5:4 E5:8 D5:8 C5:4 E5:4 D5:4 D5:4 C5:16
        C5:4 C5:4 C5:4 D5:4 E5:8 D5:8 C5:4 E5:4 D5:4 D5:4 C5:16
        D5:4 D5:4 D5:4 D5:4 A4:8 A4:8 D5:4 C5:4 B4:4 A4:4 G4:16
        C5:4 C5:4 C5:4 D5:4 E5:8 D5:8 C5:4 E5:4 D5:4 D5:4 C5:16
        """,
    "Jingle Bells": """
        E5:4 E5:4 E5:8 E5:4 E5:4 E5:8 E5:4 G5:4 C5:6 D5:2 E5:16
        F5:4 F5:4 F5:6 F5:2 F5:4 E5:4 E5:4 E5:2 E5:2 E5:4 D5:4 D5:4 E5:4 D5:8 G5:8
        E5:4 E5:4 E5:8 E5:4 E5:4 E5:8 E5:4 G5:4 C5:6 D5:2 E5:16
        F5:4 F5:4 F5:6 F5:2 F5:4 E5:4 E5:4 E5:2 E5:2 G5:4 G5:4 F5:4 D5:4 C5:16
        """,
    "Mary Had a Little Lamb": """
        E5:4 D5:4 C5:4 D5:4 E5:4 E5:4 E5:8 D5:4 D5:4 D5:8 E5:4 G5:4 G5:8
        E5:4 D5:4 C5:4 D5:4 E5:4 E5:4 E5:4 E5:4 D5:4 D5:4 E5:4 D5:4 C5:16
        """,
    "London Bridge": """
        G5:6 A5:2 G5:4 F5:4 E5:4 F5:4 G5:8 D5:4 E5:4 F5:8 E5:4 F5:4 G5:8
        G5:6 A5:2 G5:4 F5:4 E5:4 F5:4 G5:8 D5:8 G5:8 E5:4 C5:12
        """,
    "Row, Row, Row Your Boat": """
        C5:6 C5:6 C5:4 D5:2 E5:6 E5:4 D5:2 E5:4 F5:2 G5:12
        C6:2 C6:2 C6:2 G5:2 G5:2 G5:2 E5:2 E5:2 E5:2 C5:2 C5:2 C5:2 G5:4 F5:2 E5:4 D5:2 C5:12
        """,
}


def notes_of(tune: str) -> list[Note]:
    """The notes of a tune as it stands above."""
    notes, now = [], 0
    for word in tune.split():
        name, length = word.split(":")
        if name != "R":
            pitch = 12 * (int(name[-1]) + 1) + STEPS[name[0]] + name.count("#") - name[1:].count("b")
            notes.append(Note(pitch, now, int(length)))
        now += int(length)
    return notes
