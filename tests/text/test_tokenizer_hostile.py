"""Descriptions made to break the tokenizer: each is refused by a named error, and nothing else comes out."""

from __future__ import annotations

import base64
import contextlib
import copy
from typing import Any

import pytest
import tokenizers
from edgeformer.errors import EdgeformerError, InvalidInputError, ModelFormatError, UnsupportedModelError
from edgeformer.text.charsmap import Charsmap, CharsmapError
from edgeformer.text.library import library_errors
from edgeformer.text.pattern import check_pattern
from edgeformer.text.tokenizer import TEXT_LIMIT
from hypothesis import given
from hypothesis import strategies as st
from support.descriptions import DESCRIPTION, changed, made


def test_the_description_itself_works() -> None:
    tokenizer = made(DESCRIPTION)
    assert tokenizer.encode("xb ab") == [2, 4, 2, 5]
    assert tokenizer.decode([2, 4, 3, 5]) == "ab\u2581ba"


SPECIAL = ("post_processor", "special_tokens", "</s>", "ids")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (changed("pre_tokenizer", "pattern", value={"Regex": "(a+)+$"}), "exponential"),
        (changed("pre_tokenizer", "pattern", value={"Regex": "(a|aa)*$"}), "exponential"),
        (changed("normalizer", "pattern", value={"Regex": "(a*)*"}), "exponential"),
        (changed("pre_tokenizer", "pattern", value={"Regex": 5}), "is not a pattern"),
        (changed("normalizer", "content", value="a" * 2000), "times longer"),
        (changed("normalizer", "type", value={}), "is not a name"),
        (changed("normalizer", value={"type": "Sequence", "normalizers": [5]}), "is not a list of objects"),
        (changed("pre_tokenizer", value={"type": "Sequence", "pretokenizers": 5}), "is not a list of objects"),
        (
            changed("model", value={"type": "WordPiece", "vocab": {"a": 0}, "continuing_subword_prefix": 0.5}),
            "is not a string",
        ),
        (changed("model", value={"type": "WordPiece", "vocab": {}, "max_input_chars_per_word": 10**9}), "1 to 200"),
        (changed("pre_tokenizer", value={"type": "FixedLength", "length": 0}), "number of characters"),
        (
            changed("normalizer", value={"type": "Sequence", "normalizers": [DESCRIPTION["normalizer"]] * 300}),
            "too many",
        ),
        (changed("normalizer", value={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "impossible size"),
        (changed("decoder", value="Fuse"), "is not an object"),
        (changed("model", "vocab", "a", value=-1), "out of range"),
        (changed("model", "vocab", "a", value=2**31), "out of range"),
        (changed("model", "vocab", "a", value=10**30), "out of range"),
        (changed("model", "vocab", "a", value=True), "out of range"),
        (changed("model", "vocab", "a", value=1), "have the same id"),
        (changed("model", "vocab", value=None), "model.vocab"),
        (changed("model", "merges", value=[["a", "zz"]]), "not in the vocabulary"),
        (changed("model", "merges", value=[["", "a"]]), "is not two pieces"),
        (changed("model", "merges", value=["a b c"]), "is not two pieces"),
        (changed("model", "merges", value=[["b", "b"]]), "cannot be built"),
        (changed("model", "continuing_subword_prefix", value="##"), "prefix"),
        (changed("model", "unk_token", value=["a"]), "unk_token"),
        (changed("model", value=[]), "model"),
        (changed("added_tokens", value=[{"content": "</s>"}]), "out of range"),
        (changed("added_tokens", value=[{"id": 5}]), "is not a token"),
        (changed("added_tokens", 0, "id", value=1 << 40), "out of range"),
        (changed(*SPECIAL, value=[6]), "out of range"),
        (changed(*SPECIAL, value=[-1]), "out of range"),
        (changed("post_processor", "special_tokens", value={}), "not among the special tokens"),
        (changed("post_processor", "single", value=DESCRIPTION["post_processor"]["single"] * 200), "short list"),
        (changed("post_processor", value={"type": "BertProcessing", "sep": ["s", 99], "cls": ["c", 0]}), "not a token"),
        ("{", "Expecting property name"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": ' + "9" * 5000 + "}", "5000 digits"),
        ('{"a": NaN}', "NaN"),
        ("[" * 100_000, "nested more than"),
        ("5", "model"),
    ],
)
def test_each_fault_is_named(description: Any, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        made(description)
    assert "hostile.gguf" in str(caught.value)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (changed("model", "type", value="Neural"), "'Neural'"),
        (changed("model", "dropout", value=0.1), "dropout"),
        (changed("decoder", value={"type": "CTC"}), "CTC"),
    ],
)
def test_what_is_not_supported_is_named(description: Any, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        made(description)


def test_merges_in_a_circle_end() -> None:
    """Every merge makes a text shorter by one piece, so none can go on for ever."""
    description = changed("model", "vocab", value={"a": 0, "b": 1, "ab": 2, "ba": 3, "\u2581": 4, "aba": 6, "abab": 7})
    description["model"]["merges"] = [["a", "b"], ["b", "a"], ["ab", "a"], ["a", "ba"], ["ab", "ab"]]
    assert made(description).decode(made(description).encode("abab" * 1000)) == "abab" * 1000


def test_more_added_tokens_than_any_model_has_are_refused() -> None:
    with pytest.raises(ModelFormatError, match="added_tokens"):
        made(changed("added_tokens", value=[0] * ((1 << 20) + 1)))


def test_truncation_and_padding_of_the_file_are_not_applied() -> None:
    description = copy.deepcopy(DESCRIPTION)
    description["truncation"] = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    description["padding"] = {"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_id": 0, "pad_token": "a"}
    assert made(description).encode("ab ab ab") == [2, 4, 2, 4, 2, 5]


def test_a_control_token_cannot_be_built_by_merges() -> None:
    description = changed("added_tokens", 0, "content", value="ab")
    description["added_tokens"][0]["id"] = 2
    description["post_processor"] = None
    tokenizer = made(description)
    assert tokenizer.encode("abab") == [0, 3, 1]
    assert tokenizer.encode("ab", parse_special=True) == [2]


def test_a_control_piece_of_a_unigram_model_cannot_be_spelled() -> None:
    vocabulary = [["<unk>", 0.0], ["</s>", 0.0], ["<", -5.0], ["/", -5.0], ["s", -5.0], [">", -5.0]]
    description = changed("model", value={"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False})
    description |= {"normalizer": None, "pre_tokenizer": None, "post_processor": None}
    description["added_tokens"][0]["id"] = 1
    tokenizer = made(description)
    assert tokenizer.encode("</s>") == [2, 3, 4, 5]
    assert tokenizer.encode("</s>", parse_special=True) == [1]


def test_a_panic_of_the_library_is_an_error() -> None:
    """Were a way to make it panic left, then an ordinary error would come out."""
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex("(a+)+$"), "isolated")
    error = InvalidInputError("the text cannot be encoded")
    with pytest.raises(InvalidInputError, match=r"cannot be encoded: .*retry-limit"), library_errors(error):
        split.pre_tokenize_str("a" * 40 + "b")


def test_other_exceptions_pass_through() -> None:
    with pytest.raises(KeyboardInterrupt), library_errors(InvalidInputError("the text cannot be encoded")):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*",
        "((a)+b?)*",
        "(a|b)+",
        "(?:a{1,3})+",
        "(a+){2,}",
        "(?=(a+)+)",
        r"(a)\1",
        "a*a*a*a*a*",
        "(?(1)a)",
        "(" * 40,
        "(?:a{1,1000}){1,8}b",
        "a{1,100}a{1,100}b",
    ],
)
def test_unsafe_patterns(pattern: str) -> None:
    assert check_pattern(pattern) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"\s+(?!\S)|\s+", r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^(\s|[.,!?]])]+", r"(?i:'s|'t)|\p{N}{1,3}"),
        *("[]a]+(?<!x)", "a{", "(?:ab)+", r"\p{N}{1,3}(?=(?:\p{N}{3})*\b)"),
    ],
)
def test_safe_patterns(pattern: str) -> None:
    assert check_pattern(pattern) is None


@pytest.mark.parametrize("blob", [None, 5, "!", "", "AAAA", "AAQAAA=="])
def test_charsmaps_that_lead_nowhere(blob: Any) -> None:
    with pytest.raises(CharsmapError):
        Charsmap(blob)


@given(st.binary(max_size=1024), st.binary(max_size=64))
def test_any_charsmap_is_read_or_refused(start: bytes, replacements: bytes) -> None:
    """Tries that lead in circles among them."""
    trie = (start * 1024)[:1024] if start else bytes(1024)
    blob = base64.b64encode((1024).to_bytes(4, "little") + trie + replacements).decode()
    with contextlib.suppress(CharsmapError):
        Charsmap(blob).normalize("a text \u00e9")


NODES: list[tuple[Any, ...]] = [
    ("model", "type"),
    ("model",), ("model", "vocab"), ("model", "merges"), ("model", "merges", 0), ("model", "unk_token"),
    ("added_tokens",), ("added_tokens", 0), ("added_tokens", 0, "id"), ("normalizer",), ("normalizer", "pattern"),
    ("normalizer", "content"), ("pre_tokenizer",), ("pre_tokenizer", "behavior"), ("post_processor",), ("decoder",),
    ("post_processor", "single"), ("post_processor", "single", 1), ("post_processor", "special_tokens"), SPECIAL,
]  # fmt: skip
VALUES = st.sampled_from(
    [None, -1, 0, 2**64, 1.5, "", "a", "(a+)+$", [], {}, True, [[]], {"type": "Sequence"}, "\u2581"]
)


@given(st.sampled_from(NODES), VALUES, st.text(alphabet="ab x</s>", max_size=10))
def test_any_value_anywhere_works_or_is_refused(node: tuple[Any, ...], value: Any, text: str) -> None:
    try:
        tokenizer = made(changed(*node, value=value))
        tokenizer.decode(tokenizer.encode(text))
    except EdgeformerError:
        pass


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000, "\u65e5" * 300_000])
def test_a_million_equal_characters(text: str) -> None:
    assert made(DESCRIPTION).encode(text)[-1] == 5


@pytest.mark.parametrize("text", ["a" * 10_000_000, "\u65e5" * (TEXT_LIMIT // 3 + 1)])
def test_texts_beyond_the_bound_are_refused_at_once(text: str) -> None:
    with pytest.raises(InvalidInputError, match="too long"):
        made(DESCRIPTION).encode(text)
