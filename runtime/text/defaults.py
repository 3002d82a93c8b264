"""How a model's author generates: the `generation_config.json` that the file carries, checked.

Every key of it is honoured, known to be harmless, or named in `GenerationDefaults.unsupported`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidOptionError, ModelFormatError, quote
from ..files.json_file import parse_json

__all__ = ["GENERATION_KEYS", "GenerationDefaults", "checked_integer", "checked_real", "settings_of_config"]

METADATA_KEY = "general.generation.json"


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text))


HONOURED = _words(
    """
    do_sample temperature top_k top_p min_p typical_p repetition_penalty no_repeat_ngram_size bad_words_ids
    sequence_bias min_length min_new_tokens max_length max_new_tokens suppress_tokens begin_suppress_tokens num_beams
    length_penalty bos_token_id eos_token_id forced_bos_token_id forced_eos_token_id
    """
)
# The decoder's start token has a key of its own in the file; beam search ends as `early_stopping` does unless told
# otherwise; the rest is bookkeeping, what transformers returns, and how it computes.
HARMLESS = _words(
    """
    decoder_start_token_id early_stopping pad_token_id transformers_version
    _from_model_config _commit_hash output_attentions output_hidden_states output_scores output_logits
    return_dict_in_generate remove_invalid_values low_memory use_cache cache_implementation cache_config max_cache_len
    compile_config disable_compile continuous_batching_config prefill_chunk_size use_mtp is_assistant
    num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold assistant_early_exit
    assistant_lookbehind target_lookbehind assistant_ensemble_weight prompt_lookup_num_tokens
    max_matching_ngram_size speculation_type
    """
)
# What else transformers knows, most of which edgeformer does not do, by the number that has no effect; null, false and
# what is empty never have one. Any other key is unknown.
WITHOUT_EFFECT: Mapping[str, int | None] = {
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens"), 0),
    **dict.fromkeys(("penalty_alpha", "epsilon_cutoff", "eta_cutoff", "diversity_penalty"), 0),
    **dict.fromkeys(("num_beam_groups", "num_return_sequences", "typical_p", "guidance_scale"), 1),
    "encoder_repetition_penalty": 1,
    "max_length": 20,  # what transformers takes where nobody said anything
    **dict.fromkeys(("force_words_ids", "forced_decoder_ids")),
    **dict.fromkeys(("exponential_decay_length_penalty", "constraints", "dola_layers")),
    **dict.fromkeys(("stop_strings", "max_time", "top_h", "watermarking_config", "renormalize_logits")),
    "token_healing": None,
}
GENERATION_KEYS = HONOURED | HARMLESS | WITHOUT_EFFECT.keys()
"""All keys of generation that transformers knows; its older versions wrote them into `config.json`."""


@dataclass(frozen=True)
class GenerationDefaults:
    """What the model's author recommends: the `generation_config.json` that the file carries.

    Its greatest lengths are for encoder-decoders: a decoder's text goes on to its end token or to the end of the
    context.

    Attributes
    ----------
    sample : bool
        Whether the author samples (``do_sample``). If not, generation is greedy unless the caller asks for sampling.
    bos_token_id : int or None
        What an empty prompt begins with, where the tokenizer has no such token.
    forced_bos_token_id : int or None
        What an encoder-decoder's decoder is given after its start token (a language, for some translation models).
    forced_eos_token_id : int or None
        The only token that a text may have in the last place that it has room for: it ends there.
    end_token_ids : frozenset of int
        Tokens that end a text, besides those of the tokenizer.
    suppressed_token_ids, begin_suppressed_token_ids : frozenset of int
        Tokens that are never generated, and those that do not come first.
    bad_words : tuple of tuples of int
        Sequences that are never completed (``bad_words_ids``).
    sequence_bias : tuple of (tuple of int, float)
        What is added to the logit of a sequence's last token where the others precede it.
    min_tokens, min_length : int
        No end token comes before so many new ones (``min_new_tokens``), or so many with the prompt.
    max_new_tokens, max_length : int
        At most so many new ones, or so many with what the decoder is given first; 0: no such limit.
    unsupported : tuple of str
        Keys that are set in the file and not honoured.
    """

    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_tokens: int = 0
    min_length: int = 0
    max_new_tokens: int = 0
    max_length: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    bos_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    end_token_ids: frozenset[int] = frozenset()
    suppressed_token_ids: frozenset[int] = frozenset()
    begin_suppressed_token_ids: frozenset[int] = frozenset()
    bad_words: tuple[tuple[int, ...], ...] = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    unsupported: tuple[str, ...] = ()

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], path: str, vocab_size: int, prefix: str) -> GenerationDefaults:
        """Read ``general.generation.json``; absent means greedy.

        The start and end token under `prefix` count too: a file without a vocabulary has no tokenizer to name them.

        Parameters
        ----------
        metadata : mapping
            The file's.
        path : str
            For messages.
        vocab_size : int
            Columns of the model's logits.
        prefix : str
            Of the generated side's vocabulary, e.g. ``"tokenizer.ggml."``.

        Raises
        ------
        ModelFormatError
            If the value is not a JSON object, one of its numbers is of the wrong type or out of range, or a token id is
            not in the vocabulary.
        """
        defaults = cls._from_json(metadata.get(METADATA_KEY), path, vocab_size)
        roles: dict[str, int | None] = {}
        for key in (prefix + "bos_token_id", prefix + "eos_token_id"):
            try:
                value = metadata.get(key)
                roles[key] = None if value is None else checked_integer("its value", value, 0, vocab_size - 1)
            except InvalidOptionError as error:
                raise ModelFormatError(path, None, key, str(error)) from None
        start, end = roles.values()
        ends = defaults.end_token_ids | ({end} if end is not None else set())
        start = start if defaults.bos_token_id is None else defaults.bos_token_id
        return replace(defaults, bos_token_id=start, end_token_ids=ends)

    @classmethod
    def _from_json(cls, text: Any, path: str, vocab_size: int) -> GenerationDefaults:
        if text is None:
            return cls()
        if not isinstance(text, str):
            raise ModelFormatError(path, None, METADATA_KEY, f"{quote(text)} is not a string")
        config = parse_json(text.encode(), path, None, METADATA_KEY, ModelFormatError)
        try:
            if not isinstance(config, dict):
                raise InvalidOptionError("not a JSON object")
            defaults = cls._from_config(config)
            defaults._check_ids(vocab_size)
            return defaults
        except (ValueError, TypeError) as error:
            raise ModelFormatError(path, None, METADATA_KEY, quote(str(error), 200)) from error

    def _check_ids(self, vocab_size: int) -> None:
        for name, tokens in (
            ("bos_token_id", {self.bos_token_id}),
            ("forced_bos_token_id", {self.forced_bos_token_id}),
            ("forced_eos_token_id", {self.forced_eos_token_id}),
            ("eos_token_id", self.end_token_ids),
            ("suppress_tokens", self.suppressed_token_ids),
            ("begin_suppress_tokens", self.begin_suppressed_token_ids),
            ("bad_words_ids", {token for words in self.bad_words for token in words}),
            ("sequence_bias", {token for words, _ in self.sequence_bias for token in words}),
        ):
            for token in tokens:
                if token is not None and token >= vocab_size:
                    raise InvalidOptionError(f"{name}: token id {token} is outside the vocabulary 0..{vocab_size - 1}")

    @classmethod
    def _from_config(cls, config: dict[str, Any]) -> GenerationDefaults:
        def get(name: str, default: Any) -> Any:
            value = config.get(name)
            return default if value is None else value

        return cls(
            sample=bool(get("do_sample", False)),
            temperature=checked_real("temperature", get("temperature", 1.0), 0.0),
            top_k=checked_integer("top_k", get("top_k", 0), 0),
            top_p=checked_real("top_p", get("top_p", 1.0), 0.0, 1.0),
            min_p=checked_real("min_p", get("min_p", 0.0), 0.0, 1.0),
            typical_p=checked_real("typical_p", get("typical_p", 1.0), 0.0, 1.0),
            repeat_penalty=checked_real("repetition_penalty", get("repetition_penalty", 1.0), 1e-6),
            no_repeat_ngram_size=checked_integer("no_repeat_ngram_size", get("no_repeat_ngram_size", 0), 0),
            min_tokens=checked_integer("min_new_tokens", get("min_new_tokens", 0), 0),
            min_length=checked_integer("min_length", get("min_length", 0), 0),
            max_new_tokens=checked_integer("max_new_tokens", get("max_new_tokens", 0), 0),
            max_length=_max_length(get("max_length", 0)),
            num_beams=checked_integer("num_beams", get("num_beams", 1), 1),
            length_penalty=checked_real("length_penalty", get("length_penalty", 1.0), -10.0, 10.0),
            bos_token_id=_optional_id("bos_token_id", get("bos_token_id", None)),
            forced_bos_token_id=_optional_id("forced_bos_token_id", get("forced_bos_token_id", None)),
            forced_eos_token_id=_optional_id("forced_eos_token_id", get("forced_eos_token_id", None)),
            end_token_ids=_ids("eos_token_id", get("eos_token_id", [])),
            suppressed_token_ids=_ids("suppress_tokens", get("suppress_tokens", [])),
            begin_suppressed_token_ids=_ids("begin_suppress_tokens", get("begin_suppress_tokens", [])),
            bad_words=tuple(_sequence("bad_words_ids", words) for words in _listed("bad_words_ids", config)),
            sequence_bias=tuple(map(_biased, _listed("sequence_bias", config))),
            unsupported=tuple(_not_honoured(config)),
        )


def settings_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of generation in a `config.json` that have an effect, for folders without `generation_config.json`."""
    named = set(_not_honoured({key: config[key] for key in config.keys() & GENERATION_KEYS}))
    without = WITHOUT_EFFECT
    return {
        key: value
        for key, value in config.items()
        if value is not None and key in HONOURED | named and not (key in without and value == without[key])
    }


def _not_honoured(config: Mapping[str, Any]) -> list[str]:
    """Keys that may have an effect which generating here does not have, in the file's order."""
    found = []
    for key, value in config.items():
        nothing = value is None or value is False or value in ([], {}) or value == WITHOUT_EFFECT.get(key)
        if key not in HONOURED | HARMLESS and not nothing:
            found.append(key)
    return found


def checked_integer(name: str, value: Any, low: int, high: int = 2**31 - 1) -> int:
    """The integer `value` of the option `name`. Raises InvalidOptionError for another type, or out of [low, high]."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise InvalidOptionError(f"{name}: an integer is needed, not {quote(value)}")
    if not low <= number <= high:
        raise InvalidOptionError(f"{name}: from {low} to {high} is possible, not {quote(number)}")
    return number


def checked_real(name: str, value: Any, low: float, high: float = 1e6) -> float:
    """The number `value` of the option `name`. Raises InvalidOptionError for another type, or out of [low, high]."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        raise InvalidOptionError(f"{name}: a number is needed, not {quote(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond what a float holds
        number = math.inf
    if not (math.isfinite(number) and low <= number <= high):
        raise InvalidOptionError(f"{name}: from {low:g} to {high:g} is possible, not {quote(value)}")
    return number


def _ids(name: str, value: Any) -> frozenset[int]:
    values = value if isinstance(value, list) else [value]
    # transformers writes -1 for "none" in some files.
    return frozenset(checked_integer(name, item, -1) for item in values) - {-1}


def _max_length(value: Any) -> int:
    length = checked_integer("max_length", value, 0)
    return 0 if length == WITHOUT_EFFECT["max_length"] else length


def _listed(name: str, config: Mapping[str, Any]) -> list[Any]:
    """The list under a key that may be missing or null."""
    value = config.get(name)
    if value is not None and not isinstance(value, list):
        raise InvalidOptionError(f"{name}: a list is needed, not {quote(value)}")
    return value or []


def _sequence(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidOptionError(f"{name}: lists of ids are needed, not {quote(value)}")
    return tuple(checked_integer(name, item, 0) for item in value)


def _biased(value: Any) -> tuple[tuple[int, ...], float]:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidOptionError(f"sequence_bias: pairs of ids and a number are needed, not {quote(value)}")
    return _sequence("sequence_bias", value[0]), checked_real("sequence_bias", value[1], -1e6)


def _optional_id(name: str, value: Any) -> int | None:
    ids = sorted(_ids(name, [] if value is None else value))
    return ids[0] if ids else None
