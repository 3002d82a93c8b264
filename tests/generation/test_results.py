"""Results answer as attributes, as items and as plain JSON."""

from __future__ import annotations

import json
import pickle

import pytest
from edgeformer.generation.results import (
    GenerationChunk,
    GenerationResult,
    Hypothesis,
    Timings,
    TokenLogprob,
    Usage,
    peak_memory_bytes,
)


@pytest.fixture
def result() -> GenerationResult:
    logprob = TokenLogprob(7, "x", -0.5, (TokenLogprob(8, "y", -1.0),))
    return GenerationResult(
        text="x",
        token_ids=[7],
        finish_reason="stop",
        usage=Usage(3, 2),
        timings=Timings(1.0, 2.0, 3.0, 4.0, 5.0, None),
        logprobs=[logprob],
        hypotheses=[Hypothesis("x", [7], -0.25, -0.5, "stop")],
    )


def test_by_attribute_and_by_item(result):
    assert result["text"] == result.text == str(result) == "x"
    assert result["usage"]["prompt_tokens"] == 3
    assert result.usage.total_tokens == 5
    assert result["hypotheses"][0]["score"] == -0.25
    assert "text" in result
    assert "words" not in result
    for missing in ("words", "keys", "__class__"):
        with pytest.raises(KeyError):
            result[missing]


def test_as_a_dictionary(result):
    assert dict(result)["usage"] is result.usage
    assert list(result) == list(result.keys())
    assert len(result) == len(list(result))
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["logprobs"][0]["top"][0]["token"] == "y"
    assert plain["timings"]["peak_memory_bytes"] is None


def test_results_cannot_be_changed_and_travel(result):
    with pytest.raises(AttributeError):
        result.text = "y"
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_chunk_prints_as_its_text():
    assert str(GenerationChunk("abc", [1])) == "abc"


def test_peak_memory_grows_with_what_is_used():
    before = peak_memory_bytes()
    assert before is not None
    block = b"x" * (64 << 20)
    assert peak_memory_bytes() >= min(before + (32 << 20), len(block))
