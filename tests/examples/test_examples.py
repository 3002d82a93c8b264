"""The examples: their data, and that edgeformer computes what their torch models do."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import edgeformer
import numpy as np
import pytest
from edgeformer.converters import convert
from edgeformer.files.json_file import read_json
from hypothesis import given
from hypothesis import strategies as st

from examples.music import midi
from examples.music.notes import HIGHEST, LONGEST, LOWEST, WORDS, Note, to_notes, to_words, transposed
from examples.music.tunes import TUNES, notes_of
from examples.recommend import visits

NOTES = st.builds(Note, st.integers(LOWEST, HIGHEST), st.integers(0, 40), st.integers(1, LONGEST))


@pytest.fixture(scope="module")
def next_token() -> ModuleType:
    """The training code."""
    pytest.importorskip("torch", reason="the examples train with torch, which is not installed")
    from examples import next_token

    return next_token


# Notes


@given(st.lists(NOTES, max_size=20))
def test_words_say_notes_whole(notes: list[Note]) -> None:
    """From the first note on; a wait of more than a bar is one of a bar."""
    ordered = sorted(notes, key=lambda note: (note.begin, note.pitch))
    now, wanted, before = 0, [], None
    for note in ordered:
        now += 0 if before is None else min(note.begin - before, LONGEST)
        wanted.append(Note(note.pitch, now, note.length))
        before = note.begin
    words = to_words(notes)
    assert to_notes(words) == wanted
    assert set(words) <= set(WORDS)


def test_what_is_no_whole_note_is_left_out() -> None:
    assert to_notes(["l4", "p60", "p62", "w2", "l3", "l4", "<unk>", "p99999", "w", "p64"]) == [Note(62, 2, 3)]


def test_octaves_out_of_reach_are_moved() -> None:
    assert to_words([Note(10, 0, 1), Note(120, 0, 99)]) == ["p46", "l1", "p96", "l16"]


def test_tunes_are_in_reach_and_of_whole_beats() -> None:
    for name, tune in TUNES.items():
        notes = notes_of(tune)
        assert sum(int(word.split(":")[1]) for word in tune.split()) % 8 == 0, name
        assert all(LOWEST < note.pitch < HIGHEST for step in (-6, 5) for note in transposed(notes, step)), name
    assert notes_of("C4:2 R:4 Bb3:1 F#5:3") == [Note(60, 0, 2), Note(58, 6, 1), Note(78, 7, 3)]


@pytest.fixture
def mido() -> Any:
    return pytest.importorskip("mido", reason="MIDI files need mido, which is not installed")


def test_midi_files_hold_the_notes(tmp_path: Path, mido: Any) -> None:
    notes = [*notes_of(TUNES["Brother John"]), Note(48, 0, 16), Note(60, 0, 2)]
    notes = sorted(set(notes) - {Note(72, 0, 4)}, key=lambda note: (note.begin, note.pitch))
    midi.write(notes, tmp_path / "a.mid", tempo=90)
    assert midi.read(tmp_path / "a.mid") == notes
    file = mido.MidiFile(tmp_path / "a.mid")
    assert file.length == pytest.approx(max(note.begin + note.length for note in notes) / 4 * 60 / 90, abs=1e-3)


# Visits


def test_readers_follow_a_series_and_read_nothing_twice() -> None:
    readers = visits.made_up(200)
    assert readers == visits.made_up(200) != visits.made_up(200, seed=1)
    for items in readers:
        assert len(set(items)) == len(items) and len({item.split("-")[0] for item in items}) <= 2
        volumes = [item for item in items if item.endswith("volume-2")]
        assert all(items.index(item[:-1] + "1") < items.index(item) for item in volumes)


def test_visits_of_a_file_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    path.write_text("time,user,item,shop\n10,a,The Hobbit,x\n9,a,Dune,x\n1,b,Emma,y\n")
    assert visits.read_csv(path) == [["Dune", "The-Hobbit"], ["Emma"]]
    path.write_text("user,item\na,b\n")
    with pytest.raises(SystemExit, match="user, item and time"):
        visits.read_csv(path)


# Models


@pytest.fixture(scope="module")
def trained(next_token: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, list[str]]:
    """A model that was shown a few visits, its file, and its items."""
    readers = [items for items in visits.made_up(60) if len(items) > 1]
    items = sorted({item for seen in readers for item in seen})
    ids = {item: len(next_token.SPECIAL) + number for number, item in enumerate(items)}
    config = next_token.configuration(items, 32, 2, 24)
    model = next_token.train([[ids[item] for item in seen] for seen in readers], config, steps=30, batch=8)
    folder = tmp_path_factory.mktemp("shop")
    next_token.save(model, config, items, folder / "shop")
    convert(folder / "shop", folder / "shop.gguf", type="f32")
    return model, folder / "shop.gguf", items


def test_edgeformer_gives_the_numbers_of_the_model_that_was_trained(trained: tuple[Any, Path, list[str]]) -> None:
    import torch

    model, path, items = trained
    history = [items[index] for index in (5, 40, 3, 17)]
    with edgeformer.load(path, kv_type="f32") as loaded:
        ids = loaded.tokenize(" ".join(history))
        assert ids == [1, *(4 + items.index(item) for item in history)]
        with torch.no_grad():
            wanted = model(torch.tensor([ids]))[0].numpy()
        found = loaded.logits(ids)
    assert np.abs(found - wanted).max() < 1e-5 * np.ptp(wanted)


def test_recommendations_are_the_likeliest_that_were_not_seen(trained: tuple[Any, Path, list[str]]) -> None:
    from examples.recommend.recommend import next_items

    _, path, items = trained
    with edgeformer.load(path, kv_type="f32") as loaded:
        found = next_items(loaded, items[:3], 200)
        assert {item for item, _ in found} == set(items[3:])
        assert sum(share for _, share in found) == pytest.approx(1)
        assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)
        assert len(next_items(loaded, items[:30], 2)) == 2  # more than the model sees at once
        with pytest.raises(SystemExit, match="does not know War-and-Peace"):
            next_items(loaded, ["War-and-Peace"], 5)


def test_a_composition_begins_as_it_was_told(next_token: ModuleType, tmp_path: Path) -> None:
    from examples.music.compose import compose
    from examples.music.train import sequences_of

    config = next_token.configuration(WORDS, 32, 1, 64)
    pieces = [notes_of(tune) for tune in list(TUNES.values())[:2]]
    model = next_token.train(sequences_of(pieces), config, steps=20, batch=4)
    next_token.save(model, config, WORDS, tmp_path / "tunes")
    assert read_json(tmp_path / "tunes" / "config.json")["model_type"] == "transformer_decoder"
    convert(tmp_path / "tunes", tmp_path / "tunes.gguf")
    with edgeformer.load(tmp_path / "tunes.gguf") as loaded:
        start = notes_of("C5:4 D5:4 E5:4")
        found = compose(loaded, "C5:4 D5:4 E5:4", temperature=1.0, seed=1, max_tokens=30)
        assert found[:3] == start
        assert found == compose(loaded, "C5:4 D5:4 E5:4", temperature=1.0, seed=1, max_tokens=30)
