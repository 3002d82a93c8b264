"""llama2.c's `tokenizer.bin`: the pieces of a SentencePiece BPE with their scores, ready to print.

The file is an int32, the bytes of the longest piece, and for each piece its score (float32), its length in bytes
(int32) and itself. Spaces are spaces in it, and the start and end of a text stand in lines of their own.
Source of the format: https://github.com/karpathy/llama2.c (tokenizer.py).
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from ...errors import CheckpointFormatError
from ...files.storage import InputFile
from ...text.arrays import TokenType
from ...text.specification import PHANTOM_SPACE
from .record import Vocabulary

__all__ = ["read_llama2c_vocabulary"]

FILE_LIMIT = 1 << 27  # bytes; Llama 2's has 430 thousand
UNKNOWN, START, END = range(3)
CONTROL = {UNKNOWN: "<unk>", START: "<s>", END: "</s>"}


def read_llama2c_vocabulary(path: Path) -> Vocabulary:
    """Read a `tokenizer.bin`.

    Raises
    ------
    CheckpointFormatError
        The file is none, or cut short.
    """
    with InputFile(path) as file:
        if file.size > FILE_LIMIT:
            raise CheckpointFormatError(path, None, "file", f"more than the {FILE_LIMIT} bytes that are read")
        data = bytes(file.read(0, file.size))
    if len(data) < 4:
        raise CheckpointFormatError(path, 0, "longest piece", "the file is cut short")
    [longest] = struct.unpack_from("<i", data)
    tokens: list[str] = []
    scores: list[float] = []
    position = 4
    while position < len(data):
        if position + 8 > len(data):
            raise CheckpointFormatError(path, position, f"piece {len(tokens)}", "the file is cut short")
        score, length = struct.unpack_from("<fi", data, position)
        piece = data[position + 8 : position + 8 + length] if 0 <= length <= longest else b""
        if len(piece) != length:
            what = f"{length} bytes, of a longest piece of {longest} and {len(data) - position - 8} bytes that are left"
            raise CheckpointFormatError(path, position + 4, f"length of piece {len(tokens)}", what)
        try:
            tokens.append(piece.decode().replace(" ", PHANTOM_SPACE))
        except UnicodeDecodeError as error:
            raise CheckpointFormatError(
                path, position + 8, f"piece {len(tokens)}", f"not UTF-8: {error.reason}"
            ) from None
        scores.append(score)
        position += 8 + length
    if len(tokens) <= END:
        raise CheckpointFormatError(path, None, "pieces", f"{len(tokens)}, and three have a meaning")
    return vocabulary_of(tokens, scores)


def vocabulary_of(tokens: list[str], scores: list[float]) -> Vocabulary:
    """The vocabulary of these pieces."""
    tokens[: END + 1] = CONTROL.values()
    types = [TokenType.BYTE if re.fullmatch("<0x[0-9A-F]{2}>", piece) else TokenType.NORMAL for piece in tokens]
    types[: END + 1] = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    roles = {"unknown": UNKNOWN, "bos": START, "eos": END}
    flags = {"add_space_prefix": True, "add_bos_token": True, "add_eos_token": False}
    return Vocabulary("llama", tokens, types, scores=scores, roles=roles, flags=flags)
