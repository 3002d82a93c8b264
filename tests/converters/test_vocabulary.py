"""Vocabularies of source folders as GGUF metadata: every form a folder can have them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from edgeformer.converters.vocabularies.vocabulary import character_vocabulary, read_vocabulary
from edgeformer.errors import CheckpointFormatError, ConversionError, UnsupportedModelError
from edgeformer.text.arrays import TokenType
from edgeformer.text.tokenizer import Tokenizer

TEXTS = (
    "Once upon a time",
    "x = 12345 'tis I'll \u00e9\u00e0 \u65e5\u672c \U0001f389",
    "a  b\n\nc",
    "</s> <|endoftext|>",
)


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer.from_metadata(metadata)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize("name", ["stories260k-llama", "shakespeare-llama-5m"])
def test_arrays_alone_give_the_same_ids(test_models: Path, name: str) -> None:
    folder = test_models / name
    vocabulary = read_vocabulary(folder, json.loads((folder / "config.json").read_text()))
    metadata = vocabulary.metadata()
    arrays = {key: value for key, value in metadata.items() if key != "tokenizer.huggingface.json"}
    whole, alone = tokenizer_of(metadata), tokenizer_of(arrays)
    story = (test_models / "text" / "tinystories_sample.txt").read_text()
    for text in (*TEXTS, story):
        assert whole.encode(text) == alone.encode(text)
        assert whole.decode(whole.encode(text)) == alone.decode(alone.encode(text)) == text
    differs = whole.encode(" a") != alone.encode(" a")  # a text that begins with a space
    assert len(vocabulary.notes) == differs and all("begins with a space" in note for note in vocabulary.notes)


def test_sentencepiece_file_alone(test_models: Path, tmp_path: Path) -> None:
    """The same folder without its tokenizer.json; a leading space is kept as SentencePiece does."""
    source = test_models / "stories260k-llama"
    (tmp_path / "tokenizer.model").write_bytes((source / "tokenizer.model").read_bytes())
    vocabulary = read_vocabulary(tmp_path, {})
    assert (vocabulary.model, vocabulary.flags["add_bos_token"], vocabulary.roles["eos"]) == ("llama", True, 2)
    tokenizer = tokenizer_of(vocabulary.metadata())
    expected = json.loads((source / "expected.json").read_text())
    assert tokenizer.encode(expected["prompt"]) == expected["prompt_ids"]
    assert tokenizer.decode(tokenizer.encode(" lead")) == " lead"


def test_scores_from_merges_where_there_is_no_sentencepiece_file(test_models: Path, tmp_path: Path) -> None:
    source = test_models / "stories260k-llama"
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    arrays = read_vocabulary(tmp_path, {}).metadata()
    del arrays["tokenizer.huggingface.json"]
    expected = json.loads((source / "expected.json").read_text())
    assert tokenizer_of(arrays).encode(expected["prompt"]) == expected["prompt_ids"]


def test_special_tokens_are_control_tokens_with_roles(test_models: Path) -> None:
    folder = test_models / "shakespeare-llama-5m"
    vocabulary = read_vocabulary(folder, {})
    assert vocabulary.types[0] == TokenType.CONTROL
    assert (vocabulary.roles["bos"], vocabulary.roles["eos"], vocabulary.pre) == (0, 0, "gpt-2")
    assert vocabulary.flags == {"add_bos_token": False, "add_eos_token": False}


VOCAB_TXT = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##aff\n##able\n!\nCafe\ncafe\n"


@pytest.mark.parametrize(("lowercase", "expected"), [(True, [2, 4, 5, 6, 7, 9, 3]), (False, [2, 4, 5, 6, 7, 8, 3])])
def test_wordpiece_file(tmp_path: Path, lowercase: bool, expected: list[int]) -> None:
    (tmp_path / "vocab.txt").write_text(VOCAB_TXT)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    vocabulary = read_vocabulary(tmp_path, {})
    assert vocabulary.tokens[4:7] == ["\u2581un", "aff", "able"]
    assert tokenizer_of(vocabulary.metadata()).encode("unaffable! Cafe") == expected
    assert bool(vocabulary.notes) is not lowercase


def test_bpe_files(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(
        json.dumps({"a": 0, "b": 1, "\u0120": 2, "ab": 3, "\u0120ab": 4, "<|endoftext|>": 5})
    )
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n\u0120 ab\n")
    vocabulary = read_vocabulary(tmp_path, {"eos_token_id": 5})
    tokenizer = tokenizer_of(vocabulary.metadata())
    assert tokenizer.encode("ab ab") == [3, 4]
    assert tokenizer.end_token_ids == {5}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MysteryTokenizer"}))
    with pytest.raises(ConversionError, match="Mystery"):
        read_vocabulary(tmp_path, {})


def test_bpe_files_with_a_start_token(tmp_path: Path) -> None:
    """OPT's begin every text with the token that ends it."""
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "</s>": 2, "ab": 3, "<pad>": 4}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "</s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = tokenizer_of(read_vocabulary(tmp_path, {}).metadata())
    assert tokenizer.encode("aba") == [2, 3, 0]
    assert tokenizer.encode("aba", add_special_tokens=False) == [3, 0]


def test_no_files_are_no_vocabulary(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(tmp_path, {"bos_token_id": 1, "eos_token_id": 2})
    metadata = vocabulary.metadata()
    assert metadata == {
        "tokenizer.ggml.model": "no_vocab",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    assert Tokenizer.from_metadata(metadata) is None


def test_characters(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.txt"
    path.write_text("<blank>\n<s>\n</s>\na\n\u00e9\n", encoding="utf-8")
    vocabulary = character_vocabulary(path, {"bos": 1, "eos": 2}).resized(6)
    tokenizer = Tokenizer.from_metadata(vocabulary.metadata("tokenizer.target."), "tokenizer.target.")
    assert tokenizer is not None
    assert (tokenizer.encode("\u00e9a"), tokenizer.eos_token_id, tokenizer.vocab_size) == ([4, 3], 2, 6)
    with pytest.raises(ConversionError, match="eos is token 9"):
        character_vocabulary(path, {"eos": 9})
    path.write_text("a\na\n")
    with pytest.raises(ConversionError, match="twice"):
        character_vocabulary(path, {})


def test_more_tokens_than_rows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text(VOCAB_TXT)
    with pytest.raises(ConversionError, match="10 tokens and the embedding 9 rows"):
        read_vocabulary(tmp_path, {}).resized(9)
    padded = read_vocabulary(tmp_path, {}).resized(12)
    assert padded.types[10:] == [TokenType.UNUSED] * 2
    assert tokenizer_of(padded.metadata()).vocab_size == 12


# SentencePiece's protobuf, encoded by hand
def varint(value: int) -> bytes:
    parts = bytearray()
    while True:
        parts.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def message(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def piece(text: str, kind: int = 1) -> bytes:
    return message(1, message(1, text.encode()) + b"\x15\x00\x00\x80\xbf" + b"\x18" + varint(kind))


MODEL = piece("<unk>", 2) + piece("\u2581") + piece("a") + message(2, b"\x18" + varint(2))


def test_a_hand_made_sentencepiece_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(MODEL)
    vocabulary = read_vocabulary(tmp_path, {})
    assert (vocabulary.tokens, vocabulary.types, vocabulary.scores) == (["<unk>", "\u2581", "a"], [2, 1, 1], [-1.0] * 3)
    assert vocabulary.roles == {"unknown": 0, "bos": 1, "eos": 2}


def test_every_truncation_of_a_sentencepiece_file_is_an_error_or_a_shorter_model(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    refused = 0
    for length in range(len(MODEL)):
        path.write_bytes(MODEL[:length])
        try:
            vocabulary = read_vocabulary(tmp_path, {})
            assert len(vocabulary.tokens) <= 3
        except CheckpointFormatError as error:
            assert "tokenizer.model" in str(error)
            refused += 1
    assert refused > len(MODEL) // 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 11,
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0b",
        b"\x08\x01",
        message(1, message(1, b"\xff\xfe")),
        b"\x0c",
    ],
)
def test_bytes_that_are_no_sentencepiece_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(CheckpointFormatError, match=r"tokenizer\.model"):
        read_vocabulary(tmp_path, {})


def test_word_models_are_not_supported(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(piece("a") + message(2, b"\x18\x03"))
    with pytest.raises(UnsupportedModelError, match="type 3"):
        read_vocabulary(tmp_path, {})
