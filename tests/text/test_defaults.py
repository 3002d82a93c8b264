"""How the author generates: every key of generation is honoured, harmless, or named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from edgeformer.errors import InvalidOptionError, ModelFormatError
from edgeformer.text.defaults import GENERATION_KEYS, GenerationDefaults, checked_real, settings_of_config

GGML = "tokenizer.ggml."


def defaults(config: dict[str, Any] | None = None, **metadata: Any) -> GenerationDefaults:
    entries = {} if config is None else {"general.generation.json": json.dumps(config)}
    return GenerationDefaults.from_metadata({**entries, **metadata}, "model.gguf", 50, GGML)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"min_new_tokens": 1, "no_repeat_ngram_size": 1, "begin_suppress_tokens": [4]}, []),
        ({"encoder_no_repeat_ngram_size": 1}, ["encoder_no_repeat_ngram_size"]),
        ({"no_repeat_ngram_size": 0, "typical_p": 1.0, "num_beam_groups": 1, "min_length": 0}, []),
        ({"forced_eos_token_id": 2, "renormalize_logits": True}, ["renormalize_logits"]),
        ({"exponential_decay_length_penalty": [3, 1.1]}, ["exponential_decay_length_penalty"]),
        ({"encoder_repetition_penalty": 1.2}, ["encoder_repetition_penalty"]),
        ({"diversity_penalty": 0.5}, ["diversity_penalty"]),
        ({"diversity_penalty": 0.0, "encoder_repetition_penalty": 1.0, "renormalize_logits": False}, []),
        ({"a_key_of_tomorrow": 0.5}, ["a_key_of_tomorrow"]),
        ({"a_key_of_tomorrow": None}, []),
        ({"max_length": 448, "use_cache": True, "pad_token_id": 3, "transformers_version": "5.0"}, []),
        ({"bad_words_ids": [[1], [2, 3]], "sequence_bias": [[[1, 2], 0.5]], "min_length": 3}, []),
    ],
)  # fmt: skip
def test_every_key_is_honoured_harmless_or_named(config: dict[str, Any], named: list[str]) -> None:
    assert list(defaults(config).unsupported) == named


@pytest.mark.parametrize(("config", "length"), [({"max_length": 200}, 200), ({"max_length": 20}, 0), ({}, 0)])
def test_the_length_that_transformers_takes_by_default_is_none(config: dict[str, Any], length: int) -> None:
    assert defaults(config).max_length == length


def test_every_key_that_transformers_knows_is_known_here() -> None:
    """Of transformers 5.23's GenerationConfig().to_dict(), and older versions' keys."""
    transformers = pytest.importorskip("transformers")
    assert transformers.GenerationConfig().to_dict().keys() <= GENERATION_KEYS


def test_start_and_end_of_a_file_without_a_vocabulary() -> None:
    found = defaults(None, **{GGML + "bos_token_id": 1, GGML + "eos_token_id": 2})
    assert (found.bos_token_id, found.end_token_ids) == (1, {2})
    more = {GGML + "bos_token_id": 1, GGML + "eos_token_id": 3}
    found = defaults({"bos_token_id": 7, "eos_token_id": [2, 9]}, **more)
    assert (found.bos_token_id, found.end_token_ids) == (7, {2, 3, 9})
    for wrong in (50, -1, "x", True):
        with pytest.raises(ModelFormatError, match="eos_token_id"):
            defaults(None, **{GGML + "eos_token_id": wrong})


def test_settings_in_a_config_are_those_with_an_effect() -> None:
    config = {"hidden_size": 64, "num_beams": 4, "eos_token_id": [2, 298], "max_length": 20, "top_k": None,
              "no_repeat_ngram_size": 3, "diversity_penalty": 0.0, "use_cache": True}  # fmt: skip
    assert settings_of_config(config) == {"num_beams": 4, "eos_token_id": [2, 298], "no_repeat_ngram_size": 3}


def test_an_integer_beyond_float64_is_an_option_out_of_range() -> None:
    with pytest.raises(InvalidOptionError, match="temperature"):
        checked_real("temperature", 10**400, 0.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"bad_words_ids": [[1], 2]}, "bad_words_ids: lists of ids"),
        ({"bad_words_ids": [[]]}, "bad_words_ids: lists of ids"),
        ({"bad_words_ids": [[1, 50]]}, "bad_words_ids: token id 50 is outside"),
        ({"sequence_bias": [[[1, 50], 1.0]]}, "sequence_bias: token id 50 is outside"),
        ({"sequence_bias": {"1": 2}}, "sequence_bias: a list is needed"),
        ({"sequence_bias": [[[1]]]}, "sequence_bias: pairs"),
        ({"sequence_bias": [[[1], "much"]]}, "sequence_bias: a number"),
        ({"begin_suppress_tokens": [50]}, "begin_suppress_tokens: token id 50"),
        ({"typical_p": 1.5}, "typical_p: from 0 to 1"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size: from 0"),
        ({"min_length": "long"}, "min_length: an integer"),
    ],
)
def test_settings_that_make_no_sense_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        defaults(config)
