"""Write a tune that nobody has heard: `python -m examples.music.compose tunes.gguf --out new.mid [--seed 3]`.

`--start` gives the first notes, by name, octave and length: "C5:4 D5:4 E5:4 C5:4".
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import edgeformer

from . import midi
from .notes import Note, to_notes, to_words
from .tunes import notes_of


def compose(model: Any, start: str, **options: Any) -> list[Note]:
    """The notes of `start` and what the model makes of them; `options` are those of `generate`."""
    words = to_words(notes_of(start))
    result = model.generate(" ".join(words), **options)
    return to_notes([*words, *result.text.split()])


def main() -> None:
    """Read the command line, generate, write the MIDI file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what edgeformer convert has written")
    parser.add_argument("--out", type=Path, required=True, help="the MIDI file to write")
    parser.add_argument("--start", default="C5:4 D5:4 E5:4")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--tempo", type=int, default=110, help="quarters a minute")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    midi.mido()  # before anything takes time
    with edgeformer.load(options.model) as model:
        notes = compose(model, options.start, temperature=options.temperature, top_k=20, seed=options.seed)
    midi.write(notes, options.out, options.tempo)
    length = max(note.begin + note.length for note in notes)
    print(f"{options.out}: {len(notes)} notes, {length / 16:.0f} bars")


if __name__ == "__main__":
    main()
