"""The languages of a model that translates between many: their tokens, and where these stand."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from ..errors import InvalidOptionError, ModelFormatError, quote
from ..files.json_file import parse_json

__all__ = ["Languages"]

LANGUAGES_KEY = "tokenizer.languages.json"
Place = Literal["before", "after", "none"]
TargetPlace = Literal["forced", "start", "source"]


@dataclass(frozen=True)
class Languages:
    """What `translate` needs to be told languages.

    Attributes
    ----------
    ids : mapping of str to int
        A token by the code of its language, e.g. ``"fra_Latn"``, ``"fr_XX"``, ``"fr"``.
    source : {"before", "after", "none"}
        Where the source's language stands: before the source's tokens, after their end token, nowhere.
    target : {"forced", "start", "source"}
        Where the target's stands: after the decoder's start token, in its place, or before the source's tokens.
    """

    ids: Mapping[str, int]
    source: Place
    target: TargetPlace

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], path: str, vocab_size: int, source_vocab_size: int
    ) -> Languages | None:
        """Read ``tokenizer.languages.json``; absent means none. Raises ModelFormatError where it is damaged."""
        text = metadata.get(LANGUAGES_KEY)
        if text is None:
            return None

        def refuse(what: str) -> ModelFormatError:
            return ModelFormatError(path, None, LANGUAGES_KEY, what)

        if not isinstance(text, str):
            raise refuse(f"{quote(text)} is not a string")
        found = parse_json(text.encode(), path, None, LANGUAGES_KEY, ModelFormatError)
        if not isinstance(found, dict) or not isinstance(found.get("ids"), dict) or not found["ids"]:
            raise refuse("an object with ids, an object of tokens by language, is needed")
        limit = source_vocab_size if found.get("target") == "source" else min(vocab_size, source_vocab_size)
        for code, token in found["ids"].items():
            if type(token) is not int or not 0 <= token < limit:
                raise refuse(f"the token {quote(token)} of {quote(code)} is outside the vocabulary")
        for key, places in (("source", get_args(Place)), ("target", get_args(TargetPlace))):
            if found.get(key) not in places:
                raise refuse(f"{key} {quote(found.get(key))} is none of {', '.join(places)}")
        return cls(found["ids"], cast("Place", found["source"]), cast("TargetPlace", found["target"]))

    def token(self, option: str, code: Any) -> int:
        """The token of a language; `option` names it in the error. Raises InvalidOptionError for an unknown code."""
        if isinstance(code, str) and code in self.ids:
            return self.ids[code]
        near = difflib.get_close_matches(str(code), self.ids, 3) or sorted(self.ids)[:3]
        what = f"the model has no language {quote(code)} among its {len(self.ids)}; it has {', '.join(near)}"
        raise InvalidOptionError(f"{option}: {what}{', ...' if len(self.ids) > len(near) else ''}")
