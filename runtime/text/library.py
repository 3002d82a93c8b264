"""The tokenizers library over checked descriptions."""

from __future__ import annotations

import json
import marshal
import re
from _blake2 import blake2b  # hashlib would load OpenSSL
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..errors import InvalidInputError, ModelFormatError, quote
from ..host.forks import ForkSafeLock
from ..host.packages import required
from .charsmap import Charsmap
from .checks import ADDED_TOKEN_FLAGS, Spec, seal
from .located import LocatedTokens
from .pattern_cost import STEP_LIMIT
from .specification import SYMBOLS_IN_TEXT

if TYPE_CHECKING:
    import tokenizers

__all__ = ["LibraryEncoder", "library_errors"]

BPE_OPTIONS = (
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
)


@contextmanager
def library_errors(error: Exception) -> Iterator[None]:
    """Raise `error`, with the library's words, for anything the tokenizers library raises.

    It raises bare `Exception`, and for a panic in Rust a class under `BaseException` that it does not export.
    """
    try:
        yield
    except BaseException as cause:
        if type(cause) is Exception or type(cause).__name__ == "PanicException":
            error.args = (f"{error.args[0]}: {quote(str(cause), 200)}",)
            raise error from cause
        raise


class LibraryEncoder:
    """Two instances of the library: one sealed (see `seal`), made at once, and one that knows control tokens.

    Parameters
    ----------
    describe : callable
        Gives the description anew, for the second instance: to keep it would take more memory than either.
    spec : Spec
        The description for now.
    path : str
        The file's name, for messages.

    Raises
    ------
    ModelFormatError
        The library refuses the description.
    """

    def __init__(self, describe: Callable[[], Spec], spec: Spec, path: str) -> None:
        self._describe = describe
        self._path = path
        self._patience = spec.patience
        self._lock = ForkSafeLock()
        self._sealed = self._built(seal(spec))
        self._open: tokenizers.Tokenizer | None = None

    @classmethod
    def shared(cls, describe: Callable[[], Spec], spec: Spec, path: str) -> LibraryEncoder:
        """The encoder of a description; equal descriptions share one while it is in use.

        The library leaks 0.7 KB for every instance it makes, and a large vocabulary takes 30 MB.
        """
        # Version 2 of the format depends on the values alone.
        key = blake2b(marshal.dumps(spec.description, 2), digest_size=16).digest()
        encoder = _SHARED.get(key)
        return encoder if encoder is not None else _SHARED.setdefault(key, cls(describe, spec, path))

    def _built(self, description: dict[str, Any]) -> tokenizers.Tokenizer:
        with library_errors(ModelFormatError(self._path, None, "tokenizer", "cannot be built")):
            return _library(description)

    def encode(self, text: str, add_special_tokens: bool, parse_special: bool) -> list[int]:
        """Ids of a text; with `parse_special` it may spell control tokens."""
        ids: list[int] = self._encoded((text,), add_special_tokens, parse_special).ids
        return ids

    def encode_pieces(self, text: str) -> list[str]:
        """The pieces themselves, those that are not in the vocabulary as the text spells them; nothing around them."""
        pieces: list[str] = self._encoded((text,), False, False).tokens
        return pieces

    def encode_spans(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of each of these pieces in the characters of the text."""
        spans: list[tuple[int, int]] = self._encoded((text,), False, False).offsets
        return spans

    def encode_pair(self, text: str, text_pair: str, parse_special: bool) -> tuple[list[int], list[int]]:
        """Ids and token types of two texts, with the special tokens around them."""
        encoding = self._encoded((text, text_pair), True, parse_special)
        return encoding.ids, encoding.type_ids

    def locate(self, texts: tuple[str, ...], parse_special: bool) -> LocatedTokens:
        """Ids of a text or two with the special tokens around them, and where they come from."""
        found = self._encoded(texts, True, parse_special)
        return LocatedTokens(found.ids, found.type_ids, found.offsets, found.sequence_ids, found.word_ids)

    def _encoded(self, texts: tuple[str, ...], add_special_tokens: bool, parse_special: bool) -> tokenizers.Encoding:
        """Of a text, or of two."""
        library = self._opened() if parse_special else self._sealed
        steps = sum(self._patience.steps(text, partial(_normalized, library, text)) for text in texts)
        if steps > STEP_LIMIT:
            what = f"splitting it by this tokenizer's pattern may take {steps} steps, and at most {STEP_LIMIT} are made"
            raise InvalidInputError(f"the text cannot be encoded: {what}; split it where it may be split")
        with library_errors(InvalidInputError("the text cannot be encoded")):
            pair = texts[1] if len(texts) > 1 else None
            return library.encode(texts[0], pair, add_special_tokens=add_special_tokens)

    def _opened(self) -> tokenizers.Tokenizer:
        with self._lock:
            if self._open is None:
                self._open = self._built(self._describe().description)
            return self._open


_SHARED: WeakValueDictionary[bytes, LibraryEncoder] = WeakValueDictionary()


def _normalized(library: tokenizers.Tokenizer, text: str) -> str:
    return text if library.normalizer is None else str(library.normalizer.normalize_str(text))


def _library(description: dict[str, Any]) -> tokenizers.Tokenizer:
    """The library's instance. It takes the tables of BPE from Python: as text they would take three times as long and
    eight times the memory.
    """
    with required("tokenizers"):
        import tokenizers

    steps = _steps(description["normalizer"])
    in_text = description.get(SYMBOLS_IN_TEXT, False)
    if in_text or any(step.get("type") == "Precompiled" for step in steps):
        plain = {key: value for key, value in description.items() if key != SYMBOLS_IN_TEXT}
        library = _library({**plain, "normalizer": None})
        symbols = [token["content"] for token in description["added_tokens"] if in_text and token.get("normalized")]
        normalizer = tokenizers.normalizers.Sequence([_normalizer(step, symbols) for step in steps])
        if in_text:
            _set_for_texts_alone(library, normalizer)
        else:
            library.normalizer = normalizer
        return library
    model = description["model"]
    if model["type"] != "BPE":
        return tokenizers.Tokenizer.from_str(json.dumps(description))
    without_tables = {**description, "added_tokens": [], "model": {**model, "vocab": {}, "merges": []}}
    library = tokenizers.Tokenizer.from_str(json.dumps(without_tables))
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    options = {key: model[key] for key in BPE_OPTIONS if model.get(key) is not None}
    library.model = tokenizers.models.BPE(vocab=model["vocab"], merges=merges, **options)
    library.add_tokens([_added_token(token) for token in description["added_tokens"]])
    return library


def _steps(normalizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer, sequences dissolved."""
    if normalizer is None or normalizer.get("type") != "Sequence":
        return [] if normalizer is None else [normalizer]
    return [step for item in normalizer.get("normalizers", []) for step in _steps(item)]


def _normalizer(step: dict[str, Any], symbols: list[str]) -> tokenizers.normalizers.Normalizer:
    """A step as the library has it, but SentencePiece's tables, which it does not follow as SentencePiece does, and
    which leave `symbols` as they are.
    """
    import tokenizers

    if step.get("type") == "Precompiled":
        charsmap = Charsmap(step["precompiled_charsmap"])
        return tokenizers.normalizers.Normalizer.custom(_CharsmapStep(charsmap, symbols))
    alone = {"model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}, "normalizer": step}
    return tokenizers.Tokenizer.from_str(json.dumps(alone)).normalizer


class _Waiting:
    """A normalizer that does nothing until it is `ready`."""

    def __init__(self, normalizer: tokenizers.normalizers.Normalizer) -> None:
        self._normalizer, self.ready = normalizer, False

    def normalize(self, part: Any) -> None:
        if self.ready:
            self._normalizer.normalize(part)


def _set_for_texts_alone(library: tokenizers.Tokenizer, normalizer: tokenizers.normalizers.Normalizer) -> None:
    """Set a normalizer that does not see the added tokens, to which the library applies each that is set."""
    import tokenizers

    waiting = _Waiting(normalizer)
    library.normalizer = tokenizers.normalizers.Normalizer.custom(waiting)
    waiting.ready = True


class _CharsmapStep:
    """What the library calls for a part of a text."""

    def __init__(self, charsmap: Charsmap, symbols: list[str]) -> None:
        self._charsmap = charsmap
        longest_first = sorted(map(re.escape, symbols), key=len, reverse=True)
        self._symbol = re.compile(f"({'|'.join(longest_first)})") if symbols else None

    def normalize(self, part: Any) -> None:
        """Put the normalized text in place of the whole part."""
        text = part.normalized
        parts = self._symbol.split(text) if self._symbol else [text]
        parts[::2] = map(self._charsmap.normalize, parts[::2])
        normalized = "".join(parts)
        if normalized != text:
            part.replace(text, normalized)


def _added_token(token: dict[str, Any]) -> tokenizers.AddedToken:
    import tokenizers

    return tokenizers.AddedToken(token["content"], **{flag: token.get(flag, False) for flag in ADDED_TOKEN_FLAGS})
