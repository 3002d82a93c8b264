"""The vocabulary of a source folder, as metadata of a GGUF file.

Whatever form the source has, two things come out: llama.cpp's arrays, so that other readers of GGUF tokenize alike,
and the source's own `tokenizer.json`, which is what edgeformer follows where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConversionError, quote
from ...files.json_file import read_json, read_json_object
from ...text.arrays import TokenType, VocabularyArrays
from ...text.specification import description_of, sentencepiece_bpe
from ...text.tokenizer import Tokenizer
from .byte_vocabulary import byte_vocabulary
from .chat_templates import read_chat_templates
from .encoder_pieces import (
    BYTE_LEVEL,
    CLASSES,
    FRONTS,
    MPNET_TOKENS,
    albert_vocabulary,
    byte_level_vocabulary,
    deberta_vocabulary,
    framed,
    named_roles,
    xlm_roberta_vocabulary,
)
from .languages import language_tokens, name_languages
from .record import Vocabulary
from .sentencepiece_model import read_sentencepiece_model
from .text_file import read_text
from .tokenizer_json import describe_wordpiece, from_description
from .translation import fairseq_vocabulary, looked_up_vocabulary, marian_vocabularies, pegasus_vocabulary

__all__ = [
    "Vocabulary",
    "character_vocabulary",
    "placeholder_vocabulary",
    "read_marian_vocabularies",
    "read_vocabulary",
]

_MPNET_ENDS = (("cls", "cls_token"), ("seperator", "sep_token"))
SENTINELS = 1 << 10  # of T5, at most

_ROLES = {
    "bos": ("bos_token", "cls_token"),
    "eos": ("eos_token", "sep_token"),
    "unknown": ("unk_token",),
    "padding": ("pad_token",),
    "cls": ("cls_token",),
    "seperator": ("sep_token",),  # GGUF's spelling
    "mask": ("mask_token",),
}


def read_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Read whatever vocabulary files a folder has.

    Parameters
    ----------
    folder : Path
        The checkpoint's folder.
    config : mapping
        Its `config.json`, for the special tokens' ids where nothing else names them.

    Returns
    -------
    Vocabulary
        Of the model "no_vocab" where the folder has none: such a model takes token ids only.

    Raises
    ------
    ConversionError, CheckpointFormatError, ModelFormatError, UnsupportedModelError
        Where the files contradict each other, are damaged, or of a kind that is not known.
    """
    settings = _object(folder / "tokenizer_config.json")
    for name, reader in (
        ("tokenizer.json", _from_description_file),
        ("tokenizer.model", _from_sentencepiece_file),
        ("spiece.model", _from_moved_pieces),
        ("sentencepiece.bpe.model", _from_fairseq_file),
        ("spm.model", _from_deberta_file),
        ("vocab.txt", _from_wordpiece_file),
        ("vocab.json", _from_bpe_files),
    ):
        if (folder / name).is_file():
            vocabulary = reader(folder / name, settings)
            return _finished(vocabulary, folder, settings, config, described=name == "tokenizer.json")
    if _class_name(settings, config) == "ByT5":
        return _finished(byte_vocabulary(settings), folder, settings, config)
    ids = {role: config.get(f"{role}_token_id") for role in ("bos", "eos")}
    roles = {role: token for role, token in ids.items() if isinstance(token, int) and token >= 0}
    return Vocabulary("no_vocab", [], [], roles=roles, notes=["no vocabulary: the model takes token ids only"])


def read_marian_vocabularies(folder: Path, config: Mapping[str, Any]) -> tuple[Vocabulary, Vocabulary] | None:
    """The source's and the target's of a folder in Marian's form, None where it has another.

    Raises
    ------
    ConversionError, CheckpointFormatError
        As for `read_vocabulary`.
    """
    if not (folder / "source.spm").is_file() or (folder / "tokenizer.json").is_file():
        return None
    settings = _object(folder / "tokenizer_config.json")
    source, target = marian_vocabularies(folder, settings)
    return _finished(source, folder, settings, config), _finished(target, folder, settings, {})


def _finished(
    vocabulary: Vocabulary,
    folder: Path,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    described: bool = False,
) -> Vocabulary:
    """With roles, languages, what stands around a text, and chat templates. `described`: by a `tokenizer.json`."""
    _name_roles(vocabulary, settings, _object(folder / "special_tokens_map.json"), config)
    name_languages(vocabulary, _class_name(settings, config), settings, described=described)
    _observe_ends(vocabulary, settings)
    vocabulary.chat_templates = read_chat_templates(folder, settings)
    return vocabulary


def _class_name(settings: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The tokenizer's class without what all classes are called."""
    name = str(settings.get("tokenizer_class") or config.get("tokenizer_class") or "")
    return name.removesuffix("Fast").removesuffix("Tokenizer")


def _kind(folder: Path, settings: Mapping[str, Any]) -> str:
    """The tokenizer's class, by the model's type where the folder names none."""
    config = _object(folder / "config.json")
    return _class_name(settings, config) or CLASSES.get(str(config.get("model_type")), "")


def character_vocabulary(path: Path, roles: Mapping[str, int]) -> Vocabulary:
    """A file with one token a line: single characters, and longer control tokens.

    Raises
    ------
    ConversionError
        If a role's id is outside the file's tokens, or a token occurs twice.
    """
    tokens = read_text(path).split("\n")
    tokens = tokens[:-1] if tokens[-1] == "" else tokens
    types = [TokenType.NORMAL if len(token) == 1 else TokenType.CONTROL for token in tokens]
    if len(set(tokens)) != len(tokens):
        raise ConversionError(f"{path}: a token occurs twice")
    for name, token in roles.items():
        if not 0 <= token < len(tokens):
            raise ConversionError(f"{path}: {name} is token {token}, and there are {len(tokens)}")
    flags = {"add_bos_token": False, "add_eos_token": False}
    return Vocabulary("characters", tokens, types, roles=dict(roles), flags=flags)


def placeholder_vocabulary(characters: str, roles: Mapping[str, int], path: str) -> Vocabulary:
    """A string with a character for each token; where the special tokens stand it repeats its first one.

    The tokenizer adds the start and the end of a text. The last of the placeholders without a role is the unknown
    token. `roles` has the ids of "pad", "bos" and "eos"; `path` is for messages.

    Raises
    ------
    ConversionError
        A role's place has a character that means itself, or a character occurs twice.
    """
    places = len(characters) - len(characters.lstrip(characters[:1]))
    names = {token: f"<{role}>" for role, token in roles.items()}
    tokens = [*(names.get(token, f"<special{token}>") for token in range(places)), *characters[places:]]
    if len(set(tokens)) != len(tokens) or not all(0 <= token < places for token in roles.values()):
        raise ConversionError(f"{path}: {quote(characters)} names a character twice, or has no place for {dict(roles)}")
    free = [token for token in range(places) if token not in names]
    found = {"padding": roles["pad"], "bos": roles["bos"], "eos": roles["eos"]}
    found |= {"unknown": free[-1]} if free else {}
    types = [TokenType.CONTROL if token < places else TokenType.NORMAL for token in range(len(tokens))]
    flags = {"add_bos_token": True, "add_eos_token": True}
    return Vocabulary("characters", tokens, types, roles=found, flags=flags)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    return read_json_object(path) if path.is_file() else {}


def _from_description_file(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    return from_description(read_json(path), path)


def _from_moved_pieces(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """From a `spiece.model`: T5's with the sentinels that the file does not have, or Pegasus'."""
    kind = _kind(path.parent, settings)
    if kind == "Albert":
        return albert_vocabulary(path, settings)
    if kind in ("Pegasus", "BigBirdPegasus"):
        vocabulary = pegasus_vocabulary(path, settings)
        _add_tokens(vocabulary, settings.get("added_tokens_decoder") or {}, path)
        return vocabulary
    vocabulary = _from_sentencepiece_file(path, settings)
    sentinels = settings.get("extra_ids", 0)
    if not settings.get("added_tokens_decoder") and type(sentinels) is int:
        names = [f"<extra_id_{number}>" for number in range(min(sentinels, SENTINELS) - 1, -1, -1)]
        _add_tokens(vocabulary, {str(len(vocabulary.tokens) + n): _special(name) for n, name in enumerate(names)}, path)
    return vocabulary


def _special(content: str) -> dict[str, Any]:
    return {"content": content, "special": True}


def _from_fairseq_file(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """From a `sentencepiece.bpe.model` with languages behind its pieces: M2M-100's, whose ids are in `vocab.json`, or
    mBART's and NLLB's; or from one of an encoder.
    """
    kind = _kind(path.parent, settings)
    if kind in FRONTS:
        return xlm_roberta_vocabulary(path, kind)
    looked_up = path.with_name("vocab.json").is_file()
    added = settings.get("added_tokens_decoder") or {}
    names: list[str] = []
    if looked_up or not added:
        specials = _object(path.with_name("special_tokens_map.json"))
        names = language_tokens("M2M100" if looked_up else kind, settings, specials)
    if looked_up:
        vocabulary = looked_up_vocabulary(path, path.with_name("vocab.json"))
    else:
        vocabulary, names = fairseq_vocabulary(path), [*names, *([] if added else ["<mask>"])]
    new = {str(len(vocabulary.tokens) + n): _special(name) for n, name in enumerate(names)}
    for tokens in (new, added):
        _add_tokens(vocabulary, tokens, path)
    return vocabulary


def _from_deberta_file(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    kind = _kind(path.parent, settings)
    if kind != "DebertaV2":
        raise ConversionError(f"{path}: tokenizer_class {quote(kind)} has no tokenizer.json; save one with it")
    return deberta_vocabulary(path, settings)


def _from_sentencepiece_file(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    source = read_sentencepiece_model(path)
    vocabulary = Vocabulary(source.model, source.pieces, source.types, scores=source.scores, charsmap=source.charsmap)
    vocabulary.roles = {role: token for role, token in source.roles.items() if 0 <= token < len(source.pieces)}
    vocabulary.flags = {
        "add_space_prefix": source.add_space_prefix,
        "add_bos_token": bool(settings.get("add_bos_token", source.model == "llama")),
        "add_eos_token": bool(settings.get("add_eos_token", source.model == "t5")),
    }
    vocabulary.flags["remove_extra_whitespaces"] = source.remove_extra_whitespaces
    if TokenType.USER_DEFINED in source.types:
        vocabulary.flags["symbols_in_text"] = True
        what = "llama.cpp cuts texts at user-defined pieces before it normalizes them"
        vocabulary.notes.append(f"{what}; its ids beside such a piece may differ")
    _add_tokens(vocabulary, settings.get("added_tokens_decoder") or {}, path)
    if source.model == "llama" and (source.charsmap or source.remove_extra_whitespaces):
        arrays = VocabularyArrays(vocabulary.metadata(""), "", str(path))
        vocabulary.description = description_of(arrays) | sentencepiece_bpe(arrays, normalized=True)
        vocabulary.notes.append("llama.cpp does not normalize texts for this tokenizer; its ids may differ")
    return vocabulary


def _add_tokens(vocabulary: Vocabulary, added: Any, path: Path) -> None:
    """Append the tokens of `added_tokens_decoder`, which must go on where the model's pieces end."""
    entries = added.items() if isinstance(added, dict) else [("", added)]
    for key, entry in sorted(entries, key=lambda item: (len(item[0]), item[0])):  # by number, without parsing it
        token = int(key) if key.isdecimal() and len(key) < 9 else -1
        content = _content(entry, key)
        if content is not None and token == len(vocabulary.tokens):
            special = isinstance(entry, dict) and entry.get("special")
            vocabulary.tokens.append(content)
            vocabulary.types.append(TokenType.CONTROL if special else TokenType.USER_DEFINED)
            vocabulary.scores = [*(vocabulary.scores or []), 0.0]
        elif not 0 <= token < len(vocabulary.tokens) or vocabulary.tokens[token] != content:
            raise ConversionError(f"{path}: tokenizer_config.json adds {quote(entry)} as token {quote(key)}: no place")


def _from_wordpiece_file(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """From BERT's `vocab.txt`: one piece a line."""
    tokens = read_text(path).rstrip("\n").split("\n")
    is_mpnet = _kind(path.parent, settings) == "MPNet"
    settings = {**MPNET_TOKENS, **settings} if is_mpnet else settings
    special = {_content(settings.get(name), name) for names in _ROLES.values() for name in names}
    special |= {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    types = [TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens]
    unknown = _content(settings.get("unk_token"), "unk_token") or "[UNK]"
    if unknown not in tokens:
        raise ConversionError(f"{path}: the unknown token {quote(unknown)} is not in the vocabulary")
    keys: dict[str, Any] = {
        "model": "bert",
        "tokens": tokens,
        "token_type": types,
        "unknown_token_id": tokens.index(unknown),
    }
    for role, token in (("cls", "[CLS]"), ("seperator", "[SEP]")):
        content = _content(settings.get(_ROLES[role][0]), role) or token
        if content in tokens:
            keys[f"{role}_token_id"] = tokens.index(content)
    description = description_of(VocabularyArrays(keys, "", str(path)))
    lowercase = bool(settings.get("do_lower_case", True))
    description["normalizer"] |= {
        "lowercase": lowercase,
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
    }
    if is_mpnet:
        texts = {role: _content(settings[name], name) or "" for role, name in _MPNET_ENDS}
        roles = named_roles(tokens, path, texts)
        description = framed(description, roles, "RobertaProcessing")
    vocabulary = Vocabulary("bert", tokens, types, description=description)
    describe_wordpiece(vocabulary, description["model"])
    if not lowercase:
        vocabulary.notes.append("llama.cpp lowers the case of every WordPiece text; its ids will differ")
    return vocabulary


def _from_bpe_files(path: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """From GPT-2's `vocab.json` and `merges.txt`."""
    ids = read_json(path)
    if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
        raise ConversionError(f"{path}: the ids are not 0 to the number of tokens")
    lines = read_text(path.with_name("merges.txt")).split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    known = {"GPT2": "gpt-2", "Qwen2": "qwen2", "": "gpt-2"}
    name = _kind(path.parent, settings)
    if name in BYTE_LEVEL:
        return byte_level_vocabulary(name, sorted(ids, key=ids.__getitem__), merges, settings, path)
    if name not in known:
        raise ConversionError(f"{path.parent}: tokenizer_class {quote(name)} has no tokenizer.json; save one with it")
    tokens = sorted(ids, key=ids.__getitem__)
    special = {_content(settings.get(name), name) for names in _ROLES.values() for name in names} | {"<|endoftext|>"}
    types = [TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens]
    flags = {key: bool(settings[key]) for key in ("add_bos_token", "add_eos_token") if settings.get(key) is not None}
    return Vocabulary("gpt2", tokens, types, known[name], merges=merges, flags=flags)


def _content(token: Any, name: str) -> str | None:
    """A special token's text, from the text itself or an object with `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    if content is not None and not isinstance(content, str):
        raise ConversionError(f"{name}: {quote(token)} is not a token")
    return content


def _name_roles(
    vocabulary: Vocabulary, settings: Mapping[str, Any], specials: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    """Fill in the ids of the special tokens: by their texts, else by the ids in `config.json`."""
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    for role, names in _ROLES.items():
        for name in names:
            content = _content(settings.get(name, specials.get(name)), name)
            identifier = ids.get(content) if content is not None else config.get(f"{name}_id")
            identifiers = identifier if isinstance(identifier, list) else [identifier]
            usable = [i for i in identifiers if isinstance(i, int) and 0 <= i < len(vocabulary.tokens)]
            if usable and role not in vocabulary.roles:
                vocabulary.roles[role] = usable[0]
                if role == "eos":
                    vocabulary.roles.update(zip(("eot", "eom"), usable[1:], strict=False))


def _observe_ends(vocabulary: Vocabulary, settings: Mapping[str, Any]) -> None:
    """See what the tokenizer itself puts around a text, and tell llama.cpp the same."""
    tokenizer = Tokenizer.from_metadata(vocabulary.metadata()) if vocabulary.description is not None else None
    if tokenizer is None:
        return
    bare, full = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    before, after = full[:start], full[start + len(bare) :]
    roles = vocabulary.roles
    vocabulary.flags["add_bos_token"] = bool(before)
    separated = bool(after) and after == [roles.get("seperator")]
    # WordPiece alone ends with a separator in llama.cpp; all others with the end token.
    vocabulary.flags["add_eos_token"] = bool(after) and not (separated and vocabulary.model == "bert")
    if separated:
        vocabulary.flags["add_sep_token"] = True
    if before:
        roles["bos"] = before[-1]
    for name, added in (("add_bos_token", bool(before)), ("add_eos_token", bool(after))):
        if isinstance(settings.get(name), bool) and settings[name] != added:
            verb = "adds" if added else "does not add"
            vocabulary.notes.append(f"tokenizer_config.json says {name}={settings[name]}, tokenizer.json {verb} it")
    if len(before) > 1 or len(after) > 1:
        vocabulary.notes.append("llama.cpp cannot put more than one token before or after a text")
