"""Reads SentencePiece's `tokenizer.model`: a protobuf message of pieces, scores and a few settings.

Only the wire format and the fields that matter are known here (numbers from sentencepiece_model.proto). Lengths are
checked against what is left before anything is sliced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import CheckpointFormatError, UnsupportedModelError
from ...files.storage import InputFile
from ...text.checks import PIECE_LIMIT

__all__ = ["SentencePieceModel", "read_sentencepiece_model"]

FILE_LIMIT = 1 << 27  # bytes; the largest published tokenizer.model is some 5 million
_MODEL_NAMES = {1: "t5", 2: "llama"}  # unigram and BPE, by llama.cpp's names


@dataclass
class SentencePieceModel:
    """What a `tokenizer.model` says; defaults are those of the format.

    Attributes
    ----------
    model : {"llama", "t5"}
        BPE or unigram.
    pieces, scores, types : lists
        By token id; the types are numbered as in GGUF's `token_type`.
    roles : dict
        Token ids of "unknown", "bos", "eos", "padding"; negative where there is none.
    charsmap : bytes
        The compiled normalization table.
    """

    model: str = "t5"
    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    roles: dict[str, int] = field(default_factory=lambda: {"unknown": 0, "bos": 1, "eos": 2, "padding": -1})
    charsmap: bytes = b""
    add_space_prefix: bool = True
    remove_extra_whitespaces: bool = True


def read_sentencepiece_model(path: Path) -> SentencePieceModel:
    """Read a `tokenizer.model`.

    Raises
    ------
    CheckpointFormatError
        The file is no such message, is cut short, or unreasonably large.
    UnsupportedModelError
        The model is SentencePiece's "word" or "char".
    """
    with InputFile(path) as file:
        if file.size > FILE_LIMIT:
            raise CheckpointFormatError(path, None, "file", f"more than the {FILE_LIMIT} bytes that are read")
        data = bytes(file.read(0, file.size))
    reader = _Reader(str(path))
    result = SentencePieceModel()
    for number, value in reader.fields(data):
        if number == 1:
            reader.piece(value, result)
        elif number == 2:
            reader.trainer(value, result)
        elif number == 3:
            reader.normalizer(value, result)
    if not result.pieces:
        raise CheckpointFormatError(path, None, "pieces", "there are none")
    return result


class _Reader:
    def __init__(self, path: str) -> None:
        self.path = path

    def fail(self, what: str) -> CheckpointFormatError:
        return CheckpointFormatError(self.path, None, "protobuf", what)

    def varint(self, data: bytes, position: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= len(data):
                raise self.fail("cut short")
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise self.fail("a number of more than ten bytes")

    def fields(self, data: object) -> Iterator[tuple[int, object]]:
        """Field numbers with their values: int for varints and fixed-width numbers (raw), bytes for the rest."""
        if not isinstance(data, bytes):
            raise self.fail("a message was expected")
        position = 0
        while position < len(data):
            key, position = self.varint(data, position)
            wire = key & 7
            if wire == 0:
                value, position = self.varint(data, position)
                yield key >> 3, value
                continue
            if wire == 2:
                length, position = self.varint(data, position)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise self.fail(f"wire type {wire}")
            if length > len(data) - position:
                raise self.fail("cut short")
            yield key >> 3, data[position : position + length]
            position += length

    def piece(self, data: object, result: SentencePieceModel) -> None:
        text, score, kind = "", 0.0, 1
        for number, value in self.fields(data):
            if number == 1 and isinstance(value, bytes):
                try:
                    text = value.decode()
                except UnicodeDecodeError as error:
                    raise self.fail(f"piece {len(result.pieces)} is not UTF-8: {error.reason}") from None
            elif number == 2 and isinstance(value, bytes) and len(value) == 4:
                score = struct.unpack("<f", value)[0]
            elif number == 3 and isinstance(value, int):
                kind = value
        if len(result.pieces) >= PIECE_LIMIT:
            raise self.fail(f"more than {PIECE_LIMIT} pieces")
        result.pieces.append(text)
        result.scores.append(score)
        result.types.append(kind)

    def trainer(self, data: object, result: SentencePieceModel) -> None:
        roles = {40: "unknown", 41: "bos", 42: "eos", 43: "padding"}
        for number, value in self.fields(data):
            if number == 3 and isinstance(value, int):
                if value not in _MODEL_NAMES:
                    raise UnsupportedModelError(f"{self.path}: SentencePiece model type {value} is not supported")
                result.model = _MODEL_NAMES[value]
            elif number == 24 and value:
                what = "treat_whitespace_as_suffix, marks of spaces behind the words"
                raise UnsupportedModelError(f"{self.path}: {what}, is not supported")
            elif number in roles and isinstance(value, int):
                result.roles[roles[number]] = value if value < 1 << 31 else -1  # negative numbers fill 64 bits

    def normalizer(self, data: object, result: SentencePieceModel) -> None:
        for number, value in self.fields(data):
            if number == 2 and isinstance(value, bytes):
                result.charsmap = value
            elif number == 3:
                result.add_space_prefix = bool(value)
            elif number == 4:
                result.remove_extra_whitespaces = bool(value)
