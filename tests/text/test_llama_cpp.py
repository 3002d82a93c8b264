"""Tokenizers from arrays against llama.cpp's ids of the same files: every pre-tokenizer, and merges over pieces."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from edgeformer.files.gguf.writer import GGUFWriter
from edgeformer.text.pre_tokenizers import PRE_TOKENIZERS
from edgeformer.text.tokenizer import Tokenizer
from support.probes import llama_cpp

PREFIX = "tokenizer.ggml."
CLASSES = ["a", "B", "7", "\u0120", "\u010a", "\u010d", "\u0109", ".", "'", "s", "t"]  # letters, digits, spaces, signs
WORDS = [
    *("don't", "I'LL", "we've", "CamelCase", "1234567", "3.14", "a_b", "<0x0A>", "...", "!!!", "\u2014", "\u00ab"),
    *("\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\u0e44\u0e17\u0e22", "\u0939\u093f", "\u0645\u0631"),
    *("\u041a\u0438\u0440", "\u0391\u03b8\u03ae", "e\u0301", "\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea"),
    *(" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "aaaaaaaa", "777", "\x07", "\x7f"),
]


def texts(count: int) -> list[str]:
    rng = random.Random(3)
    return ["".join(rng.choice(WORDS) for _ in range(rng.randint(1, 14))) for _ in range(count)]


def byte_level(pre: str) -> dict[str, Any]:
    """All bytes, and merges of any two characters of `CLASSES`, so that a missing cut shows."""
    alphabet = [*map(chr, range(0x21, 0x7F)), *map(chr, range(0xA1, 0xAD)), *map(chr, range(0xAE, 0x100))]
    alphabet += [chr(0x100 + index) for index in range(256 - len(alphabet))]
    pairs = [left + right for left in CLASSES for right in CLASSES]
    tokens = [*alphabet, *pairs, "<|endoftext|>"]
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [1] * (len(tokens) - 1) + [3],
        "merges": [f"{pair[0]} {pair[1]}" for pair in pairs],
        "bos_token_id": len(tokens) - 1,
        "eos_token_id": len(tokens) - 1,
        "add_sep_token": False,
    }


def merged_sentencepiece() -> dict[str, Any]:
    """Bytes, pieces with marks for spaces, and merges."""
    letters = [*"abst", "\u2581", "\n", "'", "\u00e9"]
    pairs = [left + right for left in letters for right in letters]
    tokens = ["<pad>", "<eos>", "<bos>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *pairs, "\n\n\n"]
    return {
        "model": "gemma4",
        "tokens": tokens,
        "token_type": [3] * 3 + [6] * 256 + [1] * (len(tokens) - 259),
        "merges": [*(f"{pair[0]} {pair[1]}" for pair in pairs), "\n\n \n"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "add_bos_token": False,
    }


def compare(vocabularies: list[dict[str, Any]], folder: Path, samples: list[str]) -> None:
    paths = [str(folder / f"{index}.gguf") for index in range(len(vocabularies))]
    for path, keys in zip(paths, vocabularies, strict=True):
        with GGUFWriter(path, "llama") as writer:
            for key, value in keys.items():
                writer.add(PREFIX + key, value)
    answers = llama_cpp("texts", {"paths": paths, "texts": samples})
    for keys, answer in zip(vocabularies, answers, strict=True):
        tokenizer = Tokenizer.from_metadata({PREFIX + key: value for key, value in keys.items()})
        assert tokenizer is not None
        for sample, ids in zip(samples, answer, strict=True):
            assert tokenizer.encode(sample) == ids, (keys.get("pre"), sample)


# Where llama.cpp's own pattern falls short of the published one: marks are no letters there, or a change from lower to
# upper case cuts nothing (youtu).
SIMPLER_IN_LLAMA_CPP = {"tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2", "youtu"}


def test_every_pre_tokenizer_cuts_as_llama_cpp_does(tmp_path: Path) -> None:
    names = sorted(PRE_TOKENIZERS.keys() - SIMPLER_IN_LLAMA_CPP)
    compare([byte_level(name) for name in names], tmp_path, texts(150))


@pytest.mark.parametrize("name", sorted(SIMPLER_IN_LLAMA_CPP))
def test_the_others_cut_texts_without_case_and_marks_alike(tmp_path: Path, name: str) -> None:
    plain = [text.lower() for text in texts(150) if "\u0301" not in text and "\u093f" not in text]
    compare([byte_level(name)], tmp_path, plain)


def test_merges_over_pieces_with_marks_for_spaces(tmp_path: Path) -> None:
    compare([merged_sentencepiece()], tmp_path, texts(200))
