"""The languages that a file names are read, checked and looked up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from edgeformer.errors import InvalidOptionError, ModelFormatError
from edgeformer.text.languages import Languages

GOOD: dict[str, Any] = {"ids": {"eng_Latn": 7, "fra_Latn": 8}, "source": "before", "target": "forced"}


def languages_of(value: Any, vocab_size: int = 10, source_size: int = 10) -> Languages | None:
    text = value if isinstance(value, (str, int)) else json.dumps(value)
    return Languages.from_metadata({"tokenizer.languages.json": text}, "model.gguf", vocab_size, source_size)


def test_codes_become_tokens() -> None:
    languages = languages_of(GOOD)
    assert languages is not None
    assert languages.token("target_language", "fra_Latn") == 8
    with pytest.raises(InvalidOptionError, match=r"target_language: the model has no language 'fra' .*fra_Latn"):
        languages.token("target_language", "fra")
    assert Languages.from_metadata({}, "model.gguf", 10, 10) is None


@pytest.mark.parametrize(("value", "message"), [
    (3, "is not a string"),
    ("[", "tokenizer.languages.json"),
    ({**GOOD, "ids": {}}, "an object with ids"),
    ({**GOOD, "ids": {"a": 10}}, "the token 10 of 'a' is outside"),
    ({**GOOD, "ids": {"a": True}}, "the token True"),
    ({**GOOD, "source": "behind"}, "source 'behind' is none of before, after, none"),
    ({**GOOD, "target": None}, "target None is none of"),
])  # fmt: skip
def test_what_is_damaged_is_named(value: Any, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        languages_of(value)


def test_a_token_before_the_source_is_of_the_sources_vocabulary() -> None:
    found = {"ids": {"fra": 12}, "source": "none", "target": "source"}
    assert languages_of(found, vocab_size=5, source_size=13) is not None
    with pytest.raises(ModelFormatError, match="outside"):
        languages_of({**found, "target": "forced"}, vocab_size=5, source_size=13)
