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
        ({"min_new_tokens": 1}, ["min_new_tokens"]),  # an end token may not come first
        ({"no_repeat_ngram_size": 1}, ["no_repeat_ngram_size"]),  # no token twice
        ({"no_repeat_ngram_size": 0, "typical_p": 1.0, "num_beam_groups": 1, "min_length": 0}, []),
        ({"forced_eos_token_id": 2, "renormalize_logits": True}, ["forced_eos_token_id", "renormalize_logits"]),
        ({"exponential_decay_length_penalty": [3, 1.1]}, ["exponential_decay_length_penalty"]),
        ({"encoder_repetition_penalty": 1.2}, ["encoder_repetition_penalty"]),
        ({"diversity_penalty": 0.5}, ["diversity_penalty"]),
        ({"diversity_penalty": 0.0, "encoder_repetition_penalty": 1.0, "renormalize_logits": False}, []),
        ({"a_key_of_tomorrow": 0.5}, ["a_key_of_tomorrow"]),
        ({"a_key_of_tomorrow": None}, []),
        ({"max_length": 448, "use_cache": True, "pad_token_id": 3, "transformers_version": "5.0"}, []),
        ({"bad_words_ids": [[1], [2, 3]]}, ["bad_words_ids"]),
    ],
)  # fmt: skip
def test_every_key_is_honoured_harmless_or_named(config: dict[str, Any], named: list[str]) -> None:
    assert list(defaults(config).unsupported) == named


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
