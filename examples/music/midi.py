"""MIDI files as notes and back, by mido."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .notes import Note

TICKS = 480  # of a quarter


def mido() -> Any:
    """The library.

    Raises
    ------
    SystemExit
        It is not installed.
    """
    try:
        import mido
    except ImportError:
        raise SystemExit("MIDI files need mido: pip install 'edgeformer[music]'") from None
    return mido


def write(notes: Iterable[Note], path: Path, tempo: int = 110, program: int = 0) -> None:
    """A file of one track; `tempo` in quarters a minute, `program` is MIDI's number of the instrument."""
    library = mido()
    file = library.MidiFile(ticks_per_beat=TICKS)
    track = library.MidiTrack()
    file.tracks.append(track)
    track.append(library.MetaMessage("set_tempo", tempo=library.bpm2tempo(tempo)))
    track.append(library.Message("program_change", program=program))
    events = [(note.begin, 1, "note_on", note.pitch) for note in notes]
    events += [(note.begin + note.length, 0, "note_off", note.pitch) for note in notes]
    now = 0
    for when, _, kind, pitch in sorted(events):  # a note ends before it begins again
        track.append(library.Message(kind, note=pitch, velocity=80, time=(when - now) * TICKS // 4))
        now = when
    file.save(path)


def read(path: Path) -> list[Note]:
    """The notes of all tracks but the drums', to the nearest sixteenth."""
    file = mido().MidiFile(path)
    notes: list[Note] = []
    for track in file.tracks:
        now, sounding = 0, {}
        for message in track:
            now += message.time
            sixteenth = round(4 * now / file.ticks_per_beat)
            if message.type not in ("note_on", "note_off") or message.channel == 9:
                continue
            key = message.channel, message.note
            if key in sounding:
                begin = sounding.pop(key)
                notes.append(Note(message.note, begin, max(sixteenth - begin, 1)))
            if message.type == "note_on" and message.velocity > 0:
                sounding[key] = sixteenth
    return sorted(notes, key=lambda note: (note.begin, note.pitch))
