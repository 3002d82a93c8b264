"""Tokenizers from llama.cpp's arrays alone, against plain implementations of the published rules."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from edgeformer.errors import ModelFormatError, UnsupportedModelError
from edgeformer.text.pattern import check_pattern
from edgeformer.text.pre_tokenizers import PRE_TOKENIZERS
from edgeformer.text.tokenizer import Tokenizer
from hypothesis import given
from hypothesis import strategies as st

PREFIX = "tokenizer.ggml."


def from_arrays(**keys: Any) -> Tokenizer:
    tokenizer = Tokenizer.from_metadata({PREFIX + key: value for key, value in keys.items()})
    assert tokenizer is not None
    return tokenizer


# SentencePiece BPE: pieces with scores that prefer longer ones unevenly, so that the order of joining matters.
_PIECES = [
    "he",
    "el",
    "ll",
    "hell",
    "o\u2581",
    "lo",
    "\u2581h",
    "\u2581he",
    "hel",
    "lol",
    "\u2581\u2581",
    "aa",
    "aaa",
    "a\u2581a",
]
SENTENCEPIECE: dict[str, Any] = {
    "model": "llama",
    "tokens": ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_PIECES, *"helo\u2581a"],
}
SENTENCEPIECE["scores"] = [0.0] * 259 + [-float(3 * i % 14) for i in range(14)] + [-100.0] * 6
SENTENCEPIECE["token_type"] = [2, 3, 3] + [6] * 256 + [1] * 20


def joined_by_score(text: str) -> list[str]:
    """Of all neighbours whose join is a piece, join those with the highest score, the leftmost first; repeat."""
    scores = dict(zip(SENTENCEPIECE["tokens"], SENTENCEPIECE["scores"], strict=True))
    symbols = list(text)
    while True:
        pairs = [(scores.get(a + b, -math.inf), -i) for i, (a, b) in enumerate(itertools.pairwise(symbols))]
        if not pairs or max(pairs)[0] == -math.inf:
            return symbols
        at = -max(pairs)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


@given(st.text(alphabet="helo a", max_size=30))
def test_sentencepiece_joins_by_score(text: str) -> None:
    tokenizer = from_arrays(**SENTENCEPIECE)
    expected = joined_by_score("\u2581" + text.replace(" ", "\u2581")) if text else []
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert [tokenizer.token(token) for token in ids] == expected
    assert tokenizer.decode(ids) == text


def test_sentencepiece_falls_back_to_bytes() -> None:
    tokenizer = from_arrays(**SENTENCEPIECE)
    ids = tokenizer.encode("h\u00e9", add_special_tokens=False)
    assert [tokenizer.token(token) for token in ids] == ["\u2581h", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(ids) == "h\u00e9"


def test_sentencepiece_ends_and_prefix_follow_the_flags() -> None:
    assert from_arrays(**SENTENCEPIECE).encode("a")[0] == 1
    plain = from_arrays(**SENTENCEPIECE, add_bos_token=False, add_eos_token=True, add_space_prefix=False)
    assert [plain.token(token) for token in plain.encode("a")] == ["a", "</s>"]


def test_text_that_spells_a_control_piece_is_plain_text() -> None:
    tokenizer = from_arrays(**SENTENCEPIECE)
    assert 2 not in tokenizer.encode("</s>", add_special_tokens=False)
    assert tokenizer.encode("</s>", add_special_tokens=False, parse_special=True) == [2]


def test_an_end_piece_is_a_control_piece_whatever_the_file_says() -> None:
    """Phi-3's file says that ``</s>`` is a user's; a user's text must not end the turn."""
    types = [*SENTENCEPIECE["token_type"]]
    for kind in (1, 4):
        types[2] = kind
        tokenizer = from_arrays(**{**SENTENCEPIECE, "token_type": types})
        assert 2 not in tokenizer.encode("a</s>", add_special_tokens=False)
        assert tokenizer.encode("</s>", add_special_tokens=False, parse_special=True) == [2]
        assert 2 in tokenizer.control_token_ids


@pytest.mark.parametrize(
    "piece", ["<|return|>", "<turn|>", "<|fim_prefix|>", "<REPO>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
)
def test_pieces_that_llama_cpp_knows_by_their_text_are_control_pieces(piece: str) -> None:
    tokens = [*SENTENCEPIECE["tokens"][:-1], piece]
    tokenizer = from_arrays(**{**SENTENCEPIECE, "tokens": tokens, "token_type": [*SENTENCEPIECE["token_type"][:-1], 4]})
    last = len(tokens) - 1
    assert last in tokenizer.control_token_ids
    assert last not in tokenizer.encode(f"a{piece}", add_special_tokens=False)
    assert (last in tokenizer.end_token_ids) == (piece not in ("<|fim_prefix|>", "<REPO>"))


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        (["<|end|>", "<|call|>"], {"<|end|>", "<|call|>"}),
        (["<|end|>", "<|return|>", "<|call|>"], {"<|return|>", "<|call|>"}),
        (["<|end|>", "<|flush|>", "<|calls|>"], {"<|flush|>", "<|calls|>"}),
        (["<|tool_response>", "<turn|>"], {"<|tool_response>", "<turn|>"}),
    ],
)
def test_a_piece_that_only_parts_messages_ends_no_turn(pieces: list[str], ends: set[str]) -> None:
    """gpt-oss's messages have several parts, each with an end; `</s>` is an ordinary word of Gemma 4."""
    count = len(pieces)
    tokens = [*SENTENCEPIECE["tokens"][:-count], *pieces]
    types = [*SENTENCEPIECE["token_type"][:-count], *[3] * count]
    tokenizer = from_arrays(**{**SENTENCEPIECE, "tokens": tokens, "token_type": types, "eos_token_id": len(tokens) - 1})
    found = {tokenizer.token(token) for token in tokenizer.end_token_ids}
    assert found - {"</s>"} == ends
    assert ("</s>" in found) == ("<|tool_response>" not in pieces)


# SentencePiece with merges
MERGED: dict[str, Any] = {
    "model": "gemma4",
    "tokens": [
        *("<pad>", "<eos>", "<bos>", *(f"<0x{byte:02X}>" for byte in range(256))),
        *("a", "b", "\u2581", "\n", "\u2581a", "ab", "a\u2581", "\n\n", "b\n"),
    ],
    "merges": ["\u2581 a", "a b", "a \u2581", "\n \n", "b \n"],
    "bos_token_id": 2,
    "eos_token_id": 1,
}
MERGED["token_type"] = [3] * 3 + [6] * 256 + [1] * (len(MERGED["tokens"]) - 259)


def test_merges_over_sentencepieces_pieces() -> None:
    """No space is put before the text; runs of line ends stand alone; the start token comes whatever the file says."""
    tokenizer = from_arrays(**MERGED, add_bos_token=False)
    ids = tokenizer.encode("ab a\n\nb\n\u00e9")
    pieces = ["<bos>", "ab", "\u2581a", "\n\n", "b", "\n", "<0xC3>", "<0xA9>"]
    assert [tokenizer.token(token) for token in ids] == pieces
    assert tokenizer.decode(ids) == "ab a\n\nb\n\u00e9"


# Unigram
UNIGRAM: dict[str, Any] = {
    "model": "t5",
    "tokens": ["<pad>", "</s>", "<unk>", "\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "ba", "bab"],
    "scores": [0.0, 0.0, 0.0, -2.0, -3.0, -3.5, -4.0, -4.5, -7.0, -5.0, -9.5],
    "token_type": [3, 3, 2] + [1] * 8,
    "unknown_token_id": 2,
    "eos_token_id": 1,
}


def best_segmentation(text: str) -> float:
    """The highest sum of scores over all ways to cut the text into pieces."""
    scores = dict(zip(UNIGRAM["tokens"][3:], UNIGRAM["scores"][3:], strict=True))
    best = [0.0] + [-math.inf] * len(text)
    for end in range(1, len(text) + 1):
        best[end] = max(best[start] + scores.get(text[start:end], -math.inf) for start in range(end))
    return best[-1]


@given(st.text(alphabet="ab ", min_size=1, max_size=20))
def test_unigram_finds_the_best_segmentation(text: str) -> None:
    tokenizer = from_arrays(**UNIGRAM)
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = [tokenizer.token(token) for token in ids]
    marked = "\u2581" + text.replace(" ", "\u2581")  # before a text that begins with a space, too
    assert "".join(pieces) == marked
    assert sum(UNIGRAM["scores"][token] for token in ids) == pytest.approx(best_segmentation(marked))


def test_unigram_ends_with_eos_and_squeezes_spaces() -> None:
    tokenizer = from_arrays(**UNIGRAM, remove_extra_whitespaces=True)
    assert tokenizer.encode("  ab   ab ") == tokenizer.encode("ab ab")
    assert tokenizer.encode("ab")[-1] == 1
    assert 1 not in tokenizer.encode("</s>", add_special_tokens=False)


# WordPiece, as written by llama.cpp (word starts marked) and as published (continuations marked)
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDPIECE: dict[str, Any] = {
    "model": "bert",
    "token_type": [3, 3, 3, 3] + [1] * 6,
    "unknown_token_id": 1,
    "cls_token_id": 2,
    "seperator_token_id": 3,
}
PUBLISHED = [*_SPECIAL, "un", "aff", "##aff", "##able", "!", "cafe"]
PHANTOM = [*_SPECIAL, "\u2581un", "\u2581aff", "aff", "able", "\u2581!", "\u2581cafe"]


@pytest.mark.parametrize("tokens", [PUBLISHED, PHANTOM])
def test_wordpiece_of_both_spellings(tokens: list[str]) -> None:
    tokenizer = from_arrays(**WORDPIECE, tokens=tokens)
    assert tokenizer.encode("UNaffable! Caf\u00e9 xyz [SEP]") == [2, 4, 6, 7, 8, 9, 1, 1, 1, 1, 3]
    assert tokenizer.decode([2, 4, 6, 7, 8, 9, 3]) == "unaffable! cafe"


# Byte-level BPE
def byte_level(pre: str, **keys: Any) -> Tokenizer:
    """All bytes as characters of GPT-2's alphabet, and no merges: what is left is the split into words."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    tokens = [chr(c) for c in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]
    return from_arrays(**{"model": "gpt2", "pre": pre, "tokens": tokens, "merges": [], **keys})


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_every_known_pre_tokenizer_keeps_every_byte(pre: str) -> None:
    tokenizer = byte_level(pre)
    text = "It's 12345 \u00e9t\u00e9  \n\n\u65e5\u672c \U0001f389 CamelCase\t!!"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert all(check_pattern(pattern) is None for pattern in PRE_TOKENIZERS[pre])


@pytest.mark.parametrize(
    ("pre", "text", "joined"),
    [
        ("gpt-2", "12345", 4),
        ("smollm", "12345", 0),
        ("qwen2", "12345", 0),
        ("llama-bpe", "123456", 4),
        ("default", "1234", 2),
    ],
)
def test_digits_are_grouped_as_the_name_says(pre: str, text: str, joined: int) -> None:
    """With the merges of two digits, a run of digits joins only inside the groups that the pattern makes."""
    tokens = [byte_level("gpt-2").token(i) for i in range(256)]
    pairs = [a + b for a in "123456" for b in "123456"]
    merges = [f"{pair[0]} {pair[1]}" for pair in pairs]
    tokenizer = byte_level(pre, tokens=[*tokens, *pairs], merges=merges)
    pieces = [tokenizer.token(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    assert sum(len(piece) for piece in pieces if len(piece) == 2) == joined


def test_an_unknown_pre_tokenizer_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'nobody-knows'.*gpt-2"):
        byte_level("nobody-knows")


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="'rwkv'"):
        from_arrays(model="rwkv", tokens=["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.0] * 5}, "scores: 5 entries for 279 tokens"),
        ({"scores": None}, "scores: missing"),
        ({"scores": np.full(279, np.nan, np.float32)}, "scores: an entry is not a finite number"),
        ({"token_type": [1] * 3}, "token_type: 3 entries"),
        ({"tokens": ["a", "a", *SENTENCEPIECE["tokens"][2:]]}, "'a' is token 0 and token 1"),
        ({"tokens": []}, "tokens: not an array"),
        ({"tokens": [1, 2]}, "not a string"),
        ({"tokens": ["<unk>", "<s>", "</s>", "<0x-1>", *SENTENCEPIECE["tokens"][4:]]}, "'<0x-1>' is marked as a byte"),
        ({"bos_token_id": 279}, "token id 279 is outside the vocabulary"),
        ({"eos_token_id": -1}, "token id -1 is outside the vocabulary"),
        ({"bos_token_id": "1"}, "bos_token_id: '1' is not of type int"),
        ({"add_bos_token": 1}, "add_bos_token: 1 is not of type bool"),
    ],
)
def test_arrays_that_contradict_each_other_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message.replace("(", r"\(")):
        from_arrays(**{**SENTENCEPIECE, **change})


@pytest.mark.parametrize("merges", [["a"], ["a zz"], [" a"], ["a "], ["a b"], [1], 5])
def test_merges_that_make_no_sense_are_refused(merges: Any) -> None:
    with pytest.raises(ModelFormatError, match=r"merge|cannot be built"):
        byte_level("gpt-2", merges=merges)
