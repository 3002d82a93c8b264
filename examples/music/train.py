"""Train a language model of notes on eight tunes in all keys, some minutes on one core.

    python -m examples.music.train --out tunes
    edgeformer convert tunes tunes.gguf
    python -m examples.music.compose tunes.gguf --out new.mid --seed 3

Needs torch. `--midi FOLDER` takes the MIDI files of a folder instead, cut into pieces (needs mido).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..next_token import END, SPECIAL, configuration, save, train
from . import midi
from .notes import WORDS, Note, to_words, transposed
from .tunes import TUNES, notes_of

WIDTH, LAYERS, LENGTH = 64, 2, 256
KEYS = range(-6, 6)  # half tones up


def pieces_of(folder: Path) -> list[list[Note]]:
    """The notes of every MIDI file of a folder.

    Raises
    ------
    SystemExit
        There is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    if not paths:
        raise SystemExit(f"{folder}: no .mid files")
    return [midi.read(path) for path in paths]


def sequences_of(pieces: list[list[Note]]) -> list[list[int]]:
    """Token ids of the pieces in all keys, cut to what the model reads at once."""
    ids = {word: len(SPECIAL) + number for number, word in enumerate(WORDS)}
    sequences = []
    for notes in pieces:
        for steps in KEYS:
            tokens = [*(ids[word] for word in to_words(transposed(notes, steps))), END]
            sequences += [tokens[begin : begin + LENGTH] for begin in range(0, len(tokens), LENGTH)]
    return sequences


def main() -> None:
    """Read the tunes, train, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--midi", type=Path, help="a folder of MIDI files")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    pieces = pieces_of(options.midi) if options.midi else [notes_of(tune) for tune in TUNES.values()]
    sequences = sequences_of(pieces)
    print(f"{len(pieces)} pieces in {len(KEYS)} keys: {sum(map(len, sequences))} tokens")
    config = configuration(WORDS, WIDTH, LAYERS, LENGTH)
    save(train(sequences, config, options.steps, batch=16), config, WORDS, options.out)


if __name__ == "__main__":
    main()
