"""Vocabularies of translation models give the ids of SentencePiece under the names that each family has for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from edgeformer.converters.vocabularies.vocabulary import Vocabulary, read_marian_vocabularies, read_vocabulary
from edgeformer.errors import ConversionError, InvalidInputError
from edgeformer.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDER = GOLDEN / "translation"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())


def vocabulary_of(name: str) -> Vocabulary:
    pair = read_marian_vocabularies(FOLDER / name, {})
    return pair[0] if pair else read_vocabulary(FOLDER / name, {})


def tokenizer_of(vocabulary: Vocabulary) -> Tokenizer:
    tokenizer = Tokenizer.from_metadata(vocabulary.metadata())
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("name", EXPECTED["ids"])
def test_ids_are_those_of_the_family(name: str) -> None:
    tokenizer = tokenizer_of(vocabulary_of(name))
    for text, ids in zip(EXPECTED["texts"], EXPECTED["ids"][name], strict=True):
        assert tokenizer.encode(text) == ids, repr(text)


@pytest.mark.parametrize("name", EXPECTED["ids"])
def test_texts_come_back(name: str) -> None:
    tokenizer = tokenizer_of(vocabulary_of(name))
    assert tokenizer.decode(tokenizer.encode("kings sang at sea")) == "kings sang at sea"


def test_a_text_spells_no_control_token_unless_it_is_asked_for() -> None:
    tokenizer = tokenizer_of(vocabulary_of("m2m100"))
    language = tokenizer.encode("__fr__", add_special_tokens=False, parse_special=True)
    assert tokenizer.token(language[0]) == "__fr__"
    assert language[0] not in tokenizer.encode("__fr__", add_special_tokens=False)
    with pytest.raises(InvalidInputError, match="puts no two texts together"):
        tokenizer.encode_pair("the", "sea")


@pytest.mark.parametrize(("name", "places", "codes"), [
    ("marian", ("none", "source"), {"deu", "fra"}),
    ("m2m100", ("before", "forced"), {"de", "en", "fr", "zu"}),
    ("mbart", ("after", "start"), {"de_DE", "en_XX", "fr_XX"}),
    ("mbart50", ("before", "forced"), {"de_DE", "en_XX", "fr_XX"}),
])  # fmt: skip
def test_languages_are_named(name: str, places: tuple[str, str], codes: set[str]) -> None:
    vocabulary = vocabulary_of(name)
    found = vocabulary.languages
    assert (found["source"], found["target"]) == places
    assert codes <= set(found["ids"]) and len(found["ids"]) == (100 if name == "m2m100" else len(codes))
    assert [vocabulary.tokens[token].strip("_<>") for token in found["ids"].values()] == [*found["ids"]]


def test_a_side_of_a_marian_folder_may_have_names_of_its_own(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER / "marian", tmp_path / "two"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "separate_vocabs": True}))
    with pytest.raises(ConversionError, match="separate_vocabs = True"):
        read_marian_vocabularies(folder, {})
    (folder / "target_vocab.json").write_text(json.dumps({"</s>": 0, "<unk>": 1, "\u2581the": 2}))
    pair = read_marian_vocabularies(folder, {})
    assert pair is not None and pair[1].tokens == ["</s>", "<unk>", "\u2581the"]


@pytest.mark.parametrize(("name", "file", "content", "message"), [
    ("marian", "vocab.json", {"</s>": 0, "<unk>": 2}, "the ids are not 0 to"),
    ("marian", "vocab.json", {"</s>": 0, "a": 1}, "no token <unk>"),
    ("mbart", "tokenizer_config.json", {"tokenizer_class": "NllbTokenizer"}, "additional_special_tokens"),
    ("mbart", "tokenizer_config.json", {"tokenizer_class": "MBartTokenizer", "src_lang": "xx_XX",
                                        "additional_special_tokens": ["en_XX"]}, "src_lang = 'xx_XX'"),
    ("byt5", "tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer", "extra_ids": -4}, "extra_ids = -4"),
])  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, name: str, file: str, content: dict[str, Any], message: str) -> None:
    folder = Path(shutil.copytree(FOLDER / name, tmp_path / name))
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ConversionError, match=message):
        read_marian_vocabularies(folder, {}) or read_vocabulary(folder, {})


@pytest.mark.parametrize(("tokenizer", "count", "last"), [("MBart", 25, "zh_CN"), ("MBart50", 52, "sl_SI")])
def test_languages_that_no_file_names_are_those_of_the_class(
    tmp_path: Path, tokenizer: str, count: int, last: str
) -> None:
    folder = Path(shutil.copytree(FOLDER / "mbart", tmp_path / "model"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": f"{tokenizer}Tokenizer"}))
    vocabulary = read_vocabulary(folder, {})
    assert vocabulary.tokens[-2:] == [last, "<mask>"]
    assert len(vocabulary.languages["ids"]) == count


@pytest.mark.parametrize(("settings", "front"), [
    ({"tokenizer_class": "PegasusTokenizer", "offset": 5},
     ["<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_3>", "<unk_4>"]),
    ({"tokenizer_class": "PegasusTokenizer", "offset": 0}, ["<pad>", "</s>"]),
])  # fmt: skip
def test_pegasus_moves_the_pieces_up(tmp_path: Path, settings: dict[str, Any], front: list[str]) -> None:
    shutil.copy(GOLDEN / "sentencepiece" / "unigram.model", tmp_path / "spiece.model")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    plain = read_vocabulary(tmp_path, {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    moved = read_vocabulary(tmp_path, {})
    assert moved.tokens == [*front, *plain.tokens[2:]]


def test_t5_has_its_sentinels_behind_the_pieces(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "sentencepiece" / "unigram.model", tmp_path / "spiece.model")
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 3}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    vocabulary = read_vocabulary(tmp_path, {})
    assert vocabulary.tokens[-3:] == ["<extra_id_2>", "<extra_id_1>", "<extra_id_0>"]
    ids = tokenizer_of(vocabulary).encode("<extra_id_0>", add_special_tokens=False, parse_special=True)
    assert ids == [len(vocabulary.tokens) - 1]
