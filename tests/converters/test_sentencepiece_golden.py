"""Tokenizers of SentencePiece's own models, normalization and all: the ids that SentencePiece gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from edgeformer.converters.vocabularies.sentencepiece_model import read_sentencepiece_model
from edgeformer.converters.vocabularies.vocabulary import read_vocabulary
from edgeformer.errors import UnsupportedModelError
from edgeformer.text.tokenizer import Tokenizer

FOLDER = Path(__file__).parents[1] / "golden" / "sentencepiece"
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())


def tokenizer_of(name: str, folder: Path) -> Tokenizer:
    shutil.copy(FOLDER / f"{name}.model", folder / "tokenizer.model")
    tokenizer = Tokenizer.from_metadata(read_vocabulary(folder, {}).metadata())
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("name", EXPECTED["ids"])
def test_ids_are_sentencepieces(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(name, tmp_path)
    for text, ids in zip(EXPECTED["texts"], EXPECTED["ids"][name], strict=True):
        assert tokenizer.encode(text, add_special_tokens=False) == ids, repr(text)


@pytest.mark.parametrize("name", ["unigram-bytes", "unigram-spaces", "bpe"])
def test_a_text_that_looks_like_a_byte_is_spelled_out(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(name, tmp_path)
    assert tokenizer.decode(tokenizer.encode("<0x09>", add_special_tokens=False)) == "<0x09>"


@pytest.mark.parametrize("name", ["unigram-symbols", "bpe-symbols", "bpe-symbols-plain"])
def test_texts_with_symbols_come_back(name: str, tmp_path: Path) -> None:
    """The spaces beside a user-defined symbol are those of the text; two in a row are one where the model says so."""
    tokenizer = tokenizer_of(name, tmp_path)
    for text in ("a<sep>the", "a <sep> the", "<sep>", "the <sep><sep> sea"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len(tokenizer.encode_pair("a<sep>a", "a", parse_special=True)[0]) > 4


def test_marks_behind_the_words_are_refused(tmp_path: Path) -> None:
    """Field 24 of the trainer's settings, appended to what the file says of itself: later messages are merged."""
    model = (FOLDER / "unigram.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(model + b"\x12\x03\xc0\x01\x01")
    with pytest.raises(UnsupportedModelError, match="treat_whitespace_as_suffix"):
        read_sentencepiece_model(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.model").write_bytes(model + b"\x12\x03\xc0\x01\x00")
    assert read_sentencepiece_model(tmp_path / "tokenizer.model").pieces
