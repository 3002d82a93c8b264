"""Vocabularies of models that translate, in the forms of their families: SentencePiece's pieces under other ids.

Marian and M2M-100 look the pieces of a text up in a `vocab.json`; mBART and NLLB put four tokens of their own before
the pieces and their languages behind them; Pegasus moves them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ...files.json_file import read_json
from ...text.arrays import TokenType, VocabularyArrays
from ...text.specification import description_of, sentencepiece_bpe
from .record import Vocabulary
from .sentencepiece_model import SentencePieceModel, read_sentencepiece_model

__all__ = ["fairseq_vocabulary", "looked_up_vocabulary", "marian_vocabularies", "pegasus_vocabulary"]

FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
PEGASUS_OFFSET = 103


def marian_vocabularies(folder: Path, settings: Mapping[str, Any]) -> tuple[Vocabulary, Vocabulary]:
    """The source's and the target's of a Marian folder: `source.spm`, `target.spm`, `vocab.json`, and where each side
    has its own, `target_vocab.json`.

    Raises
    ------
    ConversionError, CheckpointFormatError
        A file is missing or damaged, or has no unknown token.
    """
    separate = bool(settings.get("separate_vocabs"))
    if separate != (folder / "target_vocab.json").is_file():
        raise ConversionError(f"{folder}: tokenizer_config.json says separate_vocabs = {separate}, the files otherwise")
    source, target = (
        looked_up_vocabulary(folder / f"{side}.spm", folder / name)
        for side, name in (("source", "vocab.json"), ("target", "target_vocab.json" if separate else "vocab.json"))
    )
    return source, target


def looked_up_vocabulary(model: Path, names: Path) -> Vocabulary:
    """The pieces of `model` under the ids that `names`, a JSON object, has for them; those without are unknown.

    Tokens such as ``>>fra<<``, which are no pieces, are found in texts as they stand.
    """
    ids, source = read_json(names), read_sentencepiece_model(model)
    if not isinstance(ids, dict) or sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
        raise ConversionError(f"{names}: the ids are not 0 to the number of tokens")
    tokens = sorted(ids, key=ids.__getitem__)
    roles = _roles(tokens, (("bos", "<s>"), ("eos", "</s>"), ("unknown", "<unk>"), ("padding", "<pad>")))
    if not {"unknown", "eos"} <= roles.keys():
        raise ConversionError(f"{names}: there is no token <unk>, or none </s>")
    control, pieces = {*roles.values()}, {*source.pieces}
    types = [TokenType.CONTROL if token in control else TokenType.NORMAL for token in range(len(tokens))]
    for token, piece in enumerate(tokens):
        if piece.startswith(">>") and piece.endswith("<<") and piece not in pieces:
            types[token] = TokenType.USER_DEFINED
    vocabulary = Vocabulary("t5", tokens, types, scores=[0.0] * len(tokens), roles=roles)
    vocabulary.flags = {"ids_by_piece": True, "add_bos_token": False, "add_eos_token": True}
    description = _description(source, str(model))
    marks = [piece for piece, kind in zip(tokens, types, strict=True) if kind == TokenType.USER_DEFINED]
    description["added_tokens"] += [_added(len(source.pieces) + n, piece) for n, piece in enumerate(marks)]
    vocabulary.description = description
    return vocabulary


def fairseq_vocabulary(path: Path) -> Vocabulary:
    """mBART's and NLLB's: four tokens, and the pieces less their first three; languages and the mask come behind."""
    source = read_sentencepiece_model(path)
    types = [TokenType.CONTROL, TokenType.CONTROL, TokenType.CONTROL, TokenType.UNKNOWN, *source.types[3:]]
    vocabulary = Vocabulary(source.model, [*FAIRSEQ, *source.pieces[3:]], types, charsmap=source.charsmap)
    vocabulary.scores = [*[0.0] * len(FAIRSEQ), *source.scores[3:]]
    vocabulary.roles = {"bos": 0, "padding": 1, "eos": 2, "unknown": 3}
    return _flagged(vocabulary, source, str(path))


def pegasus_vocabulary(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """Pegasus' own: padding, end, masks, unused tokens, and the pieces from the unknown one on."""
    source, offset = read_sentencepiece_model(path), settings.get("offset", PEGASUS_OFFSET)
    if type(offset) is not int or not 0 <= offset < 1 << 16:
        raise ConversionError(
            f"{path.parent}: tokenizer_config.json: offset = {quote(offset)} is not a number of tokens"
        )
    front = ["<pad>", "</s>"]
    if offset:
        front += ["<mask_1>", "<mask_2>", *(f"<unk_{number}>" for number in range(2, offset))]
    types = [*[TokenType.CONTROL] * len(front), *source.types[2:]]
    vocabulary = Vocabulary(source.model, [*front, *source.pieces[2:]], types, charsmap=source.charsmap)
    vocabulary.scores = [*[0.0] * len(front), *source.scores[2:]]
    vocabulary.roles = {"padding": 0, "eos": 1, "unknown": len(front)}
    return _flagged(vocabulary, source, str(path))


def _flagged(vocabulary: Vocabulary, source: SentencePieceModel, path: str) -> Vocabulary:
    """With what the model says of spaces, and an end token after each text."""
    vocabulary.flags = {
        "add_space_prefix": source.add_space_prefix,
        "remove_extra_whitespaces": source.remove_extra_whitespaces,
        "add_bos_token": False,
        "add_eos_token": True,
    }
    if vocabulary.model == "llama":
        vocabulary.description = _bpe_description(VocabularyArrays(vocabulary.metadata(""), "", path))
    return vocabulary


def _description(source: SentencePieceModel, path: str) -> dict[str, Any]:
    """The model as a `tokenizer.json`, under its own ids."""
    vocabulary = Vocabulary(source.model, source.pieces, source.types, scores=source.scores, charsmap=source.charsmap)
    vocabulary.roles = {"unknown": source.roles["unknown"]}
    _flagged(vocabulary, source, path).flags |= {"add_bos_token": False, "add_eos_token": False}
    arrays = VocabularyArrays(vocabulary.metadata(""), "", path)
    return _bpe_description(arrays) if source.model == "llama" else description_of(arrays)


def _bpe_description(arrays: VocabularyArrays) -> dict[str, Any]:
    """With SentencePiece's normalization, which llama.cpp leaves out for BPE."""
    described = description_of(arrays) | sentencepiece_bpe(arrays, normalized=True)
    described["model"]["byte_fallback"] = TokenType.BYTE in arrays.types
    return described


def _added(token: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {"id": token, "content": content, **flags}


def _roles(tokens: Sequence[str], named: Iterable[tuple[str, str]]) -> dict[str, int]:
    ids = {token: index for index, token in enumerate(tokens)}
    return {role: ids[token] for role, token in named if token in ids}
