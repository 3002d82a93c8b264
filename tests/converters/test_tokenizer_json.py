"""Hugging Face's `tokenizer.json` of each kind as llama.cpp's arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from edgeformer.converters.vocabularies.tokenizer_json import from_description
from edgeformer.errors import ConversionError
from edgeformer.text.tokenizer import Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + TAIL


def both_tokenizers(library: tokenizers.Tokenizer, tmp_path: Path) -> tuple[Tokenizer, Tokenizer, Any]:
    """From the description, from the arrays made of it, and the vocabulary."""
    vocabulary = from_description(json.loads(library.to_str()), tmp_path / "tokenizer.json")
    whole = Tokenizer.from_metadata(vocabulary.metadata())
    vocabulary.description = None
    alone = Tokenizer.from_metadata(vocabulary.metadata())
    assert whole is not None and alone is not None
    return whole, alone, vocabulary


def byte_level(*steps: pre_tokenizers.PreTokenizer, ignore_merges: bool = False) -> tokenizers.Tokenizer:
    """Byte-level BPE whose merges join any two digits and any two letters of "abc"."""
    vocabulary = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    pairs = [(a, b) for group in ("1234", "abc") for a in group for b in group]
    for a, b in pairs:
        vocabulary[a + b] = len(vocabulary)
    vocabulary["abc"] = len(vocabulary)  # no merge makes it: only a whole word is it
    library = tokenizers.Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=ignore_merges))
    library.pre_tokenizer = pre_tokenizers.Sequence([*steps])
    library.decoder = decoders.ByteLevel()
    return library


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


DEEPSEEK_CODER = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
FALCON = [pre_tokenizers.Punctuation("contiguous"), GPT2, pre_tokenizers.Digits(individual_digits=False)]
FALCON += [split("[0-9][0-9][0-9]")]


@pytest.mark.parametrize(
    ("name", "steps", "ignore_merges"),
    [
        ("gpt-2", [GPT2], False),
        ("smollm", [pre_tokenizers.Digits(individual_digits=True), GPT2], False),
        ("qwen2", [split(QWEN2), BYTES], False),
        ("llama-bpe", [split(LLAMA3), BYTES], True),
        ("dbrx", [split(LLAMA3), BYTES], False),
        ("bloom", [split(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), BYTES], False),
        ("falcon", FALCON, False),
        ("deepseek-coder", [*map(split, DEEPSEEK_CODER), pre_tokenizers.Digits(individual_digits=True), BYTES], False),
    ],
)
def test_pre_tokenizers_get_the_name_that_llama_cpp_gives_them(
    tmp_path: Path, name: str, steps: list[pre_tokenizers.PreTokenizer], ignore_merges: bool
) -> None:
    whole, alone, vocabulary = both_tokenizers(byte_level(*steps, ignore_merges=ignore_merges), tmp_path)
    assert (vocabulary.model, vocabulary.pre, vocabulary.notes) == ("gpt2", name, [])
    for text in ("abc 12341 IT'S it's\n\n  abcabc\t\u00e9", "1 12 123 1234", "  a   b  "):
        assert whole.encode(text) == alone.encode(text, add_special_tokens=False)


def test_an_unnamed_pre_tokenizer_is_noted(tmp_path: Path) -> None:
    library = byte_level(split(r"\p{L}{1,2}"), BYTES)
    vocabulary = from_description(json.loads(library.to_str()), tmp_path / "tokenizer.json")
    assert vocabulary.pre == "unknown"
    assert "llama.cpp" in vocabulary.notes[0]


def test_normalization_before_byte_level_bpe_is_noted(tmp_path: Path) -> None:
    """GPT-NeoX composes letters and marks."""
    library = byte_level(GPT2)
    library.normalizer = normalizers.NFC()
    whole, alone, vocabulary = both_tokenizers(library, tmp_path)
    assert vocabulary.notes == ["llama.cpp does not normalize texts for this tokenizer; its ids may differ"]
    assert whole.encode("e\u0301") == whole.encode("\u00e9") == alone.encode("\u00e9") != alone.encode("e\u0301")


def test_unigram(tmp_path: Path) -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("a", -3.0), ("b", -3.5), ("ab", -4.0)]
    pieces += [("\u2581a", -4.5), ("\u2581ab", -7.0), ("ba", -5.0)]
    library = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
    library.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    library.decoder = decoders.Metaspace()
    library.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    library.add_special_tokens(["<pad>", "</s>", "<unk>"])
    whole, alone, vocabulary = both_tokenizers(library, tmp_path)
    assert (vocabulary.model, vocabulary.roles["unknown"]) == ("t5", 2)
    assert vocabulary.flags["remove_extra_whitespaces"]
    for text in ("abba", "ab  ba ", "xaby", "", "a </s> b"):
        ids = whole.encode(text, add_special_tokens=False)
        assert ids == alone.encode(text, add_special_tokens=False)
        assert 1 not in ids
        assert whole.decode(ids) == alone.decode(ids)


def test_a_score_beyond_float32_is_named(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1e300)], unk_id=0))
    vocabulary = from_description(json.loads(library.to_str()), tmp_path / "tokenizer.json")
    with pytest.raises(ConversionError, match=r"score -1e\+300 of token 1"):
        vocabulary.metadata()


def test_word_level_is_for_edgeformer_alone(tmp_path: Path) -> None:
    library = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    vocabulary = from_description(json.loads(library.to_str()), tmp_path / "tokenizer.json")
    assert "only edgeformer" in vocabulary.notes[0]
    tokenizer = Tokenizer.from_metadata(vocabulary.metadata())
    assert tokenizer is not None
    assert tokenizer.encode("b c a") == [1, 2, 0]
    assert tokenizer.unk_token_id == 2
    assert tokenizer.decode([1, 0]) == "b a"
