"""Text to token ids and back.

A tokenizer comes out of a model file's metadata: the source's own `tokenizer.json` where the file carries one, else
llama.cpp's arrays. The tokenizers library does the encoding; it is imported when a text is first encoded. Decoding is
done here, piece by piece and in bytes, so that a stream of tokens and the whole list give the same text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidInputError, ModelFormatError, UnsupportedModelError, quote
from ..files.json_file import parse_json
from .arrays import TokenType, VocabularyArrays
from .byte_alphabet import BYTE_ALPHABET
from .checks import Spec
from .control_pieces import end_pieces_among
from .encoders import CharacterEncoder, NamedPieceEncoder
from .library import LibraryEncoder
from .located import LocatedTokens
from .specification import PHANTOM_SPACE, description_of

__all__ = ["PieceDecoder", "StreamDecoder", "Tokenizer"]

# Bytes of a text in UTF-8. The library takes some 200 bytes and a microsecond or two for each, so more than this would
# ask for more than a gigabyte and ten seconds; no context holds as many tokens.
TEXT_LIMIT = 4 << 20

_WORDPIECE_CLEANUP = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@dataclass(frozen=True)
class PieceDecoder:
    """How pieces become bytes.

    Attributes
    ----------
    style : {"bytes", "spaces", "wordpiece", "words", "plain"}
        "bytes": GPT-2's byte alphabet. "spaces": SentencePiece, U+2581 for a space. "wordpiece": a mark for
        continuations, a space before all others. "words": a space between pieces. "plain": the pieces themselves.
    byte_pieces : bool
        Pieces ``<0x00>`` to ``<0xFF>`` are bytes.
    strip_first : bool
        One space at the very start of the text is not part of it.
    mark : str
        The continuation mark of "wordpiece".
    cleanup : bool
        "wordpiece" only: no space before punctuation and English clitics.
    """

    style: str
    byte_pieces: bool = False
    strip_first: bool = False
    mark: str = "##"
    cleanup: bool = False

    def to_bytes(self, piece: str, first: bool) -> bytes:
        """The bytes of one piece; `first`: no text was written before it."""
        if self.style == "bytes":
            values = [BYTE_ALPHABET.get(character) for character in piece]
            return piece.encode() if None in values else bytes(values)  # type: ignore[arg-type]
        if self.byte_pieces and len(piece) == 6 and re.fullmatch("<0x[0-9A-Fa-f]{2}>", piece):
            return bytes([int(piece[3:5], 16)])
        if self.style == "spaces":
            piece = piece.replace(PHANTOM_SPACE, " ")
        elif self.style == "words":
            piece = piece if first else " " + piece
        elif self.style == "wordpiece":
            piece = self.word(piece, first)
        return piece.encode()

    def word(self, piece: str, first: bool) -> str:
        if not first:
            piece = piece[len(self.mark) :] if piece.startswith(self.mark) else " " + piece
        if self.cleanup:
            for spaced in _WORDPIECE_CLEANUP:
                piece = piece.replace(spaced, spaced.strip())
            piece = piece.replace(" do not", " don't")
        return piece

    @classmethod
    def from_description(cls, decoder: Any, path: str) -> PieceDecoder:
        """Read the `decoder` of a `tokenizer.json`.

        Raises
        ------
        UnsupportedModelError
            Where it does something that is not one of the styles.
        """
        if decoder is None:
            return cls("words")
        steps = decoder.get("decoders") if decoder.get("type") == "Sequence" else [decoder]
        found = cls("plain")
        for step in steps if isinstance(steps, list) else [None]:
            found = found.then(step, path)
        return found

    def then(self, step: Any, path: str) -> PieceDecoder:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            return PieceDecoder("bytes")
        if kind == "WordPiece" and isinstance(step.get("prefix"), str):
            return PieceDecoder("wordpiece", mark=step["prefix"], cleanup=bool(step.get("cleanup")))
        if kind == "Metaspace" and step.get("replacement") == PHANTOM_SPACE:
            strip = step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True)
            return PieceDecoder("spaces", self.byte_pieces, bool(strip))
        if kind == "Replace" and step.get("pattern") == {"String": PHANTOM_SPACE} and step.get("content") == " ":
            return PieceDecoder("spaces", self.byte_pieces, self.strip_first)
        if kind == "ByteFallback":
            return PieceDecoder(self.style, True, self.strip_first)
        if kind == "Strip" and (step.get("content"), step.get("start"), step.get("stop")) == (" ", 1, 0):
            return PieceDecoder(self.style, self.byte_pieces, True)
        if kind == "Fuse":
            return self
        raise UnsupportedModelError(f"{path}: tokenizer.huggingface.json: the decoder {quote(step)} is not supported")


class StreamDecoder:
    """Turns token ids into text as they come, only ever giving out whole characters.

    The texts of all `push` calls and of `finish`, joined, are what `Tokenizer.decode` gives for the whole list.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip = tokenizer.control_token_ids if skip_special_tokens else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = not continues
        self._strip = tokenizer.decoder.strip_first and not continues

    def push(self, token_id: int) -> str:
        """Add a token; return the text that is now certain, possibly none.

        Raises
        ------
        InvalidInputError
            If there is no such token.
        """
        piece = self._tokenizer.token(token_id)
        if token_id in self._skip:
            return ""
        data = self._tokenizer.decoder.to_bytes(piece, self._first)
        self._first = False
        return self._stripped(self._utf8.decode(data))

    def finish(self) -> str:
        """The rest: a replacement character where the bytes of the last character are incomplete."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if self._strip and text:
            self._strip = False
            return text.removeprefix(" ")
        return text


class Tokenizer:
    """Text to ids and back; made by `from_metadata`. Safe to use from several threads."""

    def __init__(
        self,
        encoder: LibraryEncoder | CharacterEncoder | NamedPieceEncoder,
        decoder: PieceDecoder,
        pieces: list[str | None],
        control: Iterable[int],
        roles: Mapping[str, int | None],
    ) -> None:
        self._encoder = encoder
        self._pieces = pieces
        self.decoder = decoder
        self.by_character = isinstance(encoder, CharacterEncoder)
        self.control_token_ids = frozenset(control)
        self.bos_token_id = roles["bos"]
        self.eos_token_id = roles["eos"]
        self.pad_token_id = roles["padding"]
        self.unk_token_id = roles["unknown"]
        self.cls_token_id, self.mask_token_id = roles["cls"], roles["mask"]
        ends = {roles["eos"], roles["eot"], roles["eom"]}
        known = end_pieces_among([pieces[token] for token in self.control_token_ids])
        ends |= {token for token in self.control_token_ids if pieces[token] in known}
        self.end_token_ids = frozenset(token for token in ends if token is not None)

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], prefix: str = "tokenizer.ggml.", path: str = "model"
    ) -> Tokenizer | None:
        """Build the tokenizer that a model file describes.

        Parameters
        ----------
        metadata : mapping
            The file's metadata.
        prefix : str
            Where the keys are; ``"tokenizer.target."`` for the target side of an encoder-decoder.
        path : str
            The file's name, for messages.

        Returns
        -------
        Tokenizer or None
            None where the file has no vocabulary: the model takes ids only.

        Raises
        ------
        ModelFormatError
            If the metadata contradict themselves or make no tokenizer.
        UnsupportedModelError
            If they ask for a kind that is not known here.
        """
        library_key = "tokenizer.huggingface.json" if prefix == "tokenizer.ggml." else prefix + "huggingface.json"
        source = metadata.get(library_key)
        if metadata.get(prefix + "tokens") is None and source is None:
            return None
        if metadata.get(prefix + "model") in ("no_vocab", "none"):
            return None
        if source is None:
            return cls._from_arrays(VocabularyArrays(metadata, prefix, path))
        if not isinstance(source, str):
            raise ModelFormatError(path, None, library_key, f"{quote(source)} is not a string")

        def described() -> Spec:
            parsed = parse_json(source.encode(), path, None, library_key, ModelFormatError)
            return Spec.checked(parsed, path, library_key)

        spec = described()
        if metadata.get(prefix + "tokens") is None:
            named = {prefix + "tokens": [piece or f"[UNUSED_{i}]" for i, piece in enumerate(spec.pieces)]}
            roles = _roles(VocabularyArrays({**metadata, **named}, prefix, path))
        else:
            arrays = VocabularyArrays(metadata, prefix, path)
            roles = _roles(arrays)
            if arrays.get("ids_by_piece", bool, False):
                return cls._by_piece(described, spec, arrays)
            if len(arrays.tokens) < len(spec.pieces):
                what = f"{len(spec.pieces)} tokens, but {prefix}tokens has {len(arrays.tokens)}"
                raise ModelFormatError(path, None, library_key, what)
            spec.pieces.extend([None] * (len(arrays.tokens) - len(spec.pieces)))
        return cls._from_spec(described, spec, roles, path)

    @classmethod
    def _from_arrays(cls, arrays: VocabularyArrays) -> Tokenizer:
        if arrays.model == "characters":
            control = (token for token, kind in enumerate(arrays.types) if kind == TokenType.CONTROL)
            decoder = PieceDecoder("plain")
            return cls(CharacterEncoder(arrays), decoder, list(arrays.tokens), control, _roles(arrays))
        metadata, prefix, path = arrays.metadata, arrays.prefix, arrays.path

        def described(arrays: VocabularyArrays | None = None) -> Spec:
            description = description_of(arrays or VocabularyArrays(metadata, prefix, path))
            return Spec.checked(description, path, prefix + "tokens")

        return cls._from_spec(described, described(arrays), _roles(arrays), path)

    @classmethod
    def _by_piece(cls, describe: Callable[[], Spec], spec: Spec, arrays: VocabularyArrays) -> Tokenizer:
        """Of a file whose description splits texts into pieces, and whose tokens say which ids these have."""
        decoder = PieceDecoder.from_description(spec.description["decoder"], arrays.path)
        encoder = NamedPieceEncoder(LibraryEncoder.shared(describe, spec, arrays.path), arrays)
        control = (token for token, kind in enumerate(arrays.types) if kind == TokenType.CONTROL)
        return cls(encoder, decoder, list(arrays.tokens), control, _roles(arrays))

    @classmethod
    def _from_spec(
        cls, describe: Callable[[], Spec], spec: Spec, roles: Mapping[str, int | None], path: str
    ) -> Tokenizer:
        decoder = PieceDecoder.from_description(spec.description["decoder"], path)
        return cls(LibraryEncoder.shared(describe, spec, path), decoder, spec.pieces, spec.control, roles)

    def __repr__(self) -> str:
        return (
            f"<edgeformer.Tokenizer: {self.vocab_size} tokens, decoded as {self.decoder.style!r}, "
            f"bos {self.bos_token_id}, ends {sorted(self.end_token_ids)}>"
        )

    @property
    def vocab_size(self) -> int:
        """Number of ids, unused ones counted."""
        return len(self._pieces)

    def token(self, token_id: int) -> str:
        """The piece with an id, as the vocabulary spells it (an unused id gives an empty string).

        Raises
        ------
        InvalidInputError
            If the id is outside the vocabulary.
        """
        if not 0 <= token_id < len(self._pieces):
            raise InvalidInputError(f"token id {token_id} is outside the vocabulary of {len(self._pieces)}")
        return self._pieces[token_id] or ""

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = False) -> list[int]:
        """Text to token ids.

        Parameters
        ----------
        text : str
        add_special_tokens : bool
            Add what the model's tokenizer puts around a text (a start token, ``[CLS]`` and ``[SEP]``).
        parse_special : bool
            Let the text spell control tokens. Off, they are ordinary characters: use it for text you wrote yourself
            only, never for a user's.

        Raises
        ------
        InvalidInputError
            If the text is not a string, has a lone surrogate, or a character that the model has no token for; or if
            it is longer than 4 MiB in UTF-8.
        """
        _check_text(text)
        return self._encoder.encode(text, add_special_tokens, parse_special)

    def encode_pair(self, text: str, text_pair: str, parse_special: bool = False) -> tuple[list[int], list[int]]:
        """Two texts as the model was trained to see them together: question and passage, premise and hypothesis.

        Returns
        -------
        ids : list of int
            With the tokens that the tokenizer puts before, between and after the two.
        token_types : list of int
            Of each id: 0 or, in the second text of a tokenizer that tells the two apart, 1.

        Raises
        ------
        InvalidInputError
            As for `encode`; or the tokenizer knows single characters alone.
        """
        _check_text(text)
        _check_text(text_pair)
        return self._encoder.encode_pair(text, text_pair, parse_special)

    def locate(self, text: str, text_pair: str | None = None, parse_special: bool = False) -> LocatedTokens:
        """A text, or two as in `encode_pair`, to token ids that know where in the text they come from.

        Raises
        ------
        InvalidInputError
            As for `encode_pair`.
        """
        texts = (text,) if text_pair is None else (text, text_pair)
        for one in texts:
            _check_text(one)
        return self._encoder.locate(texts, parse_special)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Token ids to text; bytes that are not UTF-8 become U+FFFD.

        Raises
        ------
        InvalidInputError
            If an id is outside the vocabulary.
        """
        stream = self.stream(skip_special_tokens)
        return "".join([*(stream.push(token) for token in ids), stream.finish()])

    def stream(self, skip_special_tokens: bool = True, continues: bool = False) -> StreamDecoder:
        """A decoder for tokens as they come; `continues`: they go on after other text, so their first space stays."""
        return StreamDecoder(self, skip_special_tokens, continues)


def _check_text(text: object) -> None:
    """Refuse what cannot be encoded, or would take too much memory."""
    if not isinstance(text, str):
        raise InvalidInputError(f"a text must be a str, not {type(text).__name__}")
    try:
        length = len(text) if len(text) > TEXT_LIMIT else len(text.encode())
    except UnicodeEncodeError as error:
        what = f"a lone surrogate U+{ord(text[error.start]):04X} at position {error.start}"
        raise InvalidInputError(f"the text is not valid Unicode: {what}") from None
    if length > TEXT_LIMIT:
        what = f"at least {length} bytes, and one call takes {TEXT_LIMIT}"
        raise InvalidInputError(f"the text is too long: {what}; split it where it may be split, e.g. at line ends")


def _roles(arrays: VocabularyArrays) -> dict[str, int | None]:
    names = ("bos", "eos", "padding", "unknown", "eot", "eom", "cls", "mask")
    return {name: arrays.token_id(f"{name}_token_id") for name in names}
