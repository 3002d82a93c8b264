"""Texts taken apart into sentences and put together again."""

from __future__ import annotations

import sys

import pytest
from edgeformer.errors import MissingDependencyError
from edgeformer.text.sentences import Passage, cut_to_fit, split_sentences

TEXTS = [
    "",
    "  \n\n \t",
    "One. Two!  Three?",
    "  A title\n\nDr. Smith paid $3.50. He left.\r\n\tEnd.\n",
    "no end of a sentence",
    "a\x0bb\u2028c\x85d\rE. F.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_white_around_lines_is_kept(text: str) -> None:
    passage = Passage.of(text)
    whole = passage.joined(passage.sentences)
    assert whole.split() == text.split()
    assert whole.replace("  ", " ").strip(" ") == text.replace("!  T", "! T").replace("  ", " ").strip(" ")
    marked = passage.joined(["x"] * len(passage.sentences))
    assert [c for c in marked if c in "\n\r\t\x0b\u2028\x85"] == [c for c in text if c in "\n\r\t\x0b\u2028\x85"]


def test_sentences_are_those_that_a_reader_sees() -> None:
    line = 'Dr. Smith went to Washington. "Really?" she asked. It is 3.14 m long.'
    assert split_sentences(line) == ["Dr. Smith went to Washington.", '"Really?" she asked.', "It is 3.14 m long."]
    for code in ("de", "deu_Latn", "de_DE"):
        assert split_sentences("Am 3. Mai kam er. Gut.", code) == ["Am 3. Mai kam er.", "Gut."]
    assert split_sentences("今日は。元気です。", "jpn_Jpan") == ["今日は。", "元気です。"]


def test_sentences_are_joined_as_their_script_has_it() -> None:
    assert Passage.of("One. Two.\nThree.").joined(["一。", "二。", "三。"]) == "一。二。\n三。"
    assert Passage.of("一。二。").joined(["One.", "Two."]) == "One. Two."
    assert Passage.of("One. Two. Three.").joined(["", "b.", "c."]) == "b. c."
    assert Passage.of("One. Two. Three.").joined(["a.", "", "c."]) == "a. c."


@pytest.mark.parametrize("limit", [1, 3, 7, 40])
def test_what_does_not_fit_is_cut_between_words(limit: int) -> None:
    sentence = "the quick brown fox jumps over extraordinarily lazy dogs"
    pieces = cut_to_fit(sentence, lambda text: len(text) <= limit)
    assert all(len(piece) <= limit for piece in pieces)
    assert "".join(pieces) == sentence.replace(" ", "") or " ".join(pieces) == sentence or limit < 14
    assert "".join(pieces).replace(" ", "") == sentence.replace(" ", "")
    assert cut_to_fit("x", lambda text: False) == ["x"]


def test_a_passage_is_packed_into_as_few_texts_as_hold_it() -> None:
    passage = Passage.of("One two. Three four.\n\nFive six. Seven.")
    assert passage.packed(lambda text: len(text) <= 20) == ["One two. Three four.", "Five six. Seven."]
    assert passage.packed(lambda text: len(text) <= 30) == ["One two. Three four.", "Five six. Seven."]
    assert passage.packed(lambda text: True) == ["One two. Three four.\n\nFive six. Seven."]
    assert passage.packed(lambda text: False) == passage.sentences
    cut = passage.cut(lambda text: len(text) <= 8)
    assert cut.sentences == ["One two.", "Three", "four.", "Five", "six.", "Seven."]
    assert cut.joined([*"abcdef"]) == "a b c\n\nd e f"


def test_the_extra_is_named_where_the_splitter_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(MissingDependencyError, match=r"sentencex is not installed: pip install 'edgeformer\[text\]'"):
        split_sentences("One. Two.")
