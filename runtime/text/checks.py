"""Checks of a `tokenizer.json` before the tokenizers library sees it.

That library is written in Rust and trusts its input: a missing template token or a pattern that backtracks without
end makes it panic and print, a chain of replacements makes it grow without bound. So a description from a file is
parsed and bounded here first, and only then handed over.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ..errors import ModelFormatError, UnsupportedModelError, quote
from .charsmap import Charsmap, CharsmapError
from .pattern import check_pattern
from .pattern_cost import STEP_LIMIT, UnevenPart, steps_over, steps_over_any, uneven_parts

__all__ = ["ADDED_TOKEN_FLAGS", "PIECE_LIMIT", "Patience", "Spec", "seal"]

PIECE_LIMIT = 1 << 22  # tokens; the largest published vocabularies have some 260,000
ADDED_LIMIT = 1 << 20
ID_GAP = 1 << 16  # ids that may be unused, so that one huge id cannot ask for a huge table
ADDED_TOKEN_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
WORD_LIMIT = 200  # characters of a word that WordPiece takes apart; the published vocabularies say 100
NODE_LIMIT = 256  # normalizers, pre-tokenizers, template pieces
GROWTH_LIMIT = 1024  # how many times longer a chain of replacements may make a text


@dataclass
class Patience:
    """Parts of patterns whose time is weighed against each text, and how much longer the normalizer may make a text."""

    of_normalizer: list[UnevenPart] = field(default_factory=list)
    of_splits: list[UnevenPart] = field(default_factory=list)
    growth: int = 1

    def steps(self, text: str, normalized: Callable[[], str]) -> int:
        """At most so many steps does matching take over a text; `normalized` gives it as the splits see it."""
        steps = sum(steps_over_any(part, len(text) * self.growth) for part in (*self.of_normalizer, *self.of_splits))
        if steps <= STEP_LIMIT or not self.of_splits:
            return steps  # a short text needs no closer look
        seen = normalized()
        return sum(steps_over(part, seen) for part in self.of_splits) + sum(
            steps_over_any(part, len(text) * self.growth) for part in self.of_normalizer
        )


@dataclass
class Spec:
    """A checked `tokenizer.json`: the library's description, and the table of its pieces.

    Attributes
    ----------
    description : dict
        As parsed, without truncation and padding (those are the caller's business).
    pieces : list of str or None
        Piece by token id; None where an id is unused.
    control : set of int
        Ids that only the API makes, never the user's text.
    patience : Patience
        What bounds the time that a text takes.
    """

    description: dict[str, Any]
    pieces: list[str | None]
    control: set[int]
    patience: Patience

    @classmethod
    def checked(cls, description: Any, path: str, field: str) -> Spec:
        """Check a parsed description.

        Raises
        ------
        ModelFormatError
            Where a part is missing, out of range or unreasonable.
        UnsupportedModelError
            For a model type that is not BPE, Unigram, WordPiece or WordLevel.
        """
        return _Checker(path, field).check(description)


class _Checker:
    def __init__(self, path: str, field: str) -> None:
        self.path = path
        self.field = field
        self.nodes = 0
        self.patience = Patience()

    def fail(self, where: str, what: str) -> NoReturn:
        raise ModelFormatError(self.path, None, f"{self.field}: {where}", what)

    def check(self, description: Any) -> Spec:
        if not isinstance(description, dict) or not isinstance(description.get("model"), dict):
            self.fail("model", "is missing")
        description = {**description, "truncation": None, "padding": None}
        model = description["model"]
        pieces = self.model_pieces(model)
        control = self.added_tokens(description.setdefault("added_tokens", []), pieces)
        for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            if not isinstance(description.get(name), (dict, type(None))):
                self.fail(name, f"{quote(description[name])} is not an object")
            self.component(description.setdefault(name, None), name, len(pieces), 0)
        return Spec(description, pieces, control, self.patience)

    def model_pieces(self, model: dict[str, Any]) -> list[str | None]:
        """Piece by id, of the model alone."""
        kind = model.get("type")
        if kind is None:  # files before version 1.0 of the library do not say
            kind = "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"
            model["type"] = kind
        if kind not in ("BPE", "Unigram", "WordPiece", "WordLevel"):
            raise UnsupportedModelError(f"{self.path}: {self.field}: tokenizer model {quote(kind)} is not supported")
        if model.get("dropout"):
            raise UnsupportedModelError(f"{self.path}: {self.field}: BPE dropout makes tokens random; set it to null")
        if not isinstance(model.get("unk_token"), (str, type(None))):
            self.fail("model.unk_token", f"{quote(model['unk_token'])} is not a string")
        vocabulary = model.get("vocab")
        if kind == "Unigram":
            return self.unigram_pieces(vocabulary, model.get("unk_id"))
        if not isinstance(vocabulary, dict):
            self.fail("model.vocab", "is not an object")
        pieces = self.pieces_of(vocabulary)
        longest = model.get("max_input_chars_per_word", 100)
        if kind == "WordPiece" and not (_is_count(longest) and longest <= WORD_LIMIT):
            what = f"{quote(longest)} is not from 1 to {WORD_LIMIT}: a word takes time by the cube of its characters"
            self.fail("model.max_input_chars_per_word", what)
        if kind == "WordPiece" and not isinstance(model.get("continuing_subword_prefix", "##"), str):
            self.fail("model.continuing_subword_prefix", f"{quote(model['continuing_subword_prefix'])} is not a string")
        if kind == "BPE":
            self.merges(model.get("merges"), vocabulary, model.get("continuing_subword_prefix") or "")
        return pieces

    def unigram_pieces(self, vocabulary: Any, unknown: Any) -> list[str | None]:
        if not isinstance(vocabulary, list) or not 0 < len(vocabulary) <= PIECE_LIMIT:
            self.fail("model.vocab", "is not a list of pieces and scores")
        for item in vocabulary:
            if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)):
                self.fail("model.vocab", f"{quote(item)} is not a piece and its score")
            if isinstance(item[1], bool) or not isinstance(item[1], (int, float)):
                self.fail("model.vocab", f"the score of {quote(item[0])} is not a number")
        if unknown is not None and (not isinstance(unknown, int) or not 0 <= unknown < len(vocabulary)):
            self.fail("model.unk_id", f"{quote(unknown)} is not the id of a piece")
        return [item[0] for item in vocabulary]

    def pieces_of(self, vocabulary: dict[str, Any]) -> list[str | None]:
        """Piece by id; the usual dense numbering is recognized at once, anything else is looked at piece by piece."""
        tokens = list(vocabulary.values())
        if {*map(type, tokens)} == {int} and sorted(tokens) == list(range(len(tokens))) and len(tokens) <= PIECE_LIMIT:
            return [*sorted(vocabulary, key=vocabulary.__getitem__)]
        pieces: list[str | None] = []
        for piece, token in vocabulary.items():
            self.place(pieces, token, piece, "model.vocab", len(vocabulary))
        return pieces

    def place(self, pieces: list[str | None], token: Any, piece: str, where: str, count: int) -> None:
        """Put a piece at its id; the table grows, but no further than the number of pieces explains."""
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < min(PIECE_LIMIT, count + ID_GAP):
            self.fail(where, f"id {quote(token)} of {quote(piece)} is out of range")
        if token >= len(pieces):
            pieces.extend([None] * (token + 1 - len(pieces)))
        if pieces[token] not in (None, piece):
            self.fail(where, f"{quote(pieces[token])} and {quote(piece)} have the same id {token}")
        pieces[token] = piece

    def merges(self, merges: Any, vocabulary: dict[str, int], prefix: Any) -> None:
        if not isinstance(merges, list) or not isinstance(prefix, str):
            self.fail("model.merges", "is not a list, or the prefix of continuations is not a string")
        if not prefix and "" not in vocabulary and {*map(type, merges)} <= {list, tuple} and {*map(len, merges)} == {2}:
            parts_of_all = [part for merge in merges for part in merge]
            if {*map(type, parts_of_all)} == {str} and vocabulary.keys() >= set(parts_of_all):
                return  # nothing to complain of; otherwise the loop finds the culprit
        for index, merge in enumerate(merges):
            parts = tuple(merge.split(" ")) if isinstance(merge, str) else merge
            if not isinstance(parts, (list, tuple)) or [type(p) for p in parts] != [str, str] or not all(parts):
                self.fail(f"model.merges[{index}]", f"{quote(merge)} is not two pieces")
            if not (parts[0] in vocabulary and parts[1] in vocabulary):
                self.fail(f"model.merges[{index}]", f"{quote(merge)} names a piece that is not in the vocabulary")
            if not parts[1].startswith(prefix) or parts[1] == prefix:
                self.fail(f"model.merges[{index}]", f"{quote(merge)} lacks the prefix of continuations")

    def added_tokens(self, added: Any, pieces: list[str | None]) -> set[int]:
        """Put the added tokens into the table of pieces; return the ids of the control tokens."""
        if not isinstance(added, list) or len(added) > ADDED_LIMIT:
            self.fail("added_tokens", f"is not a list of at most {ADDED_LIMIT} tokens")
        control = set()
        count = len(pieces) + len(added)
        for token in added:
            if not isinstance(token, dict) or not isinstance(token.get("content"), str) or not token["content"]:
                self.fail("added_tokens", f"{quote(token)} is not a token")
            if not all(isinstance(token.get(flag, False), bool) for flag in ADDED_TOKEN_FLAGS):
                self.fail("added_tokens", f"{quote(token)} has flags that are neither true nor false")
            identifier = token.get("id")
            if isinstance(identifier, int) and 0 <= identifier < len(pieces):
                pieces[identifier] = None  # an added token may rename a piece of the model
            self.place(pieces, identifier, token["content"], "added_tokens", count)
            if token.get("special"):
                control.add(token["id"])
        return control

    def component(self, node: Any, where: str, vocabulary_size: int, depth: int) -> None:
        """Walk a normalizer, pre-tokenizer, post-processor or decoder: bounded, patterns safe, ids in range."""
        self.nodes += 1
        if self.nodes > NODE_LIMIT or depth > 16:
            self.fail(where, "too many parts")
        if isinstance(node, list):
            for item in node:
                self.component(item, where, vocabulary_size, depth + 1)
        if not isinstance(node, dict):
            return
        if not isinstance(node.get("type"), (str, type(None))):
            self.fail(f"{where}.type", f"{quote(node['type'])} is not a name")
        if node.get("type") == "FixedLength" and not _is_count(node.get("length")):  # the library panics at 0
            self.fail(f"{where}.length", f"{quote(node.get('length'))} is not a number of characters")
        if "pattern" in node:
            self.replacement(node, where)
        if node.get("type") == "TemplateProcessing":
            self.template(node, where, vocabulary_size)
        if node.get("type") == "Precompiled":
            try:
                Charsmap(node.get("precompiled_charsmap"))
            except CharsmapError as error:
                self.fail(f"{where}.precompiled_charsmap", str(error))
        for role in ("sep", "cls"):
            if role in node and not _is_piece_and_id(node[role], vocabulary_size):
                self.fail(f"{where}.{role}", f"{quote(node[role])} is not a token and its id")
        for key in ("normalizers", "pretokenizers", "processors", "decoders"):
            if key in node:
                if not isinstance(node[key], list) or not all(isinstance(part, dict) for part in node[key]):
                    self.fail(f"{where}.{key}", "is not a list of objects")
                self.component(node[key], f"{where}.{key}", vocabulary_size, depth + 1)

    def replacement(self, node: dict[str, Any], where: str) -> None:
        pattern = node["pattern"]
        if not (isinstance(pattern, dict) and len(pattern) == 1 and isinstance(next(iter(pattern.values())), str)):
            self.fail(f"{where}.pattern", f"{quote(pattern)} is not a pattern")
        if "Regex" in pattern:
            problem = check_pattern(pattern["Regex"])
            if problem:
                self.fail(f"{where}.pattern", f"{quote(pattern['Regex'])}: {problem}")
            in_normalizer = where.startswith("normalizer")
            parts = self.patience.of_normalizer if in_normalizer else self.patience.of_splits
            parts += uneven_parts(pattern["Regex"])
        self.patience.growth *= max(1, len(node["content"])) if isinstance(node.get("content"), str) else 1
        if self.patience.growth > GROWTH_LIMIT:
            self.fail(where, f"the replacements make a text more than {GROWTH_LIMIT} times longer")

    def template(self, node: dict[str, Any], where: str, vocabulary_size: int) -> None:
        tokens = node.get("special_tokens")
        if not isinstance(tokens, dict) or len(tokens) > NODE_LIMIT:
            self.fail(f"{where}.special_tokens", "is not an object")
        for name, token in tokens.items():
            ids = token.get("ids") if isinstance(token, dict) else None
            if not isinstance(ids, list) or len(ids) > NODE_LIMIT or not all(_is_id(i, vocabulary_size) for i in ids):
                self.fail(f"{where}.special_tokens", f"{quote(name)} has ids out of range")
        for part in ("single", "pair"):
            pieces = node.get(part)
            if not isinstance(pieces, list) or len(pieces) > NODE_LIMIT:
                self.fail(f"{where}.{part}", "is not a short list")
            for piece in pieces:
                special = piece.get("SpecialToken") if isinstance(piece, dict) else None
                if special is not None and (not isinstance(special, dict) or special.get("id") not in list(tokens)):
                    self.fail(f"{where}.{part}", f"{quote(piece)} is not among the special tokens")


def _is_id(value: Any, vocabulary_size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocabulary_size


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _is_piece_and_id(value: Any, vocabulary_size: int) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_id(value[1], vocabulary_size)


def seal(spec: Spec) -> dict[str, Any]:
    """A description that gives the same ids for every text, but in which no text spells a control token.

    Each control piece is renamed, everywhere alike, to a string with a random part that no text contains, and merges
    that would build one are dropped. The post-processor names ids, so it still adds its tokens.
    """
    nonce = os.urandom(16).hex()
    names = {spec.pieces[token]: f"\ufdd0{nonce}:{token}" for token in spec.control}
    description = dict(spec.description)
    model = dict(description["model"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): token for piece, token in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [
            pair for pair in pairs if pair[0] + pair[1] not in names and pair[0] not in names and pair[1] not in names
        ]
    description["model"] = model
    description["added_tokens"] = [
        {**token, "content": names.get(token["content"], token["content"])} for token in description["added_tokens"]
    ]
    return description
